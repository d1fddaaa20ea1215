"""Checkpoints of trials in training: one file per trial and step; the newest two are retained.

An old checkpoint is deleted only after the new one has been verified for every trial of the pack, so a valid checkpoint exists
at any time after the first.
"""

import contextlib
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from fathomlab.store.sealed import Damaged, read_sealed

NAME = re.compile(r"state-(\d{9,})\.sealed")
KEPT = 2


def state_path(folder: Path, step: int) -> Path:
    """The path of a trial's checkpoint at a step."""
    return folder / f"state-{step:09d}.sealed"


def state_steps(folder: Path) -> list[int]:
    """The steps of a trial's checkpoints, newest first; nothing is verified."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return sorted((int(found[1]) for name in names if (found := NAME.fullmatch(name))), reverse=True)


def newest_about(folder: Path) -> dict[str, Any] | None:
    """The metadata of the newest valid checkpoint; None without one. Corrupted ones are left in place."""
    for step in state_steps(folder):
        with contextlib.suppress(Damaged):
            return read_sealed(state_path(folder, step))[0]
    return None


def verified_steps(folder: Path) -> tuple[dict[int, dict[str, Any]], list[str]]:
    """The steps of valid checkpoints with their metadata, and the names of corrupted ones.

    A corrupted checkpoint is renamed to `*.corrupt`, never deleted.
    """
    found, corrupt = {}, []
    for step in state_steps(folder):
        path = state_path(folder, step)
        try:
            found[step], _ = read_sealed(path)
        except Damaged:
            with contextlib.suppress(OSError):
                path.rename(path.with_name(f"{path.name}.corrupt"))
            corrupt.append(path.name)
    return found, corrupt


def retire(folder: Path, keep: Collection[int]) -> None:
    """Delete the checkpoints of a trial except at the steps in `keep`."""
    for step in state_steps(folder):
        if step not in keep:
            with contextlib.suppress(OSError):
                state_path(folder, step).unlink()
