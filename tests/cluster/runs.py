"""Runs on a cluster, and what must be equal to a local run."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fathomlab
from fathomlab.execute.events import Event
from fathomlab.execute.executors import with_executor
from fathomlab.execute.experiment import RunOptions, RunSummary, run_experiment
from fathomlab.execute.signals import StopRequest
from fathomlab.store.checkpoints import checkpoint_steps
from fathomlab.store.reading import Store

# Experiment 1.2 in quick form with fewer depths and images. One trial per pack, and checkpoints often.
SMALL = ("experiment.depths=[2,5]", "data.limit=1000", "experiment.seeds=2", "training.epochs=20", "run.pack=1")
OFTEN = "run.checkpoint_seconds=0.1"


def train(
    root: Path,
    executor: str,
    on_event: Callable[[Event], None] = lambda event: None,
    overrides: tuple[str, ...] = SMALL,
) -> tuple[RunSummary, list[Event]]:
    """Train experiment 1.2 with two workers; returns the summary and all events."""
    events: list[Event] = []

    def emit(event: Event) -> None:
        events.append(event)
        on_event(event)

    plan = with_executor(fathomlab.load("1_2", [*overrides, OFTEN], quick=True), executor)
    return run_experiment(plan, root, RunOptions("cpu", 2), emit, StopRequest()), events


def bits(root: Path) -> dict[str, Any]:
    """Trials by hash: status, metrics, logs, and weights, without times."""
    store, result = Store(root), dict[str, Any]()
    for trial in store.trials():
        record = store.trial(trial)
        curves = {name: values for name, values in record.curves.items() if name != "seconds"}
        weights = {path.name: path.read_bytes() for path in record.folder.glob("*.safetensors")}
        result[trial] = record.status, record.metrics, record.outcome, curves, record.probes, weights
    return result


def when_saved(root: Path, trials: tuple[str, ...], act: Callable[[], object]) -> None:
    """Call `act` in a thread as soon as a trial has a checkpoint in the store."""

    def wait() -> None:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            if any(checkpoint_steps(root / "trials" / trial) for trial in trials):
                act()
                return
            time.sleep(0.01)

    threading.Thread(target=wait, daemon=True).start()
