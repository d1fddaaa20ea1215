"""Initial values of parameters. Each tensor has a separate random stream of (seed, parameter name)."""

from math import prod, sqrt

import numpy as np
import torch
from torch import Tensor

from fathomlab.base.identity import make_rng
from fathomlab.engine.opaque import initial_params
from fathomlab.models.architecture import Architecture, walk
from fathomlab.models.layers import ParameterFree
from fathomlab.models.parameters import Parameter


def init_params(architecture: Architecture, seed: int) -> dict[str, Tensor]:
    """Return the initial values of every learned tensor of one replica, float64 on the CPU.

    Values are drawn in float64. Training in another format rounds them, so all precisions start from the same numbers.

    Initializations (biases are 0, except with `torch`):
        torch: U(+-1/sqrt(fan_in)) for weights and biases, the default of torch's Linear and Conv2d.
        he: N(0, 2/fan_in) (He et al., 2015, eq. 10).
        he_fan_out: N(0, 2/fan_out) (He et al., 2015, eq. 14).
        glorot: U(+-sqrt(6/(fan_in + fan_out))) (Glorot & Bengio, 2010, eq. 16, uniform form).
        orthogonal: gain x a uniformly distributed matrix with orthonormal columns, or orthonormal rows if it is wider than
            high (Saxe et al., 2014). The gain is sqrt(2) if the network has ReLU, otherwise 1. Kernels contain the matrix at
            their center and are 0 elsewhere: delta-orthogonal (Xiao et al., 2018). A layer that does not narrow multiplies
            norms by the gain. A layer that narrows does so in the span of its rows and drops the rest.
        looks_linear: mirrored blocks [[V, -V], [-V, V]] of orthogonal V, [V; -V] in the first and [V, -V] in the last layer
            (Balduzzi et al., 2017). With ReLU, layers contain pairs relu(z), relu(-z), and the network is linear in its input.
        dirac: each of the first min(in_channels, out_channels) filters copies one channel. Further filters would be 0 and stay
            dead, so they are drawn as `he_fan_out`.
    The linear layer of a convolutional network always has the `torch` initialization. A user's module initializes itself.
    """
    if architecture.opaque is not None:
        return initial_params(architecture.opaque, seed)
    parameters = architecture.parameters()
    weights = [parameter for parameter in parameters if parameter.init == "weight"]
    fans = {parameter.name.removesuffix(".weight"): prod(parameter.shape[1:]) for parameter in weights}
    kinds = {layer.kind for layer in walk(architecture.layers) if isinstance(layer, ParameterFree)}
    gain = sqrt(2) if "ReLU" in kinds else 1.0
    convolutional, params = architecture.convolutional, {}
    for parameter in parameters:
        is_kernel = len(parameter.shape) == 4
        init = architecture.init if is_kernel or not convolutional else "torch"
        rng = make_rng(seed, "initial", parameter.name)
        if isinstance(parameter.init, float):
            value = np.full(parameter.shape, parameter.init)
        elif parameter.init == "bias":
            value = _bias(parameter, init, rng, fans[parameter.name.removesuffix(".bias")])
        elif init == "looks_linear":
            value = _mirrored(parameter, rng, parameter is weights[0], parameter is weights[-1])
        else:
            value = _weight(parameter.shape, init, rng, gain)
        params[parameter.name] = torch.from_numpy(value if parameter.gain == 1 else value * parameter.gain)
    return params


def _bias(parameter: Parameter, init: str, rng: np.random.Generator, fan_in: int) -> np.ndarray:
    if init == "torch":
        return rng.uniform(-1, 1, parameter.shape) / sqrt(fan_in)
    return np.zeros(parameter.shape)


def _weight(shape: tuple[int, ...], init: str, rng: np.random.Generator, gain: float) -> np.ndarray:
    fan_in, fan_out = prod(shape[1:]), prod((shape[0], *shape[2:]))
    match init:
        case "torch":
            return rng.uniform(-1, 1, shape) / sqrt(fan_in)
        case "he":
            return rng.standard_normal(shape) * sqrt(2 / fan_in)
        case "he_fan_out":
            return rng.standard_normal(shape) * sqrt(2 / fan_out)
        case "glorot":
            return rng.uniform(-1, 1, shape) * sqrt(6 / (fan_in + fan_out))
        case "orthogonal":
            return _centered(gain * _orthogonal(rng, *shape[:2]), shape)
        case "dirac":
            kernel = rng.standard_normal(shape) * sqrt(2 / fan_out)
            copies = min(shape[:2])
            kernel[:copies] = _centered(np.eye(shape[0], shape[1]), shape)[:copies]
            return kernel
    raise AssertionError(init)


def _orthogonal(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Uniformly distributed: QR of normal numbers, with signs that make the diagonal of R positive (Mezzadri, 2007)."""
    tall = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q = q * np.sign(np.diagonal(r))
    return np.ascontiguousarray(q if rows >= columns else q.T)


def _centered(matrix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the matrix of a linear layer, or a kernel with this matrix at its center and 0 elsewhere."""
    if len(shape) == 2:
        return matrix
    kernel = np.zeros(shape)
    kernel[:, :, shape[2] // 2, shape[3] // 2] = matrix
    return kernel


def _mirrored(parameter: Parameter, rng: np.random.Generator, first: bool, last: bool) -> np.ndarray:
    out_features, in_features = parameter.shape
    half = _orthogonal(rng, out_features if last else out_features // 2, in_features if first else in_features // 2)
    wide = half if first else np.hstack([half, -half])
    return wide if last else np.vstack([wide, -wide])
