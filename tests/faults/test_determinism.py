"""Nondeterministic operations are rejected, or recorded."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

import fathomlab
from fathomlab.engine import loop
from fathomlab.execute.pack.pack import train_job
from fathomlab.execute.pack.settings import deterministic_mode
from fathomlab.prepare.jobs import Job
from fathomlab.store.reading import Store
from tests.faults.experiments import run, small


def stub(*given: Any) -> None:
    """A step that writes two numbers to one index: which one remains is undefined."""
    REAL_STEP(*given)
    torch.zeros(2).put_(torch.tensor([1, 1]), torch.tensor([1.0, 2.0]))


REAL_STEP = loop.train_steps


def test_nondeterministic_operation_fails_the_trial(ram_dir: Path):
    """On a CPU. The cause names the operation."""
    with mock.patch.object(loop, "train_steps", stub):
        plan = run(small(), ram_dir)
    for trial in plan.trials:
        record = Store(ram_dir).trial(trial.hash)
        assert record.status == "failed"
        assert record.cause is not None
        assert record.cause.startswith("RuntimeError: put_ does not have a deterministic implementation")


@pytest.mark.parametrize("mode", ["strict", "warned"])
def test_provenance_records_the_mode(ram_dir: Path, mode: str):
    """With a CUDA device, torch warns of such operations, and training continues."""
    with ExitStack() as stack:
        if mode == "warned":
            stack.enter_context(mock.patch.object(torch.cuda, "is_available", return_value=True))
            stack.enter_context(pytest.warns(UserWarning, match="put_ does not have a deterministic implementation"))
            stack.enter_context(mock.patch.object(loop, "train_steps", stub))
        trials = list(fathomlab.load(small()).trials)
        train_job(Job(tuple(trials), ram_dir, "cpu"), lambda event: None, lambda: None)
    for trial in trials:
        record = Store(ram_dir).trial(trial.hash)
        assert record.status == "finished"
        assert record.provenance.deterministic == mode


def test_deterministic_mode_restores_torch():
    """Whatever mode it had."""
    for before in ((False, False), (True, True), (True, False)):
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        with deterministic_mode():
            assert torch.are_deterministic_algorithms_enabled()
        after = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
        assert after == before
