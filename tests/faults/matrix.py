"""Stops a pack at each kind of step and resumes it; it must end with the bits of an uninterrupted pack."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import fathomlab
from fathomlab.engine import loop, native_step
from fathomlab.engine.training import PackTrainer
from fathomlab.execute.pack import results
from fathomlab.execute.pack.pack import train_job
from fathomlab.execute.signals import RunInterrupted
from fathomlab.plan import Trial
from fathomlab.prepare.jobs import Job
from fathomlab.store.reading import Store
from tests.faults.gate import GateResult
from tests.faults.kills import differences, digest

OPTIMIZERS = {"momentum": ("SGD", {"momentum": 0.9}), "AdamW": ("AdamW", {}), "Adam": ("Adam", {})}
SCHEDULES = {
    "none": (None, {}),
    "cosine": ("CosineAnnealingLR", {}),
    "onecycle": ("OneCycleLR", {}),
    "plateau": ("ReduceLROnPlateau", {"patience": 0, "factor": 0.5, "threshold": 0.9}),
}
STOPS = ("step 1", "mid-epoch", "last batch", "evaluation", "after the last epoch")
KINDS = ("supervised", "distillation")
EPOCHS = 3


@dataclass(frozen=True)
class Case:
    """One cell of the matrix."""

    optimizer: str
    schedule: str
    augmented: bool
    stop: str
    kind: str


ALL = tuple(itertools.starmap(Case, itertools.product(OPTIMIZERS, SCHEDULES, (False, True), STOPS, KINDS)))
SUPERVISED = tuple(case for case in ALL if case.kind == "supervised")
PLAIN = Case("Adam", "none", False, "", "supervised")


def covering(count: int, cases: Sequence[Case] = ALL) -> list[Case]:
    """Return `count` cells in which every level of every axis occurs, chosen greedily by new pairs.

    In the first one the schedule has memory when it is stopped.
    """
    chosen = [Case("AdamW", "plateau", True, "mid-epoch", cases[-1].kind)]
    seen: set[tuple[Any, ...]] = set()

    def pairs(case: Case) -> set[tuple[Any, ...]]:
        return set(itertools.combinations(enumerate(vars(case).values()), 2))

    for _ in range(count - 1):
        seen |= pairs(chosen[-1])
        best = max((case for case in cases if case not in chosen), key=lambda case: len(pairs(case) - seen))
        chosen.append(best)
    return chosen


def source(case: Case, dropout: float = 0.2) -> dict[str, Any]:
    """Return the experiment of a cell: two seeds, networks with batch norm and dropout, 3 epochs of 4 steps."""
    optimizer, options = OPTIMIZERS[case.optimizer]
    schedule, choices = SCHEDULES[case.schedule]
    net = {"layers_dim": 6, "hidden_layers_num": 2, "batch_norm": True, "dropout": dropout}
    training = {"epochs": EPOCHS, "optimizer": optimizer, "optimizer_params": options, "lr": 0.01}
    training |= {"scheduler": schedule, "scheduler_params": choices}
    result: dict[str, Any] = {
        "data": {"name": "mnist-sample", "limit": 200, "batch_size": 48, "augment": ["crop"] if case.augmented else []},
        "experiment": {"seeds": 2, "probes": {"gradients": {"at": [1, "epochs"]}}},
    }
    if case.kind == "supervised":
        return result | {"model": {"type": "MLP", "params": net}, "training": training}
    return result | {
        "teacher_model": {"type": "MLP", "params": {"layers_dim": 8, "hidden_layers_num": 1}},
        "student_model": {"type": "MLP", "params": net},
        "training_teacher": {"epochs": 1},
        "training_student": training,
    }


@dataclass
class Watch:
    """Records the hash of a pack after each step, and its position at each poll for a stop request."""

    steps: list[str] = field(default_factory=list)
    polls: list[tuple[int, str]] = field(default_factory=list)
    where: str = "training"
    at: int | None = None

    def stop(self) -> int | None:
        """Called between two steps, or two batches of an evaluation."""
        self.polls.append((len(self.steps), self.where))
        return 2 if len(self.polls) - 1 == self.at else None


def state_hash(training: PackTrainer) -> str:
    """SHA-256 over weights, running statistics, optimizer, schedule and sums."""
    state, digest = training.state, hashlib.sha256()
    tensors = [*state.params.values(), *state.buffers.values(), *itertools.chain(*state.optimizer_state.values())]
    for tensor in [
        *tensors,
        state.diverged_at_step,
        state.epoch_sums,
        state.best_accuracy,
        *state.best.params.values(),
    ]:
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    memories = [sorted(memory.items()) for memory in state.memories]
    return hashlib.sha256(f"{digest.hexdigest()} {memories} {state.step} {state.epoch}".encode()).hexdigest()


@contextmanager
def watched(watch: Watch) -> Iterator[None]:
    """Record what happens while packs are trained, with one native step per call."""
    real_step, real_evaluate = loop.train_steps, loop.evaluate

    def step(training: PackTrainer, *given: Any) -> None:
        real_step(training, *given)
        watch.steps.append(state_hash(training))

    def evaluate(*given: Any, **more: Any) -> Any:
        watch.where = "validation" if more.get("validation") else "test"
        try:
            return real_evaluate(*given, **more)
        finally:
            watch.where = "training"

    with (
        mock.patch.object(native_step, "STEPS_AT_ONCE", 1),
        mock.patch.object(loop, "train_steps", step),
        mock.patch.object(loop, "evaluate", evaluate),
        mock.patch.object(results, "evaluate", evaluate),
    ):
        yield


def train(
    trials: list[Trial], root: Path, at: int | None = None, every: float = 1e9, backend: str = "reference"
) -> tuple[Watch, bool]:
    """Train a pack, and stop at the poll of this number; return the record and whether it was stopped."""
    watch = Watch(at=at)
    with watched(watch):
        try:
            job = Job(tuple(trials), root, "cpu", checkpoint_seconds=every, backend=backend)
            train_job(job, lambda event: None, watch.stop)
        except RunInterrupted:
            return watch, True
    return watch, False


def poll_of(golden: Watch, stop: str) -> int:
    """Return the number of the poll of the uninterrupted run at which a kind of stop happens."""
    per_epoch = len(golden.steps) // EPOCHS
    wanted = {
        "step 1": (1, "training"),
        "mid-epoch": (per_epoch + per_epoch // 2, "training"),
        "last batch": (per_epoch, "training"),
        "evaluation": (2 * per_epoch, "validation"),
        "after the last epoch": (EPOCHS * per_epoch, "test"),
    }
    return golden.polls.index(wanted[stop])


def combinations(cases: list[Case], folder: Path, backend: str = "reference") -> GateResult:
    """Stop and resume every cell; compare the hash of each step and all results. Dropout only with the reference."""
    dropout = 0.2 if backend == "reference" else 0.0
    result = GateResult()
    golden: dict[tuple[Any, ...], tuple[Watch, dict[str, Any], list[Trial]]] = {}
    for number, case in enumerate(cases):
        key = case.optimizer, case.schedule, case.augmented, case.kind
        root = folder / f"{number}"
        if key not in golden:
            planned = fathomlab.load(source(case, dropout))
            last = planned.conditions[-1].trials
            teachers = [teacher for trial in last for teacher in trial.teachers]
            gold = folder / f"golden-{number}"
            if teachers:
                train(teachers, gold)
            watch, _ = train(list(last), gold, backend=backend)
            golden[key] = watch, digest(gold), list(last)
        watch, expected, trials = golden[key]
        teachers = [teacher for trial in trials for teacher in trial.teachers]
        if teachers:
            train(teachers, root)
        first, stopped = train(trials, root, poll_of(watch, case.stop), backend=backend)
        second, _ = train(trials, root, backend=backend)
        result.counts["combinations"] += 1
        result.check(stopped, f"{case}: was not stopped")
        steps = first.steps + second.steps
        same = [one == two for one, two in zip(watch.steps, steps, strict=False)]
        result.check(all(same), f"{case}: the first step that differs is {[*same, False].index(False) + 1}")
        result.check(len(steps) == len(watch.steps), f"{case}: {len(steps)} steps instead of {len(watch.steps)}")
        different = differences(expected, digest(root))
        result.check(not different, f"{case}: {different[:5]}")
        records = [Store(root).trial(trial.hash) for trial in trials]
        states = {(record.status, record.provenance.backend and record.provenance.backend.name) for record in records}
        result.check(states == {("finished", backend)}, f"{case}: {states}")
    return result
