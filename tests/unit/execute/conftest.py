"""Tiny experiments and a store to run them into."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.execute.events import Event
from fathomlab.execute.experiment import RunOptions, RunSummary, run_experiment
from fathomlab.execute.signals import StopRequest
from fathomlab.store.reading import Store


class Laboratory:
    """Runs experiments into one store and keeps the events of the last."""

    def __init__(self, root: Path):
        """An empty store."""
        self.root = root
        self.store = Store(root)
        self.events: list[Event] = []

    def run(
        self, source: Any, *overrides: str, workers: int = 1, watch: Callable[[Event], None] = lambda event: None
    ) -> RunSummary:
        """Train what is needed; `watch` is called with each event."""
        self.events = []

        def emit(event: Event) -> None:
            self.events.append(event)
            watch(event)

        self.plan = fathomlab.load(source, overrides)
        return run_experiment(self.plan, self.root, RunOptions("cpu", workers), emit, StopRequest())

    def results(self) -> dict[str, dict[str, Any]]:
        """Metrics and curves of the last plan's trials but for the time they took, by hash."""
        results_by_hash = {}
        for trial in self.plan.trials:
            record = self.store.trial(trial.hash)
            curves = {name: curve for name, curve in record.curves.items() if name != "seconds"}
            results_by_hash[trial.hash] = {"status": record.status, **record.metrics, **curves, "probes": record.probes}
        return results_by_hash


@pytest.fixture
def laboratory(tmp_path: Path) -> Laboratory:
    """An empty store to run into."""
    return Laboratory(tmp_path / "runs")


@pytest.fixture(scope="session")
def small() -> dict[str, Any]:
    """An MLP of one hidden layer on 200 images: 4 steps an epoch."""
    return {
        "data": {"name": "mnist-sample", "limit": 200, "batch_size": 40},
        "model": {"type": "MLP", "params": {"layers_dim": 6, "hidden_layers_num": 1}},
        "training": {"epochs": 2},
    }


@pytest.fixture(scope="session")
def distillation() -> dict[str, Any]:
    """MLPs as teacher and student."""
    mlp = {"type": "MLP", "params": {"layers_dim": 6, "hidden_layers_num": 1}}
    return {
        "data": {"name": "mnist-sample", "limit": 200, "batch_size": 40},
        "teacher_model": mlp,
        "student_model": {"type": "MLP", "params": {"layers_dim": 4, "hidden_layers_num": 1}},
        "training_teacher": {"epochs": 1},
        "training_student": {"epochs": 1},
    }
