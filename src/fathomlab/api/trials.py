"""A trial of a store, as scripts and notebooks read it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from fathomlab.base.codec import JsonObject
from fathomlab.base.errors import UserError, did_you_mean, format_value
from fathomlab.base.labels import Levels
from fathomlab.probes import PROBES
from fathomlab.store.records import ConditionRecord, Number, Outcome, ProbeSnapshot, Speed, TrialRecord

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fathomlab.export.trial import Exported

T = TypeVar("T")


class UnknownNameError(UserError, KeyError):
    """A name that a trial does not have. It names the most similar one."""

    __str__ = ValueError.__str__


class Named(dict[str, T]):
    """Values by name. A name that is missing is an error that suggests the most similar one."""

    def __init__(self, kind: str, values: Mapping[str, T]):
        """Copy the values; `kind` is what they are, for the error."""
        super().__init__(values)
        self.kind = kind

    def __missing__(self, name: object) -> T:
        """Raise the error."""
        known = list(self)
        hint = did_you_mean(name, known) if isinstance(name, str) else ""
        text = hint or f" Known: {', '.join(known) or 'none'}."
        raise UnknownNameError("unknown-name", f"no {self.kind} {format_value(name)}.{text}")


Files = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True, repr=False)
class StoredTrial:
    """One trained network: what it was, what was measured, its weights, and its data.

    Attributes:
        record: Everything that the store contains about the trial: options, provenance, probes, files.
        experiment: Name of the experiment in the store; "" if the trial is part of none.
        seed: Seed of the experiment; None if it is not known.
        member: Its condition in that experiment, as the store contains it.
    """

    record: TrialRecord
    experiment: str
    seed: int | None
    member: ConditionRecord

    @property
    def hash(self) -> str:
        """SHA-256 of the resolved options, 64 hexadecimal digits: its name in the store."""
        return self.record.trial

    @property
    def condition(self) -> str:
        """Label of the condition: "residual=true hidden_layers_num=20"."""
        return self.member.label

    @property
    def factors(self) -> Levels:
        """Level of each factor by dotted key."""
        return self.member.factors

    @property
    def role(self) -> str:
        """supervised, or the role of the experiment file: teacher, baseline, distilled, ..."""
        return self.member.role

    @property
    def status(self) -> str:
        """finished, diverged, failed, running, interrupted, waiting, damaged, or outdated."""
        return self.record.status

    @property
    def cause(self) -> str | None:
        """Why it did not finish, or which file is corrupted or outdated; None otherwise."""
        return self.record.cause

    @property
    def config(self) -> JsonObject:
        """The resolved options, nested as in an experiment file: everything that decides the numbers."""
        return self.record.content

    @property
    def metrics(self) -> Mapping[str, Number | None]:
        """Numbers of the result by name: accuracies are fractions, losses nats; None if not finite. Empty without a result."""
        return Named("metric", self.record.metrics)

    @property
    def outcome(self) -> Outcome:
        """Results on the test set in addition to loss and accuracy: calibration, and likeness to the teacher."""
        return self.record.outcome

    @property
    def speed(self) -> Speed | None:
        """Latency and throughput of the trained network on the processor; None if they were not measured."""
        return self.record.speed

    @property
    def curves(self) -> Mapping[str, list[Number | None]]:
        """Name of a metric to its value after each epoch; None if not finite. Includes "epoch", "step", and "lr"."""
        return Named("curve", self.record.curves)

    @property
    def gradients(self) -> dict[str, list[Any]]:
        """Gradient norms as columns of equal length for a data frame; `{}` if they were not measured.

        Columns: `epoch`, `step` (completed before the measurement), `kind` ("weight": dLoss/dW, "activation": dLoss/dh), `layer`
        (in the order of the network), and `norm` (Frobenius; None if not finite).
        """
        rows: list[tuple[Any, ...]] = [
            (snapshot.epoch, snapshot.step, kind, layer, norm)
            for snapshot in self.record.probes.get("gradients", ())
            for kind, column in PROBES["gradients"].columns.items()
            for layer, norm in zip(snapshot.names[column.axis], snapshot.columns[kind], strict=True)
        ]
        names = ("epoch", "step", "kind", "layer", "norm")
        return {name: list(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)} if rows else {}

    @property
    def probes(self) -> Mapping[str, tuple[ProbeSnapshot, ...]]:
        """Name of a probe to what it measured at each snapshot, in order."""
        return Named("probe", self.record.probes)

    def load_model(self, which: Literal["last", "best"] = "last", plugins: Files = ()) -> "nn.Module":
        """The trained network on the CPU, in eval mode.

        Args:
            which: `last` for the weights after the last epoch, which gave `test/accuracy`; `best` for those of the best
                validation epoch, which gave `best/test/accuracy`.
            plugins: The plugin files of the experiment. They are not needed in the process that ran it.

        Returns:
            A module that maps normalized images (n, c, h, w), as `test_data()` returns them, to logits (n, classes).

        Raises:
            UserError: If the trial is not finished, its weights are missing or corrupted, or a plugin is missing or has another
                digest.
        """
        from fathomlab.api import tensors  # imports torch

        return tensors.load_model(self.record, which, _files(plugins))

    def export(
        self, exporter: str, to: str | os.PathLike[str] | None = None, plugins: Files = (), **options: Any
    ) -> "Exported":
        """Export the trained network, as the command `fathomlab export` does.

        Args:
            exporter: onnx or hub.
            to: The file or directory to write; the exporter's default if it is None.
            plugins: The plugin files of the experiment. They are not needed in the process that ran it.
            options: Those of the exporter, such as `preprocess=True`.

        Returns:
            The paths of the files, their size, and the measured differences.

        Raises:
            UserError: If there is no such exporter or option, its libraries are not installed, the trial is not finished, the
                target exists, or the network cannot be exported or computes something else. Nothing is written then.
        """
        from fathomlab.api.exporting import export_trial

        root = self.record.folder.parents[1]
        return export_trial(exporter, self.hash, to, root, _files(plugins), **options)

    def test_data(self) -> "tuple[Tensor, Tensor]":
        """The test set: images (n, c, h, w), normalized as in training, and labels (n,), int64, in the order of the files.

        Raises:
            UserError: If the trial's record is corrupted, the dataset is not available, or its files differ from those that the
                trial read.
        """
        return self._data("test")

    def validation_data(self) -> "tuple[Tensor, Tensor]":
        """The training images that were held out, as in `test_data`; they depend on the seed."""
        return self._data("validation")

    def train_data(self) -> "tuple[Tensor, Tensor]":
        """The images that the network was trained on, as in `test_data`, without augmentation."""
        return self._data("train")

    def _data(self, part: str) -> "tuple[Tensor, Tensor]":
        from fathomlab.api import tensors  # imports torch

        return tensors.examples(self.record, part)

    def __hash__(self) -> int:
        """As its name in the store."""
        return hash(self.hash)

    def __repr__(self) -> str:
        """Hash, condition, seed, and outcome in one line."""
        accuracy = self.metrics.get("test/accuracy")
        result = self.status if accuracy is None else f"{self.status}, test accuracy {100 * accuracy:.2f}%"
        seed = [] if self.seed is None else [f"seed={self.seed}"]
        name = " ".join([self.condition or "no condition", *seed])
        return f"<trial {self.hash[:12]} {name if len(name) <= 120 else name[:117] + '...'}: {result}>"


def _files(plugins: Files) -> list[str]:
    names = [plugins] if isinstance(plugins, str | os.PathLike) else plugins
    return [os.fspath(name) for name in names]
