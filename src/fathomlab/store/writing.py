"""Writes trial and experiment folders: the files are the truth, and `result.json`, written last, makes a trial finished."""

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fathomlab.base.files import atomic_write
from fathomlab.base.problems import UserError

FORMAT = 1


def open_store(root: Path) -> Path:
    """The store's folder, made where it is missing.

    Raises:
        UserError: It cannot be written.
    """
    try:
        (root / "trials").mkdir(parents=True, exist_ok=True)
        (root / "experiments").mkdir(exist_ok=True)
        probe = root / ".writable"
        atomic_write(probe, b"")
        probe.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"{root}: results cannot be written there: {reason}. Choose another folder with --runs."
        ) from None
    return root


class TrialFolder:
    """The folder of one trial while it is trained."""

    def __init__(self, root: Path, trial: str, content: Mapping[str, Any], logging: Mapping[str, Any] | None = None):
        """Begin `trial` anew: what an attempt that did not finish has left is removed.

        `logging` is kept beside the content for exporters; it is no part of what the trial is.
        """
        self.trial = trial
        self.path = root / "trials" / trial
        if self.path.exists():
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True)
        self.write("trial.json", {"format": FORMAT, "trial": trial, "content": content, "logging": logging or {}})

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Write one JSON document, whole or not at all."""
        atomic_write(self.path / name, json.dumps(finite(value), indent=1) + "\n")

    def append(self, name: str, record: Mapping[str, Any]) -> None:
        """Add one line to a log; a torn last line is dropped by the reader."""
        with open(self.path / name, "a", encoding="utf-8") as file:
            file.write(json.dumps(finite(record)) + "\n")

    def finish(
        self, status: str, cause: str | None, metrics: Mapping[str, Any], facts: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Write the result, last of all files; returns it."""
        result = {
            "format": FORMAT,
            "trial": self.trial,
            "status": status,
            "cause": cause,
            **facts,
            "metrics": dict(metrics),
        }
        self.write("result.json", result)
        return result


def write_experiment(root: Path, name: str, record: Mapping[str, Any]) -> Path:
    """Write an experiment's record; returns its folder."""
    folder = root / "experiments" / name
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(
        folder / "experiment.json", json.dumps(finite({"format": FORMAT, "name": name, **record}), indent=1) + "\n"
    )
    return folder


def finite(value: Any) -> Any:
    """`value` with NaN and infinities as None, which JSON can say."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
