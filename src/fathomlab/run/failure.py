"""Records failed trials with their cause. No torch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fathomlab.plan import Trial
from fathomlab.run import provenance
from fathomlab.store.reading import Store
from fathomlab.store.states import state_steps
from fathomlab.store.writing import TrialFolder


def record_failure(
    trial: Trial,
    root: Path,
    cause: str,
    emit: Callable[[Mapping[str, Any]], None],
    logging: Mapping[str, Any] | None = None,
) -> None:
    """Write a failed result, unless the trial has finished meanwhile, and emit it as an event."""
    if Store(root).trial(trial.hash).status in ("finished", "diverged"):
        return
    folder = TrialFolder(root, trial.hash)
    if not state_steps(folder.path):  # checkpoints stay for the next run
        folder.begin(trial.content, logging)
    folder.write("provenance.json", provenance.machine())
    facts = {"parameters": trial.recipe.architecture.numel, "epochs": 0, "steps": 0, "seconds": 0.0}
    folder.finish("failed", cause, {}, facts)
    emit({"event": "finished", "trial": trial.hash, "status": "failed", "cause": cause, "seconds": 0.0})
