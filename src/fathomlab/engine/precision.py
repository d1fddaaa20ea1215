"""Number formats: what parameters are stored in, what products are computed in, and whether bf16 works on this machine."""

from contextlib import AbstractContextManager, nullcontext

import torch

from fathomlab.base.problems import UserError
from fathomlab.engine.selftest import SelfTest, bf16_self_test
from fathomlab.models.architecture import Architecture

WORTHWHILE = 1.2


def storage(precision: str) -> torch.dtype:
    """The format of parameters, statistics, and optimizer state."""
    return torch.float64 if precision == "fp64" else torch.float32


def products(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context in which forward passes run: autocast to bf16, or nothing."""
    if precision == "bf16":
        # No cache of cast weights: torch clears it only when the outermost autocast ends, and the caller's may never do so.
        return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)
    return nullcontext()


def choose_precision(requested: str, architecture: Architecture, batch: int, device: torch.device) -> str:
    """Choose the precision to train in. bf16 must pass its self-test; `auto` selects it only if it is also faster.

    Raises:
        UserError: If bf16 is requested and does not work on this machine.
    """
    if requested not in ("bf16", "auto"):
        return requested
    test = bf16_self_test(architecture, batch, device)
    if requested == "auto":
        return "bf16" if test.passed and test.speedup >= WORTHWHILE else "fp32"
    if not test.passed:
        raise UserError("bf16-unsupported", f"training.precision: {_failure(test)}. Use precision: fp32.")
    return requested


def _failure(test: SelfTest) -> str:
    if test.death:
        return f"bf16 self-test ended on layer {test.worst} ({test.death})"
    return f"bf16 self-test failed on layer {test.worst} ({test.error:.1%} error)"
