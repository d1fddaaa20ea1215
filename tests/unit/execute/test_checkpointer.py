"""The training time of a trial."""

import time
from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.base.clock import RunningClock
from fathomlab.execute.pack import checkpointer, pack, weights
from fathomlab.prepare.jobs import Job
from fathomlab.store.reading import Store


@pytest.mark.parametrize(("module", "write"), [(checkpointer, "save_checked"), (weights, "save_tensors")])
def test_seconds_count_waits_for_a_slow_disk(
    module: Any, write: str, small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Each file takes a minute without the processor, which is no suspension."""
    waited, original = [0.0], getattr(module, write)

    def slow(*args: Any) -> None:
        waited[0] += 60.0
        original(*args)

    monkeypatch.setattr(module, write, slow)
    monkeypatch.setattr(
        checkpointer, "RunningClock", lambda: RunningClock(lambda: time.monotonic() + waited[0], time.process_time)
    )
    (trial,) = fathomlab.load(small).trials
    pack.train_job(Job((trial,), tmp_path, "cpu", checkpoint_seconds=0.0), lambda event: None, lambda: None)
    seconds = Store(tmp_path).trial(trial.hash).seconds
    assert waited[0] > 0
    assert seconds == pytest.approx(waited[0], abs=30.0)
