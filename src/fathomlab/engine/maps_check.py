"""Compares the native batch norm of maps with the reference, once per process, before it is used."""

import ctypes
from functools import partial

import torch
from torch import Tensor

from fathomlab.base.errors import UserError
from fathomlab.engine.backends.maps import SOURCE, real_of
from fathomlab.engine.backends.native_library import load_library, once
from fathomlab.engine.maps import RELU, MapsPass
from fathomlab.engine.network import ForwardPass
from fathomlab.engine.precision import param_dtype
from fathomlab.models.layers import BatchNorm, Layers, Residual

TOLERANCE = {"fp32": 1e-4, "fp64": 1e-10, "bf16": 0.01}
SHAPE = (5, 7, 3, 3)  # no multiple of a vector
NORM = BatchNorm("norm", SHAPE[1])
CASES: tuple[Layers, ...] = ((NORM,), (NORM, RELU), (Residual((NORM,)), RELU))


def checked_maps(precision: str) -> ctypes.CDLL:
    """The library for a precision, after small maps went through all that it computes.

    Raises:
        UserError: If it cannot be built, or its numbers differ from the reference. A process tries it once.
    """
    return once(_checked, precision)


def _checked(precision: str) -> ctypes.CDLL:
    library = load_library(real_of(precision), SOURCE)
    difference = max(_difference(layers, precision, library) for layers in CASES)
    if difference > TOLERANCE[precision]:
        text = f"its numbers for maps differ from the reference by {difference:.1g} on this machine"
        raise UserError("backend-failed", text)
    return library


def _difference(layers: Layers, precision: str, library: ctypes.CDLL) -> float:
    """The largest difference of maps, gradients, and running statistics, relative to the largest number of each."""
    dtype = param_dtype(precision)
    native = _results(layers, torch.bfloat16 if precision == "bf16" else dtype, dtype, partial(MapsPass, library))
    pairs = zip(native, _results(layers, dtype, dtype, ForwardPass), strict=True)
    errors = (float((actual.to(dtype) - expected).abs().max() / expected.abs().max()) for actual, expected in pairs)
    return max(error if error == error else torch.inf for error in errors)


def _results(
    layers: Layers, format_of_maps: torch.dtype, dtype: torch.dtype, run: "type[ForwardPass] | partial[MapsPass]"
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, gradient = (torch.randn(SHAPE, generator=generator).bfloat16().to(format_of_maps) for _ in range(2))
    params = {f"norm.{kind}": torch.rand(1, SHAPE[1], generator=generator).to(dtype) for kind in ("weight", "bias")}
    buffers = {f"norm.running_{kind}": torch.ones(1, SHAPE[1], dtype=dtype) for kind in ("mean", "var")}
    inputs = [tensor.requires_grad_() for tensor in (x, *params.values())]
    maps = run(params, buffers, "train", None, None, 1, {}).layers(layers, x, "")
    return [maps.detach(), *torch.autograd.grad(maps, inputs, gradient), *buffers.values()]
