"""Runs the architectures of a pack as one tensor program. Every layer has the replica axis.

Dense features have the layout (k, n, d), feature maps (n, k * c, h, w). Batched products and grouped convolutions are then
single calls, and batch normalization of maps is per replica. A single network is a pack of one.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from fathomlab.base.axes import Images, Logits
from fathomlab.base.counter_rng import splitmix64, uniform
from fathomlab.base.packing import signature
from fathomlab.engine.autograd_functions import BatchedLinear, BatchNormFunction
from fathomlab.engine.convolution import convolve
from fathomlab.engine.opaque import OpaqueProgram
from fathomlab.models.architecture import Architecture, walk
from fathomlab.models.layers import (
    BatchNorm,
    Conv2d,
    Dropout,
    Layer,
    Layers,
    Linear,
    Multiply,
    Pad,
    ParameterFree,
    Residual,
    Scale,
    Shortcut,
    Tap,
    inside_shortcut,
)
from fathomlab.models.opaque import Opaque

Mode = Literal["train", "probe", "eval"]
Params = Mapping[str, Tensor]
MOMENTUM = 0.1
ACTIVATIONS = {
    "Identity": lambda x: x,
    "ReLU": F.relu,
    "LeakyReLU": F.leaky_relu,
    "ELU": F.elu,
    "GELU": F.gelu,
    "SiLU": F.silu,
    "Tanh": torch.tanh,
    "Sigmoid": torch.sigmoid,
}


class PackedNetwork:
    """The tensor program of a pack.

    There are three modes. `train` uses batch statistics, updates the running statistics, and applies dropout. `probe` uses
    batch statistics without side effects. `eval` uses the running statistics.
    """

    def __init__(self, architectures: Sequence[Architecture], device: torch.device | str = "cpu"):
        """Join the architectures of a pack, one per replica.

        Raises:
            ValueError: If the signatures differ, so that the architectures cannot be one program.
        """
        if len({signature(architecture) for architecture in architectures}) != 1:
            raise ValueError("the architectures of a pack must have one signature")
        self.architectures = tuple(architectures)
        self.replicas = len(architectures)
        self.training_pass: Callable[..., ForwardPass] = ForwardPass  # a backend may replace both by a subclass
        self.evaluation_pass: Callable[..., ForwardPass] = ForwardPass
        opaque = self.architecture.opaque
        self._program = OpaqueProgram(opaque, device) if opaque is not None else None
        self._varying: dict[str, Tensor] = {}
        columns = [tuple(_varying_options(architecture.layers)) for architecture in architectures]
        for rows in zip(*columns, strict=True):
            path, values = rows[0][0], [value for _, value in rows]
            if len(set(values)) > 1:
                dtype = torch.bool if isinstance(values[0], bool) else torch.float64
                self._varying[path] = torch.tensor(values, device=device, dtype=dtype)

    @property
    def architecture(self) -> Architecture:
        """That of the first replica. The others differ only in options of layers."""
        return self.architectures[0]

    @property
    def varies(self) -> bool:
        """Whether options differ within the pack."""
        return bool(self._varying)

    def buffers(self, dtype: torch.dtype, device: torch.device | str, seeds: Sequence[int] = ()) -> dict[str, Tensor]:
        """Create running statistics with mean 0 and variance 1, each (k, features), and the buffers of a user's module.

        Args:
            dtype: Format of the statistics.
            device: Where they are created.
            seeds: One per replica; read only by users' modules.
        """
        buffers: dict[str, Tensor] = {}
        if self._program is not None:
            return self._program.buffers(dtype, seeds or [0] * self.replicas)
        for name, features in batch_norms(self.architecture.layers):
            buffers[f"{name}.running_mean"] = torch.zeros(self.replicas, features, dtype=dtype, device=device)
            buffers[f"{name}.running_var"] = torch.ones(self.replicas, features, dtype=dtype, device=device)
        return buffers

    def __call__(
        self,
        params: Params,
        buffers: Params,
        images: Images,
        mode: Mode,
        keys: Tensor | None = None,
        taps: list[Tensor] | None = None,
    ) -> Logits:
        """Compute the logits of a batch for each replica.

        Args:
            params: Learned tensors by name, each (k, *shape).
            buffers: Running statistics by name. They are updated in place only in mode `train`.
            images: Normalized images, (k, n, c, h, w).
            mode: `train`, `probe`, or `eval`.
            keys: One random key per replica and step, (k,) int64; required for dropout in mode `train`.
            taps: Receives the tensor at every tap, in the order of the forward pass.
        """
        if self._program is not None:
            return self._program(params, buffers, images, mode, keys, taps)
        run = {"train": self.training_pass, "probe": ForwardPass, "eval": self.evaluation_pass}[mode]
        forward_pass = run(params, buffers, mode, keys, taps, self.replicas, self._varying)
        x = _to_maps(images) if self.architecture.convolutional else images
        return forward_pass.layers(self.architecture.layers, x, "")

    def pooled_maps(self, params: Params, buffers: Params, images: Images) -> Float[Tensor, "n channels height width"]:
        """Compute the maps before the global average pooling with running statistics; the channels of replicas are joined.

        Args:
            params: Learned tensors by name, each (k, *shape), of a network that ends with pooling and a linear layer.
            buffers: Running statistics by name.
            images: Normalized images, (k, n, c, h, w).
        """
        forward_pass = ForwardPass(params, buffers, "eval", None, None, self.replicas, self._varying)
        return forward_pass.layers(self.architecture.layers[:-2], _to_maps(images), "")


class ForwardPass:
    """One forward pass: what layers read in addition to their input."""

    def __init__(
        self,
        params: Params,
        buffers: Params,
        mode: Mode,
        keys: Tensor | None,
        taps: list[Tensor] | None,
        replicas: int,
        varying: Params,
    ):
        self.params, self.buffers, self.mode, self.keys, self.taps = params, buffers, mode, keys, taps
        self.replicas, self.varying = replicas, varying

    def layers(self, layers: Layers, x: Tensor, path: str) -> Tensor:
        """Run `layers` in their order."""
        for index, layer in enumerate(layers):
            x = self.layer(layer, x, f"{path}{index}.")
        return x

    def layer(self, layer: Layer, x: Tensor, path: str) -> Tensor:
        """Run one layer. `path` is its key in `varying`."""
        match layer:
            case Linear():
                return self._linear(layer, x)
            case Conv2d():
                return convolve(layer, x, self.params[f"{layer.name}.weight"].flatten(0, 1), self.replicas)
            case BatchNorm():
                return self._batch_norm(layer, x, self.varying.get(path))
            case Residual() | Shortcut():
                return self._residual(layer, x, path)
            case Dropout():
                return self._dropout(layer, x, self.varying.get(path))
            case Scale():
                return x * _broadcast_replicas(self.params[f"{layer.name}.weight"], x, self.replicas)
            case Tap():
                if self.taps is not None:
                    self.taps.append(x)
                return x
            case ParameterFree() | Multiply() | Pad() | Opaque():
                return self._fixed(layer, x)

    def _fixed(self, layer: ParameterFree | Multiply | Pad | Opaque, x: Tensor) -> Tensor:
        assert not isinstance(layer, Opaque), "a user's module is a complete network"
        if isinstance(layer, Multiply):
            return x * layer.factor
        return self._pad(layer, x) if isinstance(layer, Pad) else self._parameter_free(layer.kind, x)

    def _parameter_free(self, kind: str, x: Tensor) -> Tensor:
        if kind == "Flatten":
            return x.flatten(2)
        if kind == "MaxPool":
            return F.max_pool2d(x, 3, 2, 1)
        if kind == "MeanPool":
            return x.mean((2, 3)).unflatten(1, (self.replicas, -1)).transpose(0, 1)
        return ACTIVATIONS[kind](x)

    def _linear(self, layer: Linear, x: Tensor) -> Tensor:
        return BatchedLinear.apply(x, self.params[f"{layer.name}.weight"], self.params[f"{layer.name}.bias"])

    def _pad(self, layer: Pad, x: Tensor) -> Tensor:
        maps = x[:, :, :: layer.stride, :: layer.stride].unflatten(1, (self.replicas, -1))
        return F.pad(maps, (0, 0, 0, 0, 0, layer.out_channels - layer.in_channels)).flatten(1, 2)

    def _residual(self, layer: Residual | Shortcut, x: Tensor, path: str) -> Tensor:
        branch = self.layers(layer.branch, x, f"{path}b")
        if isinstance(layer, Shortcut):
            return branch + self.layers(layer.shortcut, x, f"{path}s")
        enabled = self.varying.get(path)
        if enabled is None:
            return branch + x if layer.enabled else branch
        return torch.where(_broadcast_replicas(enabled, x, self.replicas), branch + x, branch)

    def _dropout(self, layer: Dropout, x: Tensor, per_replica: Tensor | None) -> Tensor:
        if self.mode != "train" or (per_replica is None and layer.p == 0):
            return x
        assert self.keys is not None, "dropout needs keys"
        p = layer.p if per_replica is None else per_replica.float().view(-1, 1, 1)
        cells = torch.arange(x[0].numel(), device=x.device).view(1, *x.shape[1:])
        keep = uniform(splitmix64(splitmix64(self.keys, layer.layer_index).view(-1, 1, 1), cells)) >= p
        return x * keep / (1 - (p if per_replica is None else per_replica.to(x.dtype).view(-1, 1, 1)))

    def _batch_norm(self, layer: BatchNorm, x: Tensor, eps_per_replica: Tensor | None) -> Tensor:
        gamma, beta = self.params[f"{layer.name}.weight"], self.params[f"{layer.name}.bias"]
        mean, var = self.buffers[f"{layer.name}.running_mean"], self.buffers[f"{layer.name}.running_var"]
        use_batch = self.mode != "eval"
        single = use_batch and x.numel() == self.replicas * layer.features  # torch rejects one value per channel
        if x.dim() == 4 and eps_per_replica is None and not single:
            running = (mean.view(-1), var.view(-1)) if self.mode != "probe" else (None, None)
            return F.batch_norm(x, *running, gamma.view(-1), beta.view(-1), use_batch, MOMENTUM, layer.eps)
        axes, shape = ((0, 2, 3), (1, -1, 1, 1)) if x.dim() == 4 else ((1,), (self.replicas, 1, -1))
        varies = eps_per_replica is not None
        eps = _broadcast_replicas(eps_per_replica.to(x.dtype), x, self.replicas) if varies else layer.eps
        if self.mode == "eval":
            scale = gamma.view(shape) * torch.rsqrt(var.view(shape) + eps)
            return (x - mean.view(shape)) * scale + beta.view(shape)
        result, batch_mean, batch_var = BatchNormFunction.apply(x, gamma.view(shape), beta.view(shape), eps, axes)
        if self.mode == "train":
            self._update_running_stats(mean, var, batch_mean, batch_var, x.numel() // batch_var.numel())
        return result

    @torch.no_grad()
    def _update_running_stats(
        self, mean: Tensor, var: Tensor, batch_mean: Tensor, batch_var: Tensor, count: int
    ) -> None:
        """Update the running statistics in place. The running variance uses the unbiased batch variance."""
        mean.lerp_(batch_mean.detach().view_as(mean).to(mean.dtype), MOMENTUM)
        unbiased = batch_var.detach().view_as(var).to(var.dtype) * (count / max(count - 1, 1))
        var.lerp_(unbiased, MOMENTUM)


def _to_maps(images: Images) -> Tensor:
    maps = images[0] if images.shape[0] == 1 else images.transpose(0, 1).flatten(1, 2)
    return maps.contiguous(memory_format=torch.channels_last)


def _broadcast_replicas(per_replica: Tensor, x: Tensor, replicas: int) -> Tensor:
    """Reshape one value per replica so that it broadcasts against features (k, n, d) or maps (n, k * c, h, w)."""
    if x.dim() == 3:
        return per_replica.view(-1, 1, 1)
    return per_replica.repeat_interleave(x.shape[1] // replicas).view(1, -1, 1, 1)


def _varying_options(layers: Layers, path: str = "") -> list[tuple[str, float | bool]]:
    """Return the options that may differ within a pack, with the path of their layer."""
    options: list[tuple[str, float | bool]] = []
    for index, layer in enumerate(layers):
        layer_path = f"{path}{index}."
        match layer:
            case Residual() | Shortcut():
                options += [(layer_path, layer.enabled)] if isinstance(layer, Residual) else []
                options += _varying_options(layer.branch, f"{layer_path}b")
                options += _varying_options(inside_shortcut(layer), f"{layer_path}s")
            case Dropout():
                options.append((layer_path, layer.p))
            case BatchNorm():
                options.append((layer_path, layer.eps))
            case _:
                pass
    return options


def batch_norms(layers: Layers) -> list[tuple[str, int]]:
    """Return names and features of the batch normalizations, in the order of the forward pass."""
    return [(layer.name, layer.features) for layer in walk(layers) if isinstance(layer, BatchNorm)]
