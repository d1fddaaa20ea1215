"""Initial values: each tensor from its own stream (seed, parameter name), so that nothing else can move it."""

from math import prod, sqrt

import numpy as np
import torch
from torch import Tensor

from fathomlab.base.identity import stream
from fathomlab.models.architecture import Architecture
from fathomlab.models.layers import Parameter


def initial_values(architecture: Architecture, seed: int) -> dict[str, Tensor]:
    """Values of every learnt tensor of one replica, float64 on the CPU.

    Drawn in float64 and rounded by whoever trains in another format, so that all precisions start from the same numbers.

    Sources:
        torch: U(+-1/sqrt(fan_in)) for weights and biases, the default of torch's Linear and Conv2d.
        he: N(0, 2/fan_in), bias 0 (He et al., 2015, eq. 10).
        he_fan_out: N(0, 2/fan_out) (He et al., 2015, eq. 14).
        The linear layer of a convolutional net is filled as torch fills it, whatever its kernels are.
    """
    fans = {}
    values = {}
    for parameter in architecture.parameters():
        if parameter.kind == "weight":
            fans[parameter.name.removesuffix(".weight")] = prod(parameter.shape[1:])
        kernel = len(parameter.shape) == 4
        init = architecture.init if kernel or not architecture.convolutional else "torch"
        values[parameter.name] = torch.from_numpy(_fill(parameter, init, seed, fans))
    return values


def _fill(parameter: Parameter, init: str, seed: int, fans: dict[str, int]) -> np.ndarray:
    if isinstance(parameter.fill, float):
        return np.full(parameter.shape, parameter.fill)
    draws = stream(seed, "initial", parameter.name)
    fan_in = fans[parameter.name.rsplit(".", 1)[0]]
    if parameter.fill == "bias" and init == "he":
        return np.zeros(parameter.shape)
    if init == "torch":
        return draws.uniform(-1, 1, parameter.shape) / sqrt(fan_in)
    fan = prod((parameter.shape[0], *parameter.shape[2:])) if init == "he_fan_out" else fan_in
    return draws.standard_normal(parameter.shape) * sqrt(2 / fan)
