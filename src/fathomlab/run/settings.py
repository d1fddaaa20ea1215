"""How this process computes: one thread, no denormals, the same kernels each time; put back when training ends."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def computing() -> Iterator[None]:
    """One thread a process (results depend on the count, and several processes fill the cores) and denormals flushed.

    Plain deep networks have squared gradients of 1e-36 and below, and arithmetic on such numbers is up to 30 times slower.
    On a CUDA device convolutions are the deterministic ones, so that an interrupted trial goes on with the same bits, and fp32
    means fp32: torch would take TF32, with ten bits of mantissa, for them.
    """
    cudnn = torch.backends.cudnn
    threads, before = torch.get_num_threads(), (cudnn.deterministic, cudnn.allow_tf32)
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    cudnn.deterministic, cudnn.allow_tf32 = True, False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
        cudnn.deterministic, cudnn.allow_tf32 = before
