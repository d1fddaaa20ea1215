"""Stores logs, checkpoints, weights, and results of a pack so that a crash loses nothing.

Order matters. A checkpoint is written only after its logs are durable, results only after the weights of every trial of the
pack, and old checkpoints are removed only after the new ones of all trials have been read back.
"""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fathomlab.engine.state import load_replica, replica_tensors
from fathomlab.engine.training import Training
from fathomlab.plan import Trial
from fathomlab.store.checkpoints import load_sealed, save_sealed
from fathomlab.store.reading import Store
from fathomlab.store.sealed import Damaged
from fathomlab.store.states import KEPT, newest_about, retire, state_path, state_steps, verified_steps
from fathomlab.store.writing import TrialFolder, finite

Emit = Callable[[Mapping[str, Any]], None]
SCHEMA = 2
INTERVAL = 30.0
COST_SHARE = 0.01
ASSUMED_COST = 0.02
WRITERS = 8


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
    metrics: dict[str, Any] = field(default_factory=dict)
    diverged: int = 0


class Keeper:
    """The folders of a pack's trials."""

    def __init__(
        self, trials: Sequence[Trial], root: Path, environment: Mapping[str, Any], every: float | None, emit: Emit
    ):
        """Nothing is read or written before `load`.

        `every` is the time between two checkpoints (s). None spends at most 1% of the time on them.
        """
        self.root, self.environment, self.every, self.emit = root, environment, every, emit
        store = Store(root)
        self.replicas = [
            Replica(trial, TrialFolder(root, trial.hash), store.trial(trial.hash).status in ("finished", "diverged"))
            for trial in trials
        ]
        self.started = self.saved = time.monotonic()
        self.cost = ASSUMED_COST * (1 + len(self.replicas) / 4)
        self.before, self.refusing = 0.0, False
        self.resumed: list[dict[str, Any]] = []

    @property
    def active(self) -> list[tuple[int, Replica]]:
        """Slot and replica of the trials that have no result yet."""
        return [(place, replica) for place, replica in enumerate(self.replicas) if not replica.done]

    @property
    def seconds(self) -> float:
        """Time of the pack (s), including time before interruptions, divided by its trials."""
        return self.before + (time.monotonic() - self.started) / len(self.replicas)

    def each(self, write: Callable[[int, Replica], Any]) -> list[Any]:
        """Call `write` with slot and replica of each trial without a result, in parallel: syncing eight files takes hardly
        longer than syncing one.

        Raises:
            OSError: The first error of any call, after all calls have ended.
        """
        with ThreadPoolExecutor(WRITERS) as pool:
            return list(pool.map(lambda pair: write(*pair), self.active))

    def numeric(self) -> tuple[str, bool] | None:
        """Precision and compilation recorded in the checkpoints; None without a checkpoint."""
        about = next((about for _, replica in self.active if (about := newest_about(replica.folder.path))), None)
        return (
            (str(about["numeric"][0]), bool(about["numeric"][1])) if about and about.get("schema") == SCHEMA else None
        )

    def load(self, training: Training, logging: Mapping[str, Any]) -> None:
        """Resume from the newest step for which every unfinished trial has an intact checkpoint, or start from scratch."""
        found = {}
        for place, replica in self.active:
            found[place], corrupt = verified_steps(replica.folder.path)
            for name in corrupt:
                self.warn(f"trial {replica.trial.hash[:12]}: corrupted checkpoint {name} renamed to {name}.corrupt")
        numeric = [training.common.precision, training.compiled]
        common = set.intersection(*(set(steps) for steps in found.values())) if found else set[int]()
        for step in sorted(common, reverse=True):
            about = {place: steps[step] for place, steps in found.items()}
            if self._fit(about, numeric):
                self._go_on(training, step, about)
                return
        if any(found.values()):
            count = f"{len(found)} trials restart" if len(found) > 1 else "1 trial restarts"
            self.warn(f"{count} from scratch: no valid common checkpoint of this version.")
        for _, replica in self.active:
            replica.folder.begin(replica.trial.content, logging)

    def _fit(self, about: Mapping[int, Mapping[str, Any]], numeric: list[Any]) -> bool:
        """Whether checkpoints of one step, one per slot, are consistent with each other and with intact logs.

        A step has two checkpoints if one was written during the evaluation at the end of its epoch; their epochs differ.
        """
        return (
            all(own.get("schema") == SCHEMA and own["numeric"] == numeric for own in about.values())
            and len({own["epoch"] for own in about.values()}) == 1
            and all(self.replicas[place].folder.holds(own["logs"]) for place, own in about.items())
        )

    def _go_on(self, training: Training, step: int, about: Mapping[int, Mapping[str, Any]]) -> None:
        state, first = training.state, next(iter(about.values()))
        state.step, state.epoch = step, first["epoch"]
        for place, replica in enumerate(self.replicas):
            try:
                tensors, own = load_sealed(state_path(replica.folder.path, step))
            except Damaged:
                if replica.done:  # it only keeps its slot
                    continue
                raise
            load_replica(state, place, tensors)
            state.memories[place] = own["memory"]
            bad = int(state.bad_step[place])
            if bad <= state.epoch * training.steps_per_epoch:  # otherwise it diverged in the current epoch
                replica.diverged = bad
            if not replica.done:
                replica.folder.go_on(own["logs"])
                replica.metrics = dict(own["metrics"])
                retire(replica.folder.path, [known for known in state_steps(replica.folder.path) if known <= step])
                self.before = max(self.before, own["seconds"])
        self.resumed = [
            *first["resumed"],
            {"step": step, "environment": first["environment"], "members": first["members"]},
        ]

    def warn(self, text: str) -> None:
        """Show one line to the user."""
        self.emit({"event": "warning", "text": text})

    def due(self, ends_epoch: bool) -> bool:
        """Whether to save now: at the end of an epoch or after 30 s, if saving takes at most 1% of the time."""
        since = time.monotonic() - self.saved
        if self.every is not None:
            return since >= self.every
        return since >= max(self.cost / COST_SHARE, 0.0 if ends_epoch else INTERVAL)

    def save(self, training: Training) -> bool:
        """Write a checkpoint of every unfinished trial; return False if writing failed. Older checkpoints then stay."""
        started, state = time.monotonic(), training.state
        members = [replica.trial.hash for replica in self.replicas]

        def one(place: int, replica: Replica) -> None:
            replica.folder.settle()
            about = {
                "schema": SCHEMA,
                "trial": replica.trial.hash,
                "members": members,
                "epoch": state.epoch,
                "step": state.step,
                "memory": state.memories[place],
                "numeric": [training.common.precision, training.compiled],
                "environment": dict(self.environment),
                "metrics": finite(replica.metrics),
                "logs": replica.folder.lines,
                "seconds": self.seconds,
                "resumed": self.resumed,
            }
            save_sealed(state_path(replica.folder.path, state.step), replica_tensors(state, place), about)

        try:
            self.each(one)
        except (OSError, Damaged) as error:
            self._refused(error)
            return False
        finally:
            self.saved = time.monotonic()
            self.cost = self.saved - started
        self.refusing = False
        for _, replica in self.active:
            retire(replica.folder.path, state_steps(replica.folder.path)[:KEPT])
        return True

    def _refused(self, error: Exception) -> None:
        """Warn, once until a checkpoint can be written again."""
        if self.refusing:
            return
        self.refusing = True
        free = shutil.disk_usage(self.root).free / 1e6
        reason = error.strerror if isinstance(error, OSError) else str(error)
        self.warn(
            f"{self.root}: could not write checkpoint ({reason}; {free:.1f} MB free). Training continues and tries again; the "
            "previous checkpoint is intact."
        )

    def append(self, replica: Replica, name: str, record: Mapping[str, Any]) -> None:
        """Append a record to a log. Lines that cannot be written are buffered, with one warning."""
        if not replica.folder.append(name, record):
            self.warn(f"{replica.folder.path / name}: cannot be written right now; buffering in memory")

    def clear(self) -> None:
        """Remove the checkpoints of a pack whose results are all written."""
        for replica in self.replicas:
            retire(replica.folder.path, [])
