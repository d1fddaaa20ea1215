"""Operations with hand-written gradients, which read memory less often than the gradients of torch."""

from typing import Any

import torch
from torch import Tensor


class BatchedLinear(torch.autograd.Function):
    """x W^T + b per replica: x (k, n, in_features), W (k, out_features, in_features), b (k, out_features).

    The gradient of torch for a transposed weight is transposed, and every optimizer step would copy it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Compute x W^T + b."""
        ctx.save_for_backward(x, weight)
        return torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        """Compute the gradients of x, W, and b."""
        x, weight = ctx.saved_tensors
        (gradient,) = gradients
        inner = torch.bmm(gradient, weight.to(gradient.dtype)).to(x.dtype) if ctx.needs_input_grad[0] else None
        outer = torch.bmm(gradient.transpose(1, 2), x.to(gradient.dtype))
        return inner, outer.to(weight.dtype), gradient.sum(1).to(weight.dtype)


class Subsample(torch.autograd.Function):
    """Every `stride`-th row and column of maps (n, c, h, w), with channels last in memory.

    The gradient of torch has channels first, so adding it to other gradients would take a second pass over memory.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: int) -> Tensor:
        """Select the pixels."""
        ctx.shape, ctx.stride = x.shape, stride
        return x[:, :, ::stride, ::stride].contiguous(memory_format=torch.channels_last)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Compute the gradient of x: 0 for pixels that are not selected."""
        (gradient,) = gradients
        inner = torch.empty(
            ctx.shape, dtype=gradient.dtype, device=gradient.device, memory_format=torch.channels_last
        ).zero_()
        inner[:, :, :: ctx.stride, :: ctx.stride] = gradient
        return inner, None


class BatchNormFunction(torch.autograd.Function):
    """gamma (x - mean) / sqrt(var + eps) + beta over `axes`, with the mean and the biased variance.

    The closed-form gradient (Ioffe & Szegedy, 2015, section 3) reads the batch five times. Automatic differentiation reads it
    a dozen times. The statistics take three simple passes; torch.var_mean takes ten times as long.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, eps: float | Tensor, axes: tuple[int, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the normalized batch, its mean, and its biased variance."""
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
        """Compute the gradients of x, gamma, and beta."""
        normalized, gamma, scale = ctx.saved_tensors
        gradient = gradients[0]
        count = normalized.numel() // scale.numel()
        grad_beta = gradient.sum(ctx.axes, keepdim=True)
        grad_gamma = (gradient * normalized).sum(ctx.axes, keepdim=True)
        slope = gamma * scale
        inner = torch.addcmul(slope * grad_beta / -count, gradient, slope)
        inner = torch.addcmul(inner, normalized, slope * grad_gamma / -count)
        return inner, grad_gamma, grad_beta, None, None
