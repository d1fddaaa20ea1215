"""Signals reach their handlers while another thread or process trains."""

import signal
import threading
import time

import pytest

from fathomlab.run.settings import run_isolated


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="the platform cannot signal a thread")
def test_signals_to_the_training_thread_are_handled():
    """The system may deliver a signal to any thread; Python handles it in the main thread, which must wake up for it."""
    handled: list[int] = []

    def train() -> bool:
        time.sleep(0.5)  # until the main thread waits
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        end = time.monotonic() + 20
        while not handled and time.monotonic() < end:
            time.sleep(0.01)
        return bool(handled)

    before = signal.signal(signal.SIGUSR1, lambda signum, _: handled.append(signum))
    try:
        assert run_isolated(train)
    finally:
        signal.signal(signal.SIGUSR1, before)
