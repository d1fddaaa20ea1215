"""Signals reach their handlers while another thread or process trains."""

import signal
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.base.clock import RunningClock
from fathomlab.execute.coordinator import run_jobs
from fathomlab.execute.events import Event, Warned
from fathomlab.execute.executors.inline import Inline
from fathomlab.execute.executors.setting import Setting
from fathomlab.execute.experiment import RunOptions, run_experiment
from fathomlab.execute.pack import pack
from fathomlab.execute.signals import RunInterrupted, StopRequest
from fathomlab.prepare.jobs import Job
from fathomlab.store.directory import create_store
from fathomlab.store.lock import store_lock
from fathomlab.store.reading import Store


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="the platform cannot signal a thread")
def test_signals_to_the_training_thread_are_handled(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The system may deliver a signal to any thread; Python handles it in the main thread, which must wake up for it."""
    handled: list[int] = []

    def train(*_: object) -> None:
        time.sleep(0.5)  # until the main thread waits
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        end = time.monotonic() + 20
        while not handled and time.monotonic() < end:
            time.sleep(0.01)

    monkeypatch.setattr(pack, "train_job", train)
    before = signal.signal(signal.SIGUSR1, lambda signum, _: handled.append(signum))
    started = time.monotonic()
    try:
        with closing(Inline(Setting(tmp_path, 1))) as executor:
            assert list(run_jobs([Job(fathomlab.load(small).trials, tmp_path)], executor, StopRequest())) == []
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert handled == [signal.SIGUSR1]
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("minutes", [None, 1.0])
def test_waiting_for_the_store_can_be_stopped(small: dict[str, Any], tmp_path: Path, minutes: float | None):
    """By a signal, or at the time limit."""
    now = [0.0]
    stop = StopRequest(minutes, RunningClock(lambda: now[0], lambda: now[0]))

    def emit(event: Event) -> None:
        assert isinstance(event, Warned)
        if minutes is None:
            stop.handle(signal.SIGTERM)
        else:
            now[0] = 61.0

    root = create_store(tmp_path / "runs")
    with ExitStack() as holder:
        holder.enter_context(store_lock(root, False, lambda text: None))
        timer = threading.Timer(5.0, holder.close)  # the run would train
        timer.start()
        with pytest.raises(RunInterrupted) as stopped:
            run_experiment(fathomlab.load(small), root, RunOptions("cpu", 1, wait=True), emit, stop)
        timer.cancel()
    expected = (signal.SIGTERM, None) if minutes is None else (signal.SIGINT, minutes)
    assert (stopped.value.signum, stopped.value.minutes) == expected
    assert Store(root).trials() == []
