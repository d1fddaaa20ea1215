"""The events of one run, in order. Measured values depend on the machine, so only their type is compared."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fathomlab
from fathomlab.execute.events import to_document
from fathomlab.execute.experiment import RunOptions, run_experiment
from fathomlab.execute.signals import StopRequest

SIZE = 3 * 32 * 32
CONFIG = {
    "seed": 3,
    "data": {"name": "shapes", "limit": 64, "batch_size": 16},
    "teacher_model": {"type": "MLP", "params": {"input_size": SIZE, "layers_dim": 8, "hidden_layers_num": 1}},
    "student_model": {"type": "MLP", "params": {"input_size": SIZE, "layers_dim": 4, "hidden_layers_num": 1}},
    "training_teacher": {"epochs": 2, "lr": 0.01},
    "training_student": {"epochs": 1, "lr": 0.01},
    "distillation": {"alpha": 0.5, "temperature": 4.0},
    "experiment": {"seeds": 2, "analyze_gradients": True},
    "logging": {"log_gradients": True},
}


def test_events_of_a_run_are_golden(tmp_path: Path, golden: Callable[[str, Any], Any]) -> None:
    plan, events = fathomlab.load(CONFIG), list[Any]()

    def shape(value: Any) -> Any:
        """Labels in place of hashes, types in place of measured values."""
        if isinstance(value, Mapping):
            return {plan.labels.get(key, key): "int" if key == "best/epoch" else shape(value[key]) for key in value}
        if isinstance(value, list | tuple):
            return [shape(item) for item in value]
        return "float" if isinstance(value, float) else plan.labels.get(value, value)

    run_experiment(
        plan, tmp_path, RunOptions("cpu", 1), lambda event: events.append(shape(to_document(event))), StopRequest()
    )
    assert events == golden("events.json", events)
