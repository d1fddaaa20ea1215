"""Records failed trials with their cause. Without torch, because the coordinator uses it."""

from fathomlab.base.codec import to_plain
from fathomlab.execute.events import Failed
from fathomlab.plan import Trial
from fathomlab.prepare import machine
from fathomlab.prepare.jobs import Job
from fathomlab.store.checkpoints import checkpoint_steps
from fathomlab.store.directory import TrialFolder
from fathomlab.store.reading import trial_status
from fathomlab.store.records import TERMINAL_STATUSES


def record_failure(trial: Trial, job: Job, cause: str) -> Failed | None:
    """Write a failed result, unless the trial has finished meanwhile."""
    if trial_status(job.root, trial.hash) in TERMINAL_STATUSES:
        return None
    folder = TrialFolder(job.root, trial.hash)
    if not checkpoint_steps(folder.path):  # checkpoints stay for the next run
        folder.create(trial.content, to_plain(job.logging))
    folder.write("provenance.json", machine.collect_provenance())
    facts = {"parameters": trial.recipe.architecture.num_params, "epochs": 0, "steps": 0, "seconds": 0.0}
    folder.finish("failed", cause, {}, facts)
    return Failed(trial.hash, cause)
