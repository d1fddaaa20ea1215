"""Computations with logits that several losses share. Half precision is computed in float32.

Entries are selected by comparing column numbers: the deterministic gradient of `gather` waits for a CUDA device, which a step
in a CUDA graph must not do.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from fathomlab.base.axes import Labels, Logits, PerExample

CONSTANT_EPS = 32  # deviations below this many roundings of the largest value are noise


def upcast(logits: "Tensor") -> "Tensor":
    """Return half-precision numbers in float32, and others as they are."""
    import torch

    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def per_class(option: "float | Tensor") -> "float | Tensor":
    """Reshape an option, a number or (k, 1), so that it broadcasts against (k, n, classes)."""
    return option if isinstance(option, int | float) else option.unsqueeze(-1)


def others(values: "Logits", labels: "Labels") -> "Tensor":
    """Return the entries of the classes other than the label, (k, n, classes - 1), in their order."""
    import torch

    columns = torch.arange(values.shape[-1] - 1, device=values.device)
    return torch.where(columns < labels.unsqueeze(-1), values[..., :-1], values[..., 1:])


def of_label(values: "Logits", labels: "Labels") -> "PerExample":
    """Return the entries of the label, (k, n)."""
    import torch

    columns = torch.arange(values.shape[-1], device=values.device)
    return torch.where(columns == labels.unsqueeze(-1), values, 0).sum(-1)


def divergence(log_p: "Logits", log_q: "Logits") -> "PerExample":
    """Compute KL(p || q) (nats) from logarithms over the last axis, (k, n)."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def unit_deviations(values: "Tensor", dim: int) -> "Tensor":
    """Subtract the mean along `dim`, and divide by the Euclidean norm of the result.

    The product of two results is Pearson's correlation. A constant, up to rounding, has the result 0 with gradient 0.
    """
    import torch

    limits = torch.finfo(values.dtype)
    deviations = values - values.mean(dim, keepdim=True)
    largest = deviations.detach().abs().amax(dim, keepdim=True)
    noise = CONSTANT_EPS * limits.eps * values.detach().abs().amax(dim, keepdim=True)
    varies = ~(largest <= noise.clamp(min=limits.tiny / limits.eps))  # NaN stays NaN, so that a divergence is seen
    # Scaling by the largest deviation first keeps squares of small numbers from underflow, and does not change the result.
    scaled = torch.where(varies, deviations, 0) / torch.where(varies, largest, 1)
    squares = scaled.square().sum(dim, keepdim=True)
    return scaled * torch.where(varies, squares, 1).rsqrt()
