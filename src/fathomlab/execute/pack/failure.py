"""Records failed trials with their cause. Without torch, because the coordinator uses it."""

from fathomlab.execute.events import Failed
from fathomlab.plan import Trial
from fathomlab.prepare import machine
from fathomlab.prepare.jobs import Job
from fathomlab.store.checkpoints import checkpoint_steps
from fathomlab.store.directory import TrialFolder
from fathomlab.store.leases import Lease
from fathomlab.store.records import TERMINAL_STATUSES, Result
from fathomlab.store.trial_files import trial_status


def record_failure(trial: Trial, job: Job, cause: str, lease: Lease | None = None) -> Failed | None:
    """Write a failed result, unless the trial has finished meanwhile."""
    if trial_status(job.root, trial.hash) in TERMINAL_STATUSES:
        return None
    folder = TrialFolder(job.root, trial.hash, lease)
    if not checkpoint_steps(folder.path):  # checkpoints stay for the next run
        folder.create(trial.content, job.logging)
    folder.write_provenance(machine.collect_provenance())
    parameters = trial.recipe.num_trained
    folder.finish(Result("failed", cause, parameters, epochs=0, steps=0, seconds=0.0))
    return Failed(trial.hash, cause)
