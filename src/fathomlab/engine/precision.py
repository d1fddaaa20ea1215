"""Number formats of parameters and products."""

from contextlib import AbstractContextManager, nullcontext

import torch


def param_dtype(precision: str) -> torch.dtype:
    """Return the format of parameters, statistics, and optimizer state."""
    return torch.float64 if precision == "fp64" else torch.float32


def autocast_for(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context of forward passes: autocast for bf16, otherwise a context without effect."""
    if precision == "bf16":
        # No cache of cast weights: torch clears it only when the outermost autocast ends, and the caller's may never end.
        return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)
    return nullcontext()
