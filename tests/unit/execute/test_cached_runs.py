"""A run of finished trials: what it opens, and what it leaves as it is."""

import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fathomlab.execute import experiment
from fathomlab.store import inventory
from tests.unit.execute.conftest import Laboratory

FILES = ("gradients.jsonl", "metrics.jsonl", "provenance.json", "result.json", "trial.json")
OPENED: list[str] | None = None


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if OPENED is not None and event == "open" and isinstance(args[0], str | bytes | os.PathLike):
        OPENED.append(os.fsdecode(args[0]))


sys.addaudithook(_hook)  # a hook stays until the process ends, so it is added once


def opened(work: Any, root: Path) -> Counter[str]:
    """Number of times that `work` opens each file of each trial."""
    global OPENED
    OPENED = []
    try:
        work()
        paths = [Path(path) for path in OPENED]
    finally:
        OPENED = None
    return Counter(path.relative_to(root).as_posix() for path in paths if path.is_relative_to(root / "trials"))


def test_cached_run_opens_each_small_file_once(laboratory: Laboratory, small: dict[str, Any]):
    """Two seeds, curves and a probe: five files per trial, weights and predictions not at all."""
    source = small | {"experiment": {"seeds": 2, "probes": ["gradients"]}}
    laboratory.run(source)
    names = [trial.hash for trial in laboratory.plan.trials]
    assert len(names) == 2
    counts = opened(lambda: laboratory.run(source), laboratory.root)
    assert counts == {f"trials/{name}/{file}": 1 for name in names for file in FILES}


def test_cached_run_looks_at_each_trial_once(
    laboratory: Laboratory, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    source = small | {"experiment": {"seeds": 3}}
    laboratory.run(source)
    looked: list[str] = []
    real = inventory.TrialFiles
    monkeypatch.setattr(inventory, "TrialFiles", lambda root, name: looked.append(name) or real(root, name))
    monkeypatch.setattr(experiment, "trial_status", lambda root, name: pytest.fail("looked again"))
    summary = laboratory.run(source)
    assert (summary.cached, summary.trained) == (3, 0)
    assert sorted(looked) == sorted(trial.hash for trial in laboratory.plan.trials)


def test_cached_run_writes_nothing(laboratory: Laboratory, small: dict[str, Any]):
    laboratory.run(small)
    before = {path: path.stat().st_mtime_ns for path in laboratory.root.rglob("*") if path.is_file()}
    laboratory.run(small)
    after = {path: path.stat().st_mtime_ns for path in laboratory.root.rglob("*") if path.is_file()}
    lock = laboratory.root / ".lock"
    assert {path: time for path, time in before.items() if path != lock} == {
        path: time for path, time in after.items() if path != lock
    }
