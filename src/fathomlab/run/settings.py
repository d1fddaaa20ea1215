"""How this process computes: one thread, no denormals, memory kept; put back when training in the caller's process ends."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def computing() -> Iterator[None]:
    """One thread a process (results depend on the count, and several processes fill the cores) and denormals flushed.

    Plain deep networks have squared gradients of 1e-36 and below, and arithmetic on such numbers is up to 30 times slower.
    """
    threads = torch.get_num_threads()
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
