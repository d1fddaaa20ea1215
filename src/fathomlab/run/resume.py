"""What interrupted trials need to go on: the packs in which they began, and the environment. Torch only to ask for a GPU."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from fathomlab.base.identity import canonical_json
from fathomlab.base.problems import UserError
from fathomlab.plan import Trial
from fathomlab.run.environment import drift, environment
from fathomlab.store.states import newest_about, retire, state_steps


def newest_step(runs: Path, trial: Trial) -> int:
    """The step of the newest checkpoint of a trial; 0 without one."""
    return next(iter(state_steps(runs / "trials" / trial.hash)), 0)


def begun_packs(runs: Path, trials: Sequence[Trial]) -> tuple[list[list[Trial]], list[Trial]]:
    """The packs of the trials that have a checkpoint, whole and in their order, and the trials that have none.

    A pack may hold trials that have finished since: they keep their places, so that the others keep their bits.
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
    """Remove the states of finished trials that a killed run has left, unless a member of their pack still needs them.

    Args:
        runs: The store.
        trials: Finished ones.
        done: Whether the trial of a hash has its result.
    """
    for trial in trials:
        folder = runs / "trials" / trial.hash
        about = newest_about(folder) if state_steps(folder) else None
        if about is not None and all(done(member) for member in about.get("members", ())):
            retire(folder, [])


def check_drift(runs: Path, trials: Sequence[Trial], device: str) -> None:
    """Refuse to go on with trials whose bits would not be those of an uninterrupted run.

    Raises:
        UserError: A checkpoint was written by another torch, processor, device or code.
    """
    begun = [(trial, about) for trial in trials if (about := newest_about(runs / "trials" / trial.hash))]
    now = environment(device, gpu_name() if begun and device == "cuda" else None)
    for trial, about in begun:
        found = drift(about.get("environment", now), now)
        if found:
            raise UserError(
                "environment-changed",
                f"trial {trial.hash[:12]} stopped at step {about.get('step')} in another environment; different are: "
                f"{', '.join(found)}. Its numbers would not be those of an uninterrupted run. To go on all the same, "
                "recorded with the trial: --allow-drift. To begin such trials anew: fathomlab store prune --unfinished",
            )


def gpu_name() -> str:
    """What the CUDA device is called; loads torch."""
    import torch

    return torch.cuda.get_device_name()


def _trial(runs: Path, hash_: str) -> Trial | None:
    try:
        about = json.loads((runs / "trials" / hash_ / "trial.json").read_text(encoding="utf-8"))
        trial = Trial(canonical_json(about["content"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return trial if trial.hash == hash_ else None
