"""Initial values: each tensor from its own stream (seed, parameter name), so that nothing else can move it."""

from math import prod, sqrt

import numpy as np
import torch
from torch import Tensor

from fathomlab.base.identity import stream
from fathomlab.models.architecture import Architecture, walk
from fathomlab.models.layers import Parameter, Plain


def initial_values(architecture: Architecture, seed: int) -> dict[str, Tensor]:
    """Values of every learned tensor of one replica, float64 on the CPU.

    Drawn in float64 and rounded by whoever trains in another format, so that all precisions start from the same numbers.

    Sources (biases are 0 but for `torch`):
        torch: U(+-1/sqrt(fan_in)) for weights and biases, the default of torch's Linear and Conv2d.
        he: N(0, 2/fan_in) (He et al., 2015, eq. 10).
        he_fan_out: N(0, 2/fan_out) (He et al., 2015, eq. 14).
        glorot: U(+-sqrt(6/(fan_in + fan_out))) (Glorot & Bengio, 2010, eq. 16, the uniform form).
        orthogonal: gain x a matrix drawn evenly from those with orthonormal columns, orthonormal rows where it narrows (Saxe
            et al., 2014); gain sqrt(2) where the network has ReLU, 1 elsewhere. Kernels hold it at their center and are 0
            around it: delta-orthogonal (Xiao et al., 2018). A layer keeps norms (times the gain) where it does not narrow;
            where it narrows it keeps those in the span of its rows and drops the rest.
        looks_linear: mirrored blocks [[V, -V], [-V, V]] of orthogonal V, [V; -V] in the first layer and [V, -V] in the last
            (Balduzzi et al., 2017): with ReLU, layers hold pairs relu(z), relu(-z), and the network is linear in its input.
        dirac: the first min(inputs, outputs) filters pass on one channel each; filters beyond them, which would be 0 and stay
            dead, are drawn as `he_fan_out`.
        The linear layer of a convolutional net is filled as torch fills it, whatever its kernels are.
    """
    parameters = architecture.parameters()
    weights = [parameter for parameter in parameters if parameter.fill == "weight"]
    fans = {parameter.name.removesuffix(".weight"): prod(parameter.shape[1:]) for parameter in weights}
    kinds = {layer.kind for layer in walk(architecture.layers) if isinstance(layer, Plain)}
    gain = sqrt(2) if "ReLU" in kinds else 1.0
    values = {}
    for parameter in parameters:
        kernel = len(parameter.shape) == 4
        init = architecture.init if kernel or not architecture.convolutional else "torch"
        draws = stream(seed, "initial", parameter.name)
        if isinstance(parameter.fill, float):
            value = np.full(parameter.shape, parameter.fill)
        elif parameter.fill == "bias":
            value = _bias(parameter, init, draws, fans[parameter.name.removesuffix(".bias")])
        elif init == "looks_linear":
            value = _mirrored(parameter, draws, parameter is weights[0], parameter is weights[-1])
        else:
            value = _weight(parameter.shape, init, draws, gain)
        values[parameter.name] = torch.from_numpy(value if parameter.gain == 1 else value * parameter.gain)
    return values


def _bias(parameter: Parameter, init: str, draws: np.random.Generator, fan_in: int) -> np.ndarray:
    if init == "torch":
        return draws.uniform(-1, 1, parameter.shape) / sqrt(fan_in)
    return np.zeros(parameter.shape)


def _weight(shape: tuple[int, ...], init: str, draws: np.random.Generator, gain: float) -> np.ndarray:
    fan_in, fan_out = prod(shape[1:]), prod((shape[0], *shape[2:]))
    match init:
        case "torch":
            return draws.uniform(-1, 1, shape) / sqrt(fan_in)
        case "he":
            return draws.standard_normal(shape) * sqrt(2 / fan_in)
        case "he_fan_out":
            return draws.standard_normal(shape) * sqrt(2 / fan_out)
        case "glorot":
            return draws.uniform(-1, 1, shape) * sqrt(6 / (fan_in + fan_out))
        case "orthogonal":
            return _centered(gain * _orthogonal(draws, *shape[:2]), shape)
        case "dirac":
            drawn = draws.standard_normal(shape) * sqrt(2 / fan_out)
            alike = min(shape[:2])
            drawn[:alike] = _centered(np.eye(shape[0], shape[1]), shape)[:alike]
            return drawn
    raise AssertionError(init)


def _orthogonal(draws: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Evenly distributed: QR of normal numbers, with the signs that make R's diagonal positive (Mezzadri, 2007)."""
    tall = draws.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q = q * np.sign(np.diagonal(r))
    return np.ascontiguousarray(q if rows >= columns else q.T)


def _centered(matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The matrix of a linear layer, or a kernel that is this matrix at its center and 0 around it."""
    if len(shape) == 2:
        return matrix
    kernel = np.zeros(shape)
    kernel[:, :, shape[2] // 2, shape[3] // 2] = matrix
    return kernel


def _mirrored(parameter: Parameter, draws: np.random.Generator, first: bool, last: bool) -> np.ndarray:
    outputs, inputs = parameter.shape
    half = _orthogonal(draws, outputs if last else outputs // 2, inputs if first else inputs // 2)
    wide = half if first else np.hstack([half, -half])
    return wide if last else np.vstack([wide, -wide])
