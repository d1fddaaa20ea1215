"""One look at the store before a run or a plan: what each trial has. No torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fathomlab.config.components import Components
from fathomlab.plan import Trial, parent_hashes, read_trial
from fathomlab.store.checkpoints import Checkpoint, latest_checkpoint
from fathomlab.store.datasets import find_dataset
from fathomlab.store.reading import Store
from fathomlab.store.records import TERMINAL_STATUSES, ExperimentRecord, Number
from fathomlab.store.trial_files import TrialFiles


@dataclass(frozen=True)
class TrialEntry:
    """What the store has of one trial.

    Attributes:
        trial: The trial; None if its options are missing or corrupted and no plan contains it.
        status: As in `TrialRecord`, except that a trial without result is always running.
        seconds: Stored training time (s).
        checkpoint: The newest valid checkpoint.
    """

    trial: Trial | None
    status: str
    seconds: Number | None = None
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True)
class Inventory:
    """What the store has of the trials of a plan, of the other members of their packs, and of all experiments.

    Attributes:
        root: The store.
        trials: Hash to what the store has.
        experiments: Name to record.
    """

    root: Path
    trials: Mapping[str, TrialEntry]
    experiments: Mapping[str, ExperimentRecord]

    def is_finished(self, trial: str) -> bool:
        """Whether the trial with this hash has its outcome: it finished or diverged."""
        return trial in self.trials and self.trials[trial].status in TERMINAL_STATUSES

    def pending(self, trials: Iterable[Trial]) -> list[Trial]:
        """The trials to train, in their order. Failed and corrupted trials are trained again; diverged ones are not."""
        return [trial for trial in trials if not self.is_finished(trial.hash)]

    def checkpoint(self, trial: Trial) -> Checkpoint | None:
        """The newest valid checkpoint of a trial."""
        return self.trials[trial.hash].checkpoint if trial.hash in self.trials else None


def take_inventory(root: Path, trials: Sequence[Trial], components: Components | None = None) -> Inventory:
    """Look at each trial and each experiment once.

    Hold the store's lock if the answer must stay true. For a trial with a result, every small file is read once and compared with
    its SHA-256, and the lines of logs with their checksums; logs are not parsed. Without a result only `trial.json` is verified:
    logs are verified when training resumes. Checkpoints are hashed completely, because only a valid one is resumed. Weights are
    verified when they are loaded, for example by a student.

    Args:
        root: The store.
        trials: The trials of a plan.
        components: Those of the plan. Without the plugins of a stored trial, the trial cannot be read.
    """
    entries = {trial.hash: _look(root, trial.hash, trial) for trial in trials}
    members = {member for entry in entries.values() if entry.checkpoint for member in entry.checkpoint.members}
    entries |= {member: _look(root, member, None, components) for member in sorted(members - entries.keys())}
    return Inventory(root, entries, {record.name: record for record in Store(root).experiments()})


def _look(root: Path, name: str, trial: Trial | None, components: Components | None = None) -> TrialEntry:
    files = TrialFiles(root, name)
    status = files.verified_status()
    if trial is None:  # a member of a pack that began in another experiment
        return TrialEntry(_stored_trial(files, name, components or Components()), status)
    seconds = files.result.seconds if files.result else None
    return TrialEntry(trial, status, seconds, latest_checkpoint(files.folder) if files.exists else None)


def _stored_trial(files: TrialFiles, name: str, components: Components) -> Trial | None:
    """The trial in a directory with its parents; None if one of them is missing, corrupted, or of another version."""
    try:
        named = [parent for _, parent in parent_hashes(files.content)]
        parents = [_stored_trial(TrialFiles(files.root, parent), parent, components) for parent in named]
        known = [parent for parent in parents if parent is not None]
        trial = read_trial(files.content, known, components, find_dataset(files.root, files.content))
    except (ValueError, RecursionError):
        return None
    return trial if trial.hash == name else None
