"""States of trials in training, from which they can go on: one sealed file a trial and step, the newest two kept.

A state is never the only copy of what it replaces: the old one goes only after the new one has been read back for every
trial of the pack, so there is a verified state at any moment after the first.
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
    """Where a trial's state at a step is."""
    return folder / f"state-{step:09d}.sealed"


def state_steps(folder: Path) -> list[int]:
    """The steps that a trial has states of, newest first; nothing is verified."""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return sorted((int(found[1]) for name in names if (found := NAME.fullmatch(name))), reverse=True)


def newest_about(folder: Path) -> dict[str, Any] | None:
    """What the newest whole state says about itself; None without one. A damaged one stays where it is."""
    for step in state_steps(folder):
        with contextlib.suppress(Damaged):
            return read_sealed(state_path(folder, step))[0]
    return None


def verified_steps(folder: Path) -> tuple[dict[int, dict[str, Any]], list[str]]:
    """The steps whose states are whole, with what they say about themselves, and the names of those that are not.

    A damaged one is renamed `*.corrupt`, never deleted.
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
    """Remove the states of a trial at other steps than those to keep."""
    for step in state_steps(folder):
        if step not in keep:
            with contextlib.suppress(OSError):
                state_path(folder, step).unlink()
