"""Checkpoints of trials in training: one file per trial and step; the newest two are retained.

An old checkpoint is deleted only after the new one has been verified for every trial of the pack, so a valid checkpoint exists
at any time after the first.
"""

import contextlib
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from fathomlab.base.codec import JsonObject, from_plain
from fathomlab.store.checksums import CorruptFileError, read_checked
from fathomlab.store.provenance import Environment, Resumption
from fathomlab.store.records import Number
from fathomlab.store.validation import as_int

NAME = re.compile(r"state-(\d{9,})\.sealed")
MAX_TO_KEEP = 2
SCHEMA = 3


@dataclass(frozen=True)
class Checkpoint:
    """The metadata of a checkpoint: what a resume must match, and what it continues.

    Attributes:
        schema: Version of these fields. A checkpoint of another version is not resumed.
        trial: Hash of the trial.
        members: Hashes of the trials of its pack, by slot.
        epoch: Completed epochs.
        step: Completed steps.
        memory: State of the learning rate schedule.
        backend: Name of the backend that computes the steps.
        precision: Number format of training.
        environment: What must be equal for the resumed trial to have the same bits.
        metrics: Metrics of the last completed epoch.
        logs: Name of each log to its number of lines.
        seconds: Training time so far (s).
        resumed: Earlier resumptions, in order.
    """

    schema: int
    step: int = 0
    trial: str = ""
    members: tuple[str, ...] = ()
    epoch: int = 0
    memory: Mapping[str, Number] = field(default_factory=dict[str, Number])
    backend: str = ""
    precision: str = ""
    environment: Environment = field(default_factory=dict[str, str | int | None])
    metrics: Mapping[str, Number | None] = field(default_factory=dict[str, Number | None])
    logs: Mapping[str, int] = field(default_factory=dict[str, int])
    seconds: Number = 0.0
    resumed: tuple[Resumption, ...] = ()


def read_checkpoint(path: Path) -> Checkpoint:
    """The metadata of a checkpoint, after verifying the file.

    Raises:
        CorruptFileError: If the file is missing, truncated, or changed.
    """
    return parse_checkpoint(read_checked(path)[0])


def parse_checkpoint(metadata: JsonObject) -> Checkpoint:
    """Metadata as a value. Of another schema, only step and environment are used: they tell which code can resume it."""
    with contextlib.suppress(ValueError, RecursionError):
        if metadata.get("schema") == SCHEMA:
            return from_plain(Checkpoint, metadata)
    step, environment = as_int(metadata.get("step")) or 0, metadata.get("environment")
    return Checkpoint(0, step, environment=cast(Environment, environment) if isinstance(environment, dict) else {})


def checkpoint_path(folder: Path, step: int) -> Path:
    """The path of a trial's checkpoint at a step."""
    return folder / f"state-{step:09d}.sealed"


def checkpoint_steps(folder: Path) -> list[int]:
    """The steps of a trial's checkpoints, newest first; nothing is verified."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return sorted((int(match[1]) for name in names if (match := NAME.fullmatch(name))), reverse=True)


def latest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest valid checkpoint; None without one. Corrupted ones are left in place."""
    for step in checkpoint_steps(folder):
        with contextlib.suppress(CorruptFileError):
            return read_checkpoint(checkpoint_path(folder, step))
    return None


def valid_checkpoints(folder: Path) -> tuple[dict[int, Checkpoint], list[str]]:
    """The steps of valid checkpoints with their metadata, newest first, and the names of corrupted ones.

    A corrupted checkpoint is renamed to `*.corrupt`, never deleted.
    """
    valid: dict[int, Checkpoint] = {}
    corrupt: list[str] = []
    for step in checkpoint_steps(folder):
        path = checkpoint_path(folder, step)
        try:
            valid[step] = read_checkpoint(path)
        except CorruptFileError:
            with contextlib.suppress(OSError):
                path.rename(path.with_name(f"{path.name}.corrupt"))
            corrupt.append(path.name)
    return valid, corrupt


def delete_checkpoints(folder: Path, keep: Collection[int]) -> None:
    """Delete the checkpoints of a trial except at the steps in `keep`."""
    for step in checkpoint_steps(folder):
        if step not in keep:
            with contextlib.suppress(OSError):
                checkpoint_path(folder, step).unlink()
