"""A small experiment, run in this process to its end or up to an interruption."""

from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.execute.experiment import RunOptions, run_experiment
from fathomlab.execute.signals import RunInterrupted, StopRequest
from tests.faults.matrix import Case, source
from tests.faults.polls import stopped


class Killed(BaseException):
    """Stands for the death of the process at a call."""


def small(**changes: Any) -> dict[str, Any]:
    """An experiment of 3 seeds, 3 epochs of 4 steps."""
    experiment = source(Case("momentum", "none", False, "", "supervised"))
    experiment["experiment"] = {"seeds": 3}
    return experiment | changes


def run(
    experiment: dict[str, Any],
    root: Path,
    *overrides: str,
    options: RunOptions | None = None,
    stop: StopRequest | None = None,
) -> Any:
    """Run an experiment; return its plan."""
    plan = fathomlab.load(experiment, overrides)
    run_experiment(plan, root, options or RunOptions("cpu", 1), lambda event: None, stop or StopRequest())
    return plan


def interrupted(experiment: dict[str, Any], root: Path, steps: int, *overrides: str) -> Any:
    """Run an experiment and stop it after this number of steps; return its plan."""
    plan = fathomlab.load(experiment, overrides)
    with stopped(steps) as stop, pytest.raises(RunInterrupted):
        run_experiment(plan, root, RunOptions("cpu", 1), lambda event: None, stop)
    return plan
