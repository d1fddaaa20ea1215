"""Batch norm of maps by maps.cpp, together with the addition and the ReLU that follow it."""

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fathomlab.engine.network import ForwardPass
from fathomlab.models.layers import BatchNorm, Layer, Layers, ParameterFree, Residual, Shortcut

RELU = ParameterFree("ReLU")
PLAIN, ACTIVE, ADDED = range(3)  # `Kind` of maps.cpp
SUFFIXES = {torch.bfloat16: "_bf16"}


class MapsPass(ForwardPass):
    """A forward pass in mode `train` of a network with one replica."""

    def __init__(self, library: ctypes.CDLL, *options: Any):
        """Keep the library; `options` are those of `ForwardPass`."""
        super().__init__(*options)
        assert self.replicas == 1, "replicas run one after the other"
        self._library = library

    def layers(self, layers: Layers, x: Tensor, path: str) -> Tensor:
        """Run `layers` in their order; a batch norm of maps includes the layers that follow it."""
        index = 0
        while index < len(layers):
            active = layers[index + 1 : index + 2] == (RELU,)
            here, joined = f"{path}{index}.", x.dim() == 4 and _ends_in_norm(layers[index], active)
            x = self._joined(layers[index], x, here, active) if joined else self.layer(layers[index], x, here)
            index += 2 if joined and active else 1
        return x

    def _joined(self, layer: Layer, x: Tensor, path: str, active: bool) -> Tensor:
        """A batch norm, or a block that ends in one, with the ReLU that follows."""
        if isinstance(layer, BatchNorm):
            return self._norm(layer, x, None, active)
        assert isinstance(layer, Residual | Shortcut)
        *branch, last = layer.branch
        assert isinstance(last, BatchNorm)
        inside = self.layers(tuple(branch), x, f"{path}b")
        if isinstance(layer, Shortcut):
            return self._norm(last, inside, self.layers(layer.shortcut, x, f"{path}s"), active)
        return self._norm(last, inside, x if layer.enabled else None, active)

    def _norm(self, layer: BatchNorm, x: Tensor, added: Tensor | None, active: bool) -> Tensor:
        gamma, beta = self.params[f"{layer.name}.weight"], self.params[f"{layer.name}.bias"]
        running = tuple(self.buffers[f"{layer.name}.running_{kind}"] for kind in ("mean", "var"))
        return MapsNorm.apply(self._library, x, added, gamma, beta, running, layer.eps, active)


def _ends_in_norm(layer: Layer, active: bool) -> bool:
    """Whether a layer is a batch norm, or a block that ends in one and has a ReLU after its addition."""
    if isinstance(layer, Residual | Shortcut):
        return active and isinstance(layer.branch[-1], BatchNorm)
    return isinstance(layer, BatchNorm)


class MapsNorm(torch.autograd.Function):
    """relu(gamma (x - mean) / sqrt(var + eps) + beta + added) for maps (n, c, h, w) of one replica, in training.

    The running statistics are updated. `added` may be None. Without `active`, there is neither addition nor ReLU.
    """

    @staticmethod
    def forward(
        ctx: Any,
        library: ctypes.CDLL,
        x: Tensor,
        added: Tensor | None,
        gamma: Tensor,
        beta: Tensor,
        running: tuple[Tensor, ...],
        eps: float,
        active: bool,
    ) -> Tensor:
        """Compute the maps."""
        x, added = _channels_last(x), None if added is None else _channels_last(added.to(x.dtype))
        h, mean, scale = torch.empty_like(x), torch.empty_like(gamma), torch.empty_like(gamma)
        ctx.library, ctx.kind = library, PLAIN if not active else ACTIVE if added is None else ADDED
        norm = _norm(x, ctx.kind, eps, gamma, beta, mean, scale, *running)
        _function(library, "maps_forward", x)(norm, _pointer(x), _pointer(added), _pointer(h))
        ctx.save_for_backward(x, None if added is None else h, gamma, beta, mean, scale)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Compute the gradients of x, `added`, gamma, and beta."""
        x, h, gamma, beta, mean, scale = ctx.saved_tensors
        dh = _channels_last(gradients[0])
        dx, dadded = torch.empty_like(x), None if h is None else torch.empty_like(x)
        dgamma, dbeta = torch.empty_like(gamma), torch.empty_like(beta)
        norm = _norm(x, ctx.kind, 0.0, gamma, beta, mean, scale, None, None, dgamma, dbeta)
        maps = (_pointer(tensor) for tensor in (x, h, dh, dx, dadded))
        _function(ctx.library, "maps_backward", x)(norm, *maps)
        return None, dx, dadded, dgamma, dbeta, None, None, None


class _Norm(ctypes.Structure):
    """`Norm` of maps.cpp."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("rows", "channels", "kind")),
        ("eps", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in ("gamma", "beta", "mean", "scale")),
        *((name, ctypes.c_void_p) for name in ("running_mean", "running_variance", "dgamma", "dbeta")),
    ]


def _norm(x: Tensor, kind: int, eps: float, *vectors: Tensor | None) -> Any:
    """A reference to the arguments that are not maps."""
    channels = x.shape[1]
    addresses = (None if vector is None else vector.data_ptr() for vector in vectors)
    return ctypes.byref(_Norm(x.numel() // channels, channels, kind, eps, *addresses))


def _function(library: ctypes.CDLL, name: str, x: Tensor) -> Any:
    return getattr(library, name + SUFFIXES.get(x.dtype, ""))


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
