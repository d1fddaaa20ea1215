"""Number formats of parameters and products, and the choice of bf16."""

from contextlib import AbstractContextManager, nullcontext

import torch

from fathomlab.base.errors import UserError
from fathomlab.engine.selftest import SelfTest, bf16_self_test
from fathomlab.models.architecture import Architecture

MIN_SPEEDUP = 1.2


def param_dtype(precision: str) -> torch.dtype:
    """Return the format of parameters, statistics, and optimizer state."""
    return torch.float64 if precision == "fp64" else torch.float32


def autocast_for(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context of forward passes: autocast for bf16, otherwise a context without effect."""
    if precision == "bf16":
        # No cache of cast weights: torch clears it only when the outermost autocast ends, and the caller's may never end.
        return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)
    return nullcontext()


def choose_precision(requested: str, architecture: Architecture, batch_size: int, device: torch.device) -> str:
    """Choose the precision of training. bf16 must pass its self-test. `auto` selects bf16 only if it is also faster.

    Raises:
        UserError: If bf16 is requested and does not work on this machine.
    """
    if requested not in ("bf16", "auto"):
        return requested
    if architecture.opaque is not None:  # the self-test does not know its products
        if requested == "bf16":
            text = "training.precision: bf16 cannot be tested for the module of a plugin. Use precision: fp32."
            raise UserError("bf16-unsupported", text)
        return "fp32"
    test = bf16_self_test(architecture, batch_size, device)
    if requested == "auto":
        return "bf16" if test.passed and test.speedup >= MIN_SPEEDUP else "fp32"
    if not test.passed:
        raise UserError("bf16-unsupported", f"training.precision: {_failure(test)}. Use precision: fp32.")
    return requested


def _failure(test: SelfTest) -> str:
    if test.exit_reason:
        return f"bf16 self-test ended on layer {test.worst_layer} ({test.exit_reason})"
    return f"bf16 self-test failed on layer {test.worst_layer} ({test.max_relative_error:.1%} error)"
