"""How this process computes: one thread, no denormals, the same kernels each time; put back when training ends."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def computing() -> Iterator[None]:
    """One thread a process (results depend on the count, and several processes fill the cores) and denormals flushed.

    Plain deep networks have squared gradients of 1e-36 and below, and arithmetic on such numbers is up to 30 times slower.
    Operations whose result may differ from call to call are refused, with their name as the cause; on a CUDA device torch warns
    of them instead. There convolutions are the deterministic ones, and fp32 means fp32: torch would take TF32, with ten bits of
    mantissa, for them.
    """
    cudnn: Any = torch.backends.cudnn
    fills: Any = torch.utils.deterministic  # type: ignore[attr-defined]
    cuda = torch.cuda.is_available()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts; without it products may differ
    threads, before = torch.get_num_threads(), (cudnn.deterministic, cudnn.allow_tf32, cudnn.benchmark)
    strict = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = fills.fill_uninitialized_memory
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=cuda)
    fills.fill_uninitialized_memory = False
    cudnn.deterministic, cudnn.allow_tf32, cudnn.benchmark = True, False, False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
        torch.use_deterministic_algorithms(strict[0], warn_only=strict[1])
        fills.fill_uninitialized_memory = filled
        cudnn.deterministic, cudnn.allow_tf32, cudnn.benchmark = before


def deterministic() -> str:
    """The mode that provenance names: `strict`, `warned` or `off`."""
    if not torch.are_deterministic_algorithms_enabled():
        return "off"
    return "warned" if torch.is_deterministic_algorithms_warn_only_enabled() else "strict"
