"""Trials and experiments in the store, as values. No torch."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fathomlab.base.labels import dotted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class TrialRecord:
    """Everything that the store holds about one trial.

    Attributes:
        trial: Its hash (64 hexadecimal digits).
        content: Its resolved options, nested; `{}` if corrupted.
        status: finished, failed, diverged, running (no result yet), interrupted (no result, and no process trains into this
            store), waiting (no directory yet), or damaged (a file is corrupted).
        cause: Why it did not finish, or which file is corrupted; None otherwise.
        metrics: The numbers of the result; accuracies are fractions, losses nats.
        curves: Name of a metric to its value per epoch, None if not finite; includes "epoch" and "step".
        gradients: One mapping per snapshot of the gradient probe, in order.
        probes: Name of a probe to one mapping per snapshot, in order; includes gradients.
        outcome: Results on the test set in addition to accuracy: predicted classes, calibration, agreement with a teacher.
        provenance: Versions, hardware, commit, data; `{}` if not recorded yet.
    """

    trial: str
    content: Mapping[str, Any]
    status: str
    cause: str | None
    parameters: int | None
    metrics: Mapping[str, float | None]
    curves: Mapping[str, list[float | None]]
    gradients: list[dict[str, Any]]
    provenance: Mapping[str, Any]
    seconds: float | None
    folder: Path
    probes: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict[str, list[dict[str, Any]]])
    outcome: Mapping[str, Any] = field(default_factory=dict[str, Any])
    files: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def correct(self) -> "npt.NDArray[np.bool_] | None":
        """Whether the weights after the last epoch classify each test image correctly, in the test set's order.

        None if this is not stored or is corrupted.
        """
        import numpy as np

        about, examples = self.files.get("correct.bin"), self.outcome.get("examples")
        try:
            packed = (self.folder / "correct.bin").read_bytes()
        except OSError:
            return None
        if not isinstance(about, dict) or hashlib.sha256(packed).hexdigest() != cast(dict[str, Any], about).get(
            "sha256"
        ):
            return None
        return np.unpackbits(np.frombuffer(packed, np.uint8), count=int(examples or 0)).astype(bool)


@dataclass(frozen=True)
class ConditionRecord:
    """One level of each factor, and its trials as (seed, hash)."""

    label: str
    role: str
    factors: Mapping[str, Any]
    depth: int | None
    trials: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class ExperimentRecord:
    """One experiment as stored; `cause` names a corrupted file, None if there is none."""

    name: str
    folder: Path
    cause: str | None = None
    title: str = ""
    question: str = ""
    source: str = ""
    yaml: str = ""
    overrides: tuple[str, ...] = ()
    quick: bool = False
    resolved: Mapping[str, Any] = field(default_factory=dict[str, Any])
    factors: tuple[str, ...] = ()
    headline: str = "last"
    seeds: tuple[int, ...] = ()
    logging: Mapping[str, Any] = field(default_factory=dict[str, Any])
    conditions: tuple[ConditionRecord, ...] = ()
    claims: tuple[Any, ...] = ()
    claims_hash: str = ""
    claims_late: bool = False
    created: str = ""
    seconds: float | None = None
    verdicts: tuple[Mapping[str, Any], ...] = ()
    looks: tuple[Mapping[str, Any], ...] = ()

    @property
    def fixed(self) -> dict[str, Any]:
        """The options that all trials share, by dotted key."""
        return dotted({key: value for key, value in self.resolved.items() if key not in ("factors", "seeds")})
