"""Keeps what a pack finds, so that nothing is lost: logs, states to go on from, weights, results.

Order matters. A state is written only after the logs that it rests on are durable; results only after the weights of every
trial of the pack are; old states go only after new ones have been read back for all.
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
    """A trial of the pack while it is trained.

    Attributes:
        done: Its result is in the store: it is here only because the others began beside it.
        metrics: Of the last epoch.
        diverged: Step of its first loss that was not finite; 0 while there is none.
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
        """Nothing is touched before `load`.

        `every` is the time between two states [s]; None for as often as costs at most a hundredth of the time.
        """
        self.root, self.environment, self.every, self.emit = root, environment, every, emit
        store = Store(root)
        self.replicas = [
            Replica(trial, TrialFolder(root, trial.hash), store.trial(trial.hash).status in ("finished", "diverged"))
            for trial in trials
        ]
        self.started = self.saved = time.monotonic()
        self.cost = ASSUMED_COST * (1 + len(self.replicas) / 4)
        self.before = 0.0
        self.resumed: list[dict[str, Any]] = []

    @property
    def active(self) -> list[tuple[int, Replica]]:
        """Place and replica of the trials that have no result yet."""
        return [(place, replica) for place, replica in enumerate(self.replicas) if not replica.done]

    @property
    def seconds(self) -> float:
        """Time of the pack so far, that before an interruption included, shared among its trials."""
        return self.before + (time.monotonic() - self.started) / len(self.replicas)

    def each(self, write: Callable[[int, Replica], Any]) -> list[Any]:
        """Call `write` for the place and replica of each trial without a result, several at once: a disk that is asked to keep
        eight files takes hardly longer than for one.

        Raises:
            OSError: The first that any of them raised, after all have ended.
        """
        with ThreadPoolExecutor(WRITERS) as pool:
            return list(pool.map(lambda pair: write(*pair), self.active))

    def numeric(self) -> tuple[str, bool] | None:
        """The precision, and whether compiled, in which the trials were begun; None where they were not."""
        about = next((about for _, replica in self.active if (about := newest_about(replica.folder.path))), None)
        return (
            (str(about["numeric"][0]), bool(about["numeric"][1])) if about and about.get("schema") == SCHEMA else None
        )

    def load(self, training: Training, logging: Mapping[str, Any]) -> None:
        """Go on from the newest step of which every unfinished trial has a whole state, or begin."""
        found = {}
        for place, replica in self.active:
            found[place], corrupt = verified_steps(replica.folder.path)
            for name in corrupt:
                self.warn(f"trial {replica.trial.hash[:12]}: {name} is damaged and was set aside as {name}.corrupt.")
        numeric = [training.common.precision, training.compiled]
        common = set.intersection(*(set(steps) for steps in found.values())) if found else set[int]()
        for step in sorted(common, reverse=True):
            about = {place: steps[step] for place, steps in found.items()}
            if self._fit(about, numeric):
                self._go_on(training, step, about)
                return
        if any(found.values()):
            self.warn(
                f"{len(found)} trials begin anew: they have no whole checkpoint of this release at a step in common."
            )
        for _, replica in self.active:
            replica.folder.begin(replica.trial.content, logging)

    def _fit(self, about: Mapping[int, Mapping[str, Any]], numeric: list[Any]) -> bool:
        """Whether states of one step, one a place, belong together and to whole logs.

        A step has two states where one was written during the evaluation that ends its epoch; they are of different epochs.
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
                if replica.done:  # it only keeps its place
                    continue
                raise
            load_replica(state, place, tensors)
            state.memories[place] = own["memory"]
            bad = int(state.bad_step[place])
            if bad <= state.epoch * training.steps_per_epoch:  # else it diverged in the running epoch, which ends later
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
        """Tell the user one line."""
        self.emit({"event": "warning", "text": text})

    def due(self, ends_epoch: bool) -> bool:
        """Whether to save now: at the end of an epoch, or after 30 s, as long as saving takes at most a hundredth of the time."""
        since = time.monotonic() - self.saved
        if self.every is not None:
            return since >= self.every
        return since >= max(self.cost / COST_SHARE, 0.0 if ends_epoch else INTERVAL)

    def save(self, training: Training) -> bool:
        """Write a state for every unfinished trial; False where the disk refused, and the older states stay."""
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
        for _, replica in self.active:
            retire(replica.folder.path, state_steps(replica.folder.path)[:KEPT])
        return True

    def _refused(self, error: Exception) -> None:
        free = shutil.disk_usage(self.root).free / 1e6
        reason = error.strerror if isinstance(error, OSError) else str(error)
        self.warn(
            f"{self.root}: a checkpoint could not be written ({reason}; {free:.1f} MB free). Training goes on and tries "
            "again; the checkpoint before stays."
        )

    def append(self, replica: Replica, name: str, record: Mapping[str, Any]) -> None:
        """Add a record to a log; what the disk refuses waits, and that is said once."""
        if not replica.folder.append(name, record):
            self.warn(f"{replica.folder.path / name}: cannot be written at present; its lines wait in memory.")

    def clear(self) -> None:
        """Remove the states of a pack whose results are all written."""
        for replica in self.replicas:
            retire(replica.folder.path, [])
