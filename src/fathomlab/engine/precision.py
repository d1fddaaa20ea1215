"""Number formats: what parameters are stored in, and what products are computed in."""

from contextlib import AbstractContextManager, nullcontext

import torch


def storage(precision: str) -> torch.dtype:
    """The format of parameters, statistics and optimiser state."""
    return torch.float64 if precision == "fp64" else torch.float32


def products(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context in which forward passes run: autocast to bf16, or nothing."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()
