"""Chooses between fp32 and bf16."""

import torch

from fathomlab.base.errors import UserError
from fathomlab.engine.selftest import bf16_self_test
from fathomlab.models.architecture import Architecture

MIN_SPEEDUP = 1.2
FEATURES = ("avx512_bf16", "amx_bf16", "bf16")  # of processors with products in bf16; the last one of ARM


def choose_precision(requested: str, architecture: Architecture, batch_size: int, device: torch.device) -> str:
    """Choose the precision of training. bf16 must pass its self-test. `auto` selects bf16 only if steps are also faster.

    Raises:
        UserError: If bf16 is requested and does not work on this machine.
    """
    if requested not in ("bf16", "auto"):
        return requested
    if requested == "auto" and (architecture.opaque is not None or not has_bf16(device)):
        return "fp32"
    if architecture.opaque is not None:  # the self-test does not know its products
        text = "training.precision: bf16 cannot be tested for the module of a plugin. Use precision: fp32."
        raise UserError("bf16-unsupported", text)
    test = bf16_self_test(architecture, batch_size, device)
    if requested == "auto":
        return "bf16" if test.passed and test.speedup >= MIN_SPEEDUP else "fp32"
    if not test.passed:
        raise UserError("bf16-unsupported", f"training.precision: bf16 self-test {test.failure}. Use precision: fp32.")
    return requested


def has_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for products in bf16. Others emulate them, ten times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.10 may not have it
    return any(capabilities.get(name) for name in FEATURES)
