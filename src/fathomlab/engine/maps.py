"""Batch norm of maps by maps.cpp, together with the addition, the ReLU, and the max-pooling that follow it."""

import ctypes
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fathomlab.engine.network import ForwardPass
from fathomlab.models.layers import BatchNorm, Layer, Layers, ParameterFree, Residual, Shortcut, Tap

RELU, POOL = ParameterFree("ReLU"), ParameterFree("MaxPool")
POOLED_CHANNELS = 64  # multiples of it are whole groups of vectors in maps.cpp, of every instruction set
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
            layer, here = layers[index], f"{path}{index}."
            pooled = _pooled(layers[index : index + 4], self.taps is None) if x.dim() == 4 else 0
            active = layers[index + 1 : index + 2] == (RELU,)
            joined = x.dim() == 4 and _ends_in_norm(layer, active)
            if pooled and isinstance(layer, BatchNorm):
                x = MapsPool.apply(self._library, x, *self._tensors(layer))
            else:
                x = self._joined(layer, x, here, active) if joined else self.layer(layer, x, here)
            index += pooled or (2 if joined and active else 1)
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
        return MapsNorm.apply(self._library, x, added, *self._tensors(layer), active)

    def _tensors(self, layer: BatchNorm) -> tuple[Tensor, Tensor, tuple[Tensor, ...], float]:
        """Gamma, beta, running mean and variance, and eps."""
        gamma, beta = self.params[f"{layer.name}.weight"], self.params[f"{layer.name}.bias"]
        running = tuple(self.buffers[f"{layer.name}.running_{kind}"] for kind in ("mean", "var"))
        return gamma, beta, running, layer.eps


def _pooled(layers: Layers, skips_taps: bool) -> int:
    """How many of these layers are a batch norm with ReLU and max-pooling, which are computed together; 0 if others follow."""
    norm, *rest = layers
    if not isinstance(norm, BatchNorm) or norm.features % POOLED_CHANNELS:
        return 0
    if rest[:2] == [RELU, POOL]:
        return 3
    return 4 if skips_taps and rest[::2] == [RELU, POOL] and isinstance(rest[1], Tap) else 0


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


class MapsPool(torch.autograd.Function):
    """As `MapsNorm` with ReLU, and then max-pooling with kernel 3, stride 2, and padding 1. Channels are whole groups."""

    @staticmethod
    def forward(
        ctx: Any, library: ctypes.CDLL, x: Tensor, gamma: Tensor, beta: Tensor, running: tuple[Tensor, ...], eps: float
    ) -> Tensor:
        """Compute the pooled maps; keeps the x that each number comes from, and its index in the window."""
        x = _channels_last(x)
        images, channels, height, width = x.shape
        shape = (images, channels, (height + 1) // 2, (width + 1) // 2)
        h, kept = (torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last) for _ in range(2))
        indices = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)
        mean, scale = torch.empty_like(gamma), torch.empty_like(gamma)
        norm = _norm(x, ACTIVE, eps, gamma, beta, mean, scale, *running)
        maps = (_pointer(tensor) for tensor in (x, h, kept, indices))
        _function(library, "maps_pool_forward", x)(norm, _pool(x), *maps)
        ctx.library = library
        ctx.save_for_backward(x, kept, indices, gamma, beta, mean, scale)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Compute the gradients of x, gamma, and beta."""
        x, kept, indices, gamma, beta, mean, scale = ctx.saved_tensors
        dh = _channels_last(gradients[0])
        dx, dgamma, dbeta = torch.empty_like(x), torch.empty_like(gamma), torch.empty_like(beta)
        norm = _norm(x, ACTIVE, 0.0, gamma, beta, mean, scale, None, None, dgamma, dbeta)
        maps = (_pointer(tensor) for tensor in (x, kept, indices, dh, dx))
        _function(ctx.library, "maps_pool_backward", x)(norm, _pool(x), *maps)
        return None, dx, dgamma, dbeta, None, None


class _Pool(ctypes.Structure):
    """`Pool` of maps.cpp."""

    _fields_ = [(name, ctypes.c_int64) for name in ("images", "height", "width")]


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


def _pool(x: Tensor) -> Any:
    images, _, height, width = x.shape
    return ctypes.byref(_Pool(images, height, width))


def _function(library: ctypes.CDLL, name: str, x: Tensor) -> Any:
    return getattr(library, name + SUFFIXES.get(x.dtype, ""))


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
