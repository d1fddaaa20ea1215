"""Runs architectures as one tensor program in which every layer carries the replica axis.

Dense features have the layout (k, n, d), feature maps (n, k * c, h, w): batched products and grouped convolutions are then
single calls, and batch normalization of maps is per replica without further work. A single net is a pack of one.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fathomlab.base.noise import mix, uniform
from fathomlab.base.packing import signature
from fathomlab.base.shapes import Images, Logits
from fathomlab.engine.functions import Affine, Normalized, Subsampled
from fathomlab.models.architecture import Architecture
from fathomlab.models.layers import (
    BatchNorm,
    Conv2d,
    Dropout,
    Layer,
    Layers,
    Linear,
    Pad,
    Plain,
    Residual,
    Scale,
    Shortcut,
    Tap,
    inside_shortcut,
)

Mode = Literal["train", "measure", "eval"]
Values = Mapping[str, Tensor]
MOMENTUM = 0.1
VECTOR_WIDTH = 16  # float32 numbers in the widest vector register, of AVX-512
ACTIVATE = {
    "Identity": lambda x: x,
    "ReLU": F.relu,
    "LeakyReLU": F.leaky_relu,
    "ELU": F.elu,
    "GELU": F.gelu,
    "SiLU": F.silu,
    "Tanh": torch.tanh,
    "Sigmoid": torch.sigmoid,
}


class Network:
    """The tensor program of a pack.

    Modes: `train` uses batch statistics, moves the running ones and drops out; `measure` uses batch statistics and changes
    nothing; `eval` uses the running statistics.
    """

    def __init__(self, architectures: Sequence[Architecture], device: torch.device | str = "cpu"):
        """Join the architectures of a pack, one a replica.

        Raises:
            ValueError: Their signatures differ, so they cannot be one program.
        """
        if len({signature(architecture) for architecture in architectures}) != 1:
            raise ValueError("the architectures of a pack must have one signature")
        self.architecture = architectures[0]
        self.replicas = len(architectures)
        self._varying: dict[str, Tensor] = {}
        columns = [tuple(_options(architecture.layers)) for architecture in architectures]
        for rows in zip(*columns, strict=True):
            name, values = rows[0][0], [value for _, value in rows]
            if len(set(values)) > 1:
                kind = torch.bool if isinstance(values[0], bool) else torch.float64
                self._varying[name] = torch.tensor(values, device=device, dtype=kind)

    def buffers(self, dtype: torch.dtype, device: torch.device | str) -> dict[str, Tensor]:
        """Fresh running statistics, mean 0 and variance 1, each (k, features)."""
        made = {}
        for name, features in norms(self.architecture.layers):
            made[f"{name}.running_mean"] = torch.zeros(self.replicas, features, dtype=dtype, device=device)
            made[f"{name}.running_var"] = torch.ones(self.replicas, features, dtype=dtype, device=device)
        return made

    def __call__(
        self,
        values: Values,
        buffers: Values,
        images: Images,
        mode: Mode,
        keys: Tensor | None = None,
        taps: list[Tensor] | None = None,
    ) -> Logits:
        """Logits of a batch for each replica.

        Args:
            values: Learned tensors by name, each (k, *shape).
            buffers: Running statistics by name; moved in place in mode `train` only.
            images: Normalized images, (k, n, c, h, w).
            mode: Which statistics are used, and whether dropout acts.
            keys: One random key for each replica and step, (k,) int64; needed where there is dropout in mode `train`.
            taps: Filled with the tensor at every tap, in the network's order.
        """
        x: Tensor = images
        if self.architecture.convolutional:
            x = _to_maps(images)
        run = _Run(values, buffers, mode, keys, taps, self.replicas, self._varying)
        x = run.layers(self.architecture.layers, x, "")
        return x


class _Run:
    """One forward pass: what the layers read besides their input."""

    def __init__(
        self,
        values: Values,
        buffers: Values,
        mode: Mode,
        keys: Tensor | None,
        taps: list[Tensor] | None,
        replicas: int,
        varying: Values,
    ):
        self.values, self.buffers, self.mode, self.keys, self.taps = values, buffers, mode, keys, taps
        self.replicas, self.varying = replicas, varying

    def layers(self, layers: Layers, x: Tensor, place: str) -> Tensor:
        """Run `layers` in their order."""
        for number, layer in enumerate(layers):
            x = self.layer(layer, x, f"{place}{number}.")
        return x

    def layer(self, layer: Layer, x: Tensor, place: str) -> Tensor:
        """Run one layer; `place` names it among the options that vary."""
        match layer:
            case Linear():
                return self._linear(layer, x)
            case Conv2d():
                return convolve(layer, x, self.values[f"{layer.name}.weight"].flatten(0, 1), self.replicas)
            case BatchNorm():
                return self._norm(layer, x, self.varying.get(place))
            case Residual() | Shortcut():
                return self._residual(layer, x, place)
            case Dropout():
                return self._dropout(layer, x, self.varying.get(place))
            case Scale():
                return x * _along(self.values[f"{layer.name}.weight"], x, self.replicas)
            case Tap():
                if self.taps is not None:
                    self.taps.append(x)
                return x
            case Plain() | Pad():
                return self._pad(layer, x) if isinstance(layer, Pad) else self._plain(layer.kind, x)

    def _plain(self, kind: str, x: Tensor) -> Tensor:
        if kind == "Flatten":
            return x.flatten(2)
        if kind == "MaxPool":
            return F.max_pool2d(x, 3, 2, 1)
        if kind == "MeanPool":
            return x.mean((2, 3)).unflatten(1, (self.replicas, -1)).transpose(0, 1)
        return ACTIVATE[kind](x)

    def _linear(self, layer: Linear, x: Tensor) -> Tensor:
        return Affine.apply(x, self.values[f"{layer.name}.weight"], self.values[f"{layer.name}.bias"])

    def _pad(self, layer: Pad, x: Tensor) -> Tensor:
        maps = x[:, :, :: layer.stride, :: layer.stride].unflatten(1, (self.replicas, -1))
        return F.pad(maps, (0, 0, 0, 0, 0, layer.outputs - layer.inputs)).flatten(1, 2)

    def _residual(self, layer: Residual | Shortcut, x: Tensor, place: str) -> Tensor:
        branch = self.layers(layer.branch, x, f"{place}b")
        if isinstance(layer, Shortcut):
            return branch + self.layers(layer.shortcut, x, f"{place}s")
        on = self.varying.get(place)
        if on is None and not layer.on:
            return branch
        return branch + x if on is None else torch.where(_along(on, x, self.replicas), branch + x, branch)

    def _dropout(self, layer: Dropout, x: Tensor, rates: Tensor | None) -> Tensor:
        if self.mode != "train" or (rates is None and layer.rate == 0):
            return x
        assert self.keys is not None, "dropout needs keys"
        rate = layer.rate if rates is None else rates.float().view(-1, 1, 1)
        cells = torch.arange(x[0].numel(), device=x.device).view(1, *x.shape[1:])
        keep = uniform(mix(mix(self.keys, layer.place).view(-1, 1, 1), cells)) >= rate
        return x * keep / (1 - (rate if rates is None else rates.to(x.dtype).view(-1, 1, 1)))

    def _norm(self, layer: BatchNorm, x: Tensor, eps: Tensor | None) -> Tensor:
        gamma, beta = self.values[f"{layer.name}.weight"], self.values[f"{layer.name}.bias"]
        mean, var = self.buffers[f"{layer.name}.running_mean"], self.buffers[f"{layer.name}.running_var"]
        batch = self.mode != "eval"
        single = batch and x.numel() == self.replicas * layer.features  # torch refuses one value a channel
        if x.dim() == 4 and eps is None and not single:
            running = (mean.view(-1), var.view(-1)) if self.mode != "measure" else (None, None)
            return F.batch_norm(x, *running, gamma.view(-1), beta.view(-1), batch, MOMENTUM, layer.eps)
        axes, shape = ((0, 2, 3), (1, -1, 1, 1)) if x.dim() == 4 else ((1,), (self.replicas, 1, -1))
        added = layer.eps if eps is None else _along(eps.to(x.dtype), x, self.replicas)
        if self.mode == "eval":
            scale = gamma.view(shape) * torch.rsqrt(var.view(shape) + added)
            return (x - mean.view(shape)) * scale + beta.view(shape)
        made, center, spread = Normalized.apply(x, gamma.view(shape), beta.view(shape), added, axes)
        if self.mode == "train":
            self._move(mean, var, center, spread, x.numel() // spread.numel())
        return made

    @torch.no_grad()
    def _move(self, mean: Tensor, var: Tensor, center: Tensor, spread: Tensor, count: int) -> None:
        """The running statistics; the running variance takes the unbiased batch variance."""
        mean.lerp_(center.detach().view_as(mean).to(mean.dtype), MOMENTUM)
        unbiased = spread.detach().view_as(var).to(var.dtype) * (count / max(count - 1, 1))
        var.lerp_(unbiased, MOMENTUM)


def convolve(layer: Conv2d, x: Tensor, weight: Tensor, replicas: int) -> Tensor:
    """Convolve maps (n, k * c, h, w) with kernels (k * outputs, inputs, size, size), one group per replica.

    On a CPU, a narrow 1x1 convolution with a stride reads the subsampled maps with stride 1, which is the same sum. The strided
    kernel of oneDNN (torch 2.13.0, AVX2, float32, channels last) writes past the end of a buffer if the
    channels do not fill a vector register, and the process dies some time later.
    """
    stride = layer.stride
    if layer.kernel == 1 and stride > 1 and layer.inputs < VECTOR_WIDTH and x.device.type == "cpu":
        x, stride = Subsampled.apply(x, stride), 1
    return F.conv2d(x, weight, None, stride, layer.kernel // 2, 1, replicas)


def _to_maps(images: Images) -> Tensor:
    maps = images[0] if images.shape[0] == 1 else images.transpose(0, 1).flatten(1, 2)
    return maps.contiguous(memory_format=torch.channels_last)


def _along(per_replica: Tensor, x: Tensor, replicas: int) -> Tensor:
    """A value a replica, shaped to act on features (k, n, d) or maps (n, k * c, h, w)."""
    if x.dim() == 3:
        return per_replica.view(-1, 1, 1)
    return per_replica.repeat_interleave(x.shape[1] // replicas).view(1, -1, 1, 1)


def _options(layers: Layers, place: str = "") -> list[tuple[str, float | bool]]:
    """The options that may differ within a pack, by the place of their layer."""
    found: list[tuple[str, float | bool]] = []
    for number, layer in enumerate(layers):
        here = f"{place}{number}."
        match layer:
            case Residual() | Shortcut():
                found += [(here, layer.on)] if isinstance(layer, Residual) else []
                found += _options(layer.branch, f"{here}b") + _options(inside_shortcut(layer), f"{here}s")
            case Dropout():
                found.append((here, layer.rate))
            case BatchNorm():
                found.append((here, layer.eps))
            case _:
                pass
    return found


def norms(layers: Layers) -> list[tuple[str, int]]:
    """Names and features of the batch normalizations, in the network's order."""
    found: list[tuple[str, int]] = []
    for layer in layers:
        if isinstance(layer, BatchNorm):
            found.append((layer.name, layer.features))
        elif isinstance(layer, Residual | Shortcut):
            found += norms(layer.branch) + norms(inside_shortcut(layer))
    return found
