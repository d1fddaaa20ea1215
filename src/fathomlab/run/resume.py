"""What interrupted trials need to resume: their packs and their environment. Imports torch only to describe the latter."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from fathomlab.base.problems import UserError
from fathomlab.plan import Trial, read_trial
from fathomlab.run.environment import drift, environment
from fathomlab.store.states import newest_about, retire, state_steps


def newest_step(runs: Path, trial: Trial) -> int:
    """The step of the newest checkpoint of a trial; 0 without one."""
    return next(iter(state_steps(runs / "trials" / trial.hash)), 0)


def begun_packs(runs: Path, trials: Sequence[Trial]) -> tuple[list[list[Trial]], list[Trial]]:
    """Return the complete packs of the trials that have a checkpoint, and the trials that have none.

    A pack may contain trials that have finished since. They keep their slots, so that the results of the others stay the same.
    """
    found: dict[tuple[str, ...], list[Trial]] = {}
    fresh, taken = [], set[str]()
    for trial in trials:
        if trial.hash in taken:
            continue
        about = newest_about(runs / "trials" / trial.hash)
        members = tuple(about.get("members", ())) if about else ()  # none in a state of another schema
        pack = [_trial(runs, member) for member in members]
        if not pack or None in pack or taken & set(members):
            fresh.append(trial)
            continue
        found[members] = [member for member in pack if member is not None]
        taken |= set(members)
    return list(found.values()), fresh


def clear_finished(runs: Path, trials: Sequence[Trial], done: Callable[[str], bool]) -> None:
    """Remove stale checkpoints of finished trials, except those that an unfinished trial of the same pack needs.

    Args:
        runs: The store.
        trials: Finished trials.
        done: Whether the trial with this hash has a result.
    """
    for trial in trials:
        folder = runs / "trials" / trial.hash
        about = newest_about(folder) if state_steps(folder) else None
        if about is not None and all(done(member) for member in about.get("members", ())):
            retire(folder, [])


def check_drift(runs: Path, trials: Sequence[Trial], device: str) -> None:
    """Check that resumed trials will end with the bits of an uninterrupted run.

    Raises:
        UserError: If a checkpoint was written by another torch, other kernels, another device, or other code.
    """
    begun = [(trial, about) for trial in trials if (about := newest_about(runs / "trials" / trial.hash))]
    if not begun:
        return
    now = environment(device, gpu_name() if device == "cuda" else None, kernels())
    for trial, about in begun:
        found = drift(about.get("environment", now), now)
        if found:
            raise UserError(
                "environment-changed",
                f"Cannot resume trial {trial.hash[:12]} at step {about.get('step')}: the environment changed "
                f"({', '.join(found)}). Use --allow-drift to resume anyway, or `fathomlab store prune --unfinished` to restart "
                "from scratch.",
            )


def gpu_name() -> str:
    """The name of the CUDA device. Imports torch."""
    import torch

    return torch.cuda.get_device_name()


def kernels() -> str:
    """The vector kernels that torch selects on this processor. Imports torch."""
    import torch

    return torch.backends.cpu.get_cpu_capability()


def _trial(runs: Path, hash_: str) -> Trial | None:
    try:
        about = json.loads((runs / "trials" / hash_ / "trial.json").read_text(encoding="utf-8"))
        trial = read_trial(about["content"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return trial if trial.hash == hash_ else None
