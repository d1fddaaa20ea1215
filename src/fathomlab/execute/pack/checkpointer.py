"""Stores logs, checkpoints, weights, and results of a pack so that a crash loses nothing.

Order matters. A checkpoint is written only after its logs are durable, results only after the weights of every trial of the
pack, and old checkpoints are removed only after the new ones of all trials have been read back.
"""

import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from fathomlab.base.clock import RunningClock
from fathomlab.base.codec import JsonObject, to_plain
from fathomlab.engine.state import load_replica_state_dict, replica_state_dict
from fathomlab.engine.training import PackTrainer
from fathomlab.execute.events import Emit, Saved, Warned
from fathomlab.plan import Trial
from fathomlab.prepare.jobs import Job
from fathomlab.store.checkpoints import (
    MAX_TO_KEEP,
    SCHEMA,
    Checkpoint,
    checkpoint_path,
    checkpoint_steps,
    delete_checkpoints,
    valid_checkpoints,
)
from fathomlab.store.checksums import CorruptFileError, nan_to_none
from fathomlab.store.directory import TrialFolder
from fathomlab.store.leases import Lease
from fathomlab.store.provenance import Environment, Resumption
from fathomlab.store.records import TERMINAL_STATUSES
from fathomlab.store.trial_files import trial_status
from fathomlab.store.weights import load_checkpoint, save_checked

T = TypeVar("T")
INTERVAL_SECONDS = 30.0
MAX_OVERHEAD = 0.01
ASSUMED_COST = 0.02
MAX_WRITERS = 8


@dataclass
class Replica:
    """A trial of the pack during training.

    Attributes:
        done: Whether its result is in the store. It then only keeps its slot, because the others started with it.
        metrics: Metrics of the last epoch.
        diverged: Step of its first loss that was not finite; 0 if there is none.
    """

    trial: Trial
    folder: TrialFolder
    done: bool = False
    metrics: dict[str, float | None] = field(default_factory=dict[str, float | None])
    diverged: int = 0


class Checkpointer:
    """The directories of a pack's trials."""

    def __init__(self, job: Job, environment: Environment, emit: Emit, lease: Lease | None = None):
        """Read the checkpoints of the trials without a result. Corrupted ones are renamed, with a warning."""
        self.job, self.environment, self.emit = job, environment, emit
        trained = [trial_status(job.root, trial.hash) in TERMINAL_STATUSES for trial in job.trials]
        self.replicas = [
            Replica(trial, TrialFolder(job.root, trial.hash, lease), done)
            for trial, done in zip(job.trials, trained, strict=True)
        ]
        self.clock, self.saved = RunningClock(), time.monotonic()
        self.cost = ASSUMED_COST * (1 + len(self.replicas) / 4)
        self.seconds_before_resume, self.write_failed = 0.0, False
        self.backend = job.backend
        self.resumed: tuple[Resumption, ...] = ()
        self._checkpoints: dict[int, dict[int, Checkpoint]] = {}
        for slot, replica in self.active:
            self._checkpoints[slot], corrupt = valid_checkpoints(replica.folder.path)
            for name in corrupt:
                self.warn(f"trial {replica.trial.hash[:12]}: corrupted checkpoint {name} renamed to {name}.corrupt")

    @property
    def active(self) -> list[tuple[int, Replica]]:
        """Slot and replica of the trials that have no result yet."""
        return [(slot, replica) for slot, replica in enumerate(self.replicas) if not replica.done]

    @property
    def seconds(self) -> float:
        """Time of the pack (s), including time before interruptions, divided by its trials.

        What waits for the disk since the last step counts, however long it takes.
        """
        return self.seconds_before_resume + self.clock.seconds() / len(self.replicas)

    def map_active(self, write: Callable[[int, Replica], T]) -> list[T]:
        """Call `write` with slot and replica of each trial without a result, in parallel: syncing eight files takes hardly
        longer than syncing one.

        Raises:
            OSError: The first error of any call, after all calls have ended.
        """
        with ThreadPoolExecutor(MAX_WRITERS) as pool:
            return list(pool.map(lambda pair: write(*pair), self.active))

    @property
    def newest(self) -> Checkpoint | None:
        """A checkpoint whose backend and precision training must continue with; None without one of this schema."""
        latest = next((next(iter(steps.values())) for steps in self._checkpoints.values() if steps), None)
        return latest if latest and latest.schema == SCHEMA else None

    def load(self, training: PackTrainer, backend: str) -> None:
        """Resume from the newest step for which every unfinished trial has an intact checkpoint, or start from scratch.

        Args:
            training: The pack before its first step.
            backend: The backend that computes the steps from here on.
        """
        saved, self.backend = self._checkpoints, backend
        if backend != "native":  # a compiler that is not used may change
            self.environment = {key: value for key, value in self.environment.items() if key != "native"}
        self.clock.seconds()  # a compiler may have run in another process
        numeric = backend, training.shared_recipe.precision
        common = set.intersection(*(set(steps) for steps in saved.values())) if saved else set[int]()
        for step in sorted(common, reverse=True):
            checkpoints = {slot: steps[step] for slot, steps in saved.items()}
            if self._is_consistent(checkpoints, numeric):
                self._resume(training, step, checkpoints)
                return
        if any(saved.values()):
            count = f"{len(saved)} trials restart" if len(saved) > 1 else "1 trial restarts"
            self.warn(f"{count} from scratch: no valid common checkpoint of this version.")
        for _, replica in self.active:
            replica.folder.create(replica.trial.content, self.job.logging)

    def _is_consistent(self, checkpoints: Mapping[int, Checkpoint], numeric: tuple[str, str]) -> bool:
        """Whether checkpoints of one step, one per slot, are consistent with each other and with intact logs.

        A step has two checkpoints if one was written during the evaluation at the end of its epoch; their epochs differ.
        """
        return (
            all(
                saved.schema == SCHEMA and (saved.backend, saved.precision) == numeric for saved in checkpoints.values()
            )
            and len({saved.epoch for saved in checkpoints.values()}) == 1
            and all(self.replicas[slot].folder.has_lines(saved.logs) for slot, saved in checkpoints.items())
        )

    def _resume(self, training: PackTrainer, step: int, checkpoints: Mapping[int, Checkpoint]) -> None:
        state, first = training.state, next(iter(checkpoints.values()))
        state.step, state.epoch = step, first.epoch
        for slot, replica in enumerate(self.replicas):
            path = replica.folder.path
            try:
                tensors, saved = load_checkpoint(checkpoint_path(path, step))
            except CorruptFileError:
                if replica.done:  # it only keeps its slot
                    continue
                raise
            load_replica_state_dict(state, slot, tensors)
            state.memories[slot] = dict(saved.memory)
            bad = int(state.diverged_at_step[slot])
            if bad <= state.epoch * training.steps_per_epoch:  # otherwise it diverged in the current epoch
                replica.diverged = bad
            if not replica.done:
                replica.folder.resume(saved.logs)
                replica.metrics = dict(saved.metrics)
                delete_checkpoints(path, [other for other in checkpoint_steps(path) if other <= step])
                self.seconds_before_resume = max(self.seconds_before_resume, saved.seconds)
        self.resumed = (*first.resumed, Resumption(step, first.environment, first.members))

    def warn(self, text: str) -> None:
        """Show one line to the user."""
        self.emit(Warned(text))

    def due(self, ends_epoch: bool) -> bool:
        """Whether to save now: at the end of an epoch or after 30 s, if saving takes at most 1% of the time. Call it per step."""
        self.clock.tick()
        since = time.monotonic() - self.saved
        if self.job.checkpoint_seconds is not None:
            return since >= self.job.checkpoint_seconds
        return since >= max(self.cost / MAX_OVERHEAD, 0.0 if ends_epoch else INTERVAL_SECONDS)

    def save(self, training: PackTrainer) -> bool:
        """Write a checkpoint of every unfinished trial; return False if writing failed. Older checkpoints then stay."""
        started = time.monotonic()
        try:
            self.map_active(lambda slot, replica: self._save(training, slot, replica))
        except (OSError, CorruptFileError) as error:
            self._warn_write_failed(error)
            return False
        finally:
            self.saved = time.monotonic()
            self.cost = self.saved - started
            self.clock.seconds()  # a slow disk is no suspension
        self.write_failed = False
        for _, replica in self.active:
            delete_checkpoints(replica.folder.path, checkpoint_steps(replica.folder.path)[:MAX_TO_KEEP])
        self.emit(Saved(tuple(replica.trial.hash for _, replica in self.active), training.state.step))
        return True

    def _save(self, training: PackTrainer, slot: int, replica: Replica) -> None:
        state = training.state
        replica.folder.flush()
        checkpoint = Checkpoint(
            schema=SCHEMA,
            step=state.step,
            trial=replica.trial.hash,
            members=tuple(member.trial.hash for member in self.replicas),
            epoch=state.epoch,
            memory=state.memories[slot],
            backend=self.backend,
            precision=training.shared_recipe.precision,
            environment=self.environment,
            metrics=nan_to_none(replica.metrics),
            logs=replica.folder.lines,
            seconds=self.seconds,
            resumed=self.resumed,
        )
        path, tensors = checkpoint_path(replica.folder.path, state.step), replica_state_dict(state, slot)
        save_checked(path, tensors, to_plain(checkpoint), replica.folder.verify)

    def _warn_write_failed(self, error: Exception) -> None:
        """Warn, once until a checkpoint can be written again."""
        if self.write_failed:
            return
        self.write_failed = True
        free = shutil.disk_usage(self.job.root).free / 1e6
        reason = error.strerror if isinstance(error, OSError) else str(error)
        self.warn(
            f"{self.job.root}: could not write checkpoint ({reason}; {free:.1f} MB free). Training continues and tries again; "
            "the previous checkpoint is intact."
        )

    def append(self, replica: Replica, name: str, record: JsonObject) -> None:
        """Append a record to a log. Lines that cannot be written are buffered, with one warning."""
        if not replica.folder.append(name, record):
            self.warn(f"{replica.folder.path / name}: cannot be written right now; buffering in memory")

    def clear(self) -> None:
        """Remove the checkpoints of a pack whose results are all written."""
        for replica in self.replicas:
            delete_checkpoints(replica.folder.path, [])
