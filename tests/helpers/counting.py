"""Counts calls of Python functions, so that tests of growth do not depend on the speed of the machine."""

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def function_calls(work: Callable[[], Any]) -> int:
    """Number of calls of Python functions, and of steps of generators, while `work` runs in this thread."""
    calls = 0

    def count(_: FrameType, event: str, __: Any) -> None:
        nonlocal calls
        calls += event == "call"

    gc.disable()  # finalizers of earlier tests would be counted
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return calls
