"""Signals reach their handlers while another thread or process trains."""

import signal
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.execute.coordinator import run_jobs
from fathomlab.execute.executors.inline import Inline
from fathomlab.execute.pack import pack
from fathomlab.execute.signals import StopRequest
from fathomlab.prepare.jobs import Job


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
        with closing(Inline(1, None)) as executor:
            assert list(run_jobs([Job(fathomlab.load(small).trials, tmp_path)], executor, StopRequest())) == []
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert handled == [signal.SIGUSR1]
    assert time.monotonic() - started < 15
