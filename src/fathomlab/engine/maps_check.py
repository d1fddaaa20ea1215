"""Compares the native layers of maps with the reference, once per process, before they are used."""

import ctypes
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from fathomlab.base.errors import UserError
from fathomlab.engine.backends import lanes
from fathomlab.engine.backends.maps import SOURCE, real_of
from fathomlab.engine.backends.native_library import load_library, once
from fathomlab.engine.lanes import LanesPass
from fathomlab.engine.maps import POOL, POOLED_CHANNELS, RELU, MapsPass
from fathomlab.engine.network import ForwardPass
from fathomlab.engine.precision import param_dtype
from fathomlab.models.architecture import walk
from fathomlab.models.layers import BatchNorm, Conv2d, Layers, Pad, Residual

Run: TypeAlias = Callable[..., ForwardPass]

TOLERANCE = {"fp32": 1e-4, "fp64": 1e-10, "bf16": 0.01}
CHANNELS = 7  # no multiple of a vector
NORM = BatchNorm("norm", CHANNELS)
KERNELS = Conv2d("kernels", CHANNELS, CHANNELS, 3)
CASES: tuple[Layers, ...] = (
    *((NORM,), (NORM, RELU), (Residual((NORM,)), RELU)),
    (BatchNorm("norm", POOLED_CHANNELS), RELU, POOL),
)
CASES_OF_LANES: tuple[Layers, ...] = (
    *((NORM,), (NORM, RELU), (POOL,), (Residual((KERNELS, NORM)), RELU)),
    *((Conv2d("kernels", CHANNELS, *shape),) for shape in ((13, 3), (5, 3, 2), (2, 1, 2))),
    (Pad(CHANNELS, 13, 2),),
)


def checked_maps(precision: str) -> ctypes.CDLL:
    """The library for a precision, after small maps went through all that it computes.

    Raises:
        UserError: If it cannot be built, or its numbers differ from the reference. A process tries it once.
    """
    return once(_checked_maps, precision)


def checked_lanes(precision: str) -> ctypes.CDLL:
    """The same for the library with images as lanes."""
    return once(_checked_lanes, precision)


def _checked_maps(precision: str) -> ctypes.CDLL:
    library = load_library(real_of(precision), SOURCE)
    return _checked(library, precision, partial(MapsPass, library), 5, CASES, evaluates=False)


def _checked_lanes(precision: str) -> ctypes.CDLL:
    library = load_library(real_of(precision), lanes.SOURCE)
    return _checked(
        library, precision, partial(LanesPass, library, {}), 3 * lanes.LANES, CASES_OF_LANES, evaluates=True
    )


def _checked(
    library: ctypes.CDLL, precision: str, run: Run, images: int, cases: Sequence[Layers], evaluates: bool
) -> ctypes.CDLL:
    difference = max(_difference(layers, images, precision, run, evaluates) for layers in cases)
    if difference > TOLERANCE[precision]:
        text = f"its numbers for maps differ from the reference by {difference:.1g} on this machine"
        raise UserError("backend-failed", text)
    return library


def _difference(layers: Layers, images: int, precision: str, run: Run, evaluates: bool) -> float:
    """The largest difference of maps, gradients, and running statistics, relative to the largest number of each."""
    dtype = param_dtype(precision)
    native = _results(layers, images, torch.bfloat16 if precision == "bf16" else dtype, dtype, run, evaluates)
    pairs = zip(native, _results(layers, images, dtype, dtype, ForwardPass, evaluates), strict=True)
    errors = (float((actual.to(dtype) - expected).abs().max() / expected.abs().max()) for actual, expected in pairs)
    return max(error if error == error else torch.inf for error in errors)


def _results(
    layers: Layers, images: int, format_of_maps: torch.dtype, dtype: torch.dtype, run: Run, evaluates: bool
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).bfloat16()

    norms = [layer for layer in walk(layers) if isinstance(layer, BatchNorm)]
    channels = norms[0].features if norms else CHANNELS
    x = draw(images, channels, 3, 4).to(format_of_maps)
    params: dict[str, Tensor] = {}
    for layer in walk(layers):
        if isinstance(layer, BatchNorm):
            params |= {f"norm.{kind}": draw(1, channels).abs().to(dtype) for kind in ("weight", "bias")}
        elif isinstance(layer, Conv2d):
            size = layer.kernel_size
            params[f"{layer.name}.weight"] = draw(1, layer.out_channels, layer.in_channels, size, size).to(dtype)
    buffers = {f"norm.running_{kind}": torch.ones(1, channels, dtype=dtype) for kind in ("mean", "var")}
    inputs = [tensor.requires_grad_() for tensor in (x, *params.values())]
    maps = run(params, buffers, "train", None, None, 1, {}).layers(layers, x, "")
    gradients = torch.autograd.grad(maps, inputs, draw(*maps.shape).to(format_of_maps))
    with torch.no_grad():
        evaluated = [run(params, buffers, "eval", None, None, 1, {}).layers(layers, x, "")] if evaluates else []
    return [maps.detach(), *evaluated, *gradients, *buffers.values()]
