"""Records failed trials with their cause. No torch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fathomlab.plan import Trial
from fathomlab.run import provenance
from fathomlab.store.checkpoints import checkpoint_steps
from fathomlab.store.directory import TrialFolder
from fathomlab.store.reading import trial_status
from fathomlab.store.records import TERMINAL_STATUSES


def record_failure(
    trial: Trial,
    root: Path,
    cause: str,
    emit: Callable[[Mapping[str, Any]], None],
    logging: Mapping[str, Any] | None = None,
) -> None:
    """Write a failed result, unless the trial has finished meanwhile, and emit it as an event."""
    if trial_status(root, trial.hash) in TERMINAL_STATUSES:
        return
    folder = TrialFolder(root, trial.hash)
    if not checkpoint_steps(folder.path):  # checkpoints stay for the next run
        folder.create(trial.content, logging)
    folder.write("provenance.json", provenance.machine())
    facts = {"parameters": trial.recipe.architecture.num_params, "epochs": 0, "steps": 0, "seconds": 0.0}
    folder.finish("failed", cause, {}, facts)
    emit({"event": "finished", "trial": trial.hash, "status": "failed", "cause": cause, "seconds": 0.0})
