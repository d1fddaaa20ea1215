"""Operations with hand-written gradients, because torch's own gradients read memory more often."""

from typing import Any

import torch
from torch import Tensor


class Affine(torch.autograd.Function):
    """x W^T + b for each replica: x (k, n, inputs), W (k, outputs, inputs), b (k, outputs).

    torch's own gradient of a transposed weight is transposed, and every optimizer step would copy it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """The product and the sum."""
        ctx.save_for_backward(x, weight)
        return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """Gradients of x, W, and b."""
        x, weight = ctx.saved_tensors
        (gradient,) = gradients
        inner = torch.bmm(gradient, weight.to(gradient.dtype)).to(x.dtype) if ctx.needs_input_grad[0] else None
        outer = torch.bmm(gradient.transpose(1, 2), x.to(gradient.dtype))
        return inner, outer.to(weight.dtype), gradient.sum(1).to(weight.dtype)


class Subsampled(torch.autograd.Function):
    """Every `stride`-th row and column of maps (n, c, h, w), with the channels last in memory.

    torch's own gradient has the channels first, so that adding it to other gradients would take a second pass.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: int) -> Tensor:
        """The pixels."""
        ctx.shape, ctx.stride = x.shape, stride
        return x[:, :, ::stride, ::stride].contiguous(memory_format=torch.channels_last)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """The gradient of these pixels; 0 for the others."""
        (gradient,) = gradients
        inner = torch.empty(
            ctx.shape, dtype=gradient.dtype, device=gradient.device, memory_format=torch.channels_last
        ).zero_()
        inner[:, :, :: ctx.stride, :: ctx.stride] = gradient
        return inner, None


class Normalized(torch.autograd.Function):
    """gamma (x - mean) / sqrt(var + eps) + beta over `axes`, with the mean and the biased variance.

    The closed-form gradient (Ioffe & Szegedy, 2015, section 3) reads the batch five times; the chain rule, operation by
    operation, reads it a dozen times. The statistics take three plain passes: torch.var_mean takes ten times as long.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, eps: float | Tensor, axes: tuple[int, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The normalized batch, its mean, and its biased variance."""
        mean = x.mean(axes, keepdim=True)
        centered = x - mean
        var = centered.square().mean(axes, keepdim=True)
        scale = torch.rsqrt(var + eps)
        centered.mul_(scale)
        ctx.save_for_backward(centered, gamma, scale)
        ctx.axes = axes
        ctx.mark_non_differentiable(mean, var)
        return torch.addcmul(beta, centered, gamma), mean, var

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, gamma, and beta."""
        normal, gamma, scale = ctx.saved_tensors
        gradient = gradients[0]
        count = normal.numel() // scale.numel()
        of_beta = gradient.sum(ctx.axes, keepdim=True)
        of_gamma = (gradient * normal).sum(ctx.axes, keepdim=True)
        slope = gamma * scale
        inner = torch.addcmul(slope * of_beta / -count, gradient, slope)
        inner = torch.addcmul(inner, normal, slope * of_gamma / -count)
        return inner, of_gamma, of_beta, None, None
