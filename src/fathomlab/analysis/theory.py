"""Theoretical predictions at initialization: slopes of ln |dLoss/dh_l| over the layers, forward growth, depth limits.

The closed forms hold for wide MLPs with batch statistics. Notation: n the width, L the depth, l = 0 (input layer) to
L the layers, h_l their outputs, G_l the norm of dLoss/dh_l over a batch, g = n Var W the gain of a hidden layer's weights. A
slope is minus the least-squares slope of ln G_l on l (nats per layer): positive if gradients grow toward the input.

Sources: He et al. (2015) and Hanin & Rolnick (2018) for plain nets; Yang et al. (2019) for batch normalization; De & Smith
(2020) for residual nets with it. Everything else is derived in docs/explanation/slopes.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import erf, exp, log, pi, sqrt

from fathomlab.models.mlp import MLP

CENTERED = (pi - 1) / (2 * pi)  # variance of relu(z), z standard normal: 1/2 - 1/(2 pi)
EXPLOSION = log(pi / (pi - 1)) / 2  # 1/2 / CENTERED per layer, squared
ACTIVE = {"ReLU": 0.5, "LeakyReLU": (1 + 0.01**2) / 2, "Identity": 1.0}  # E[act'(z)^2]
# Computed, no closed form: slopes of ReLU + batch norm at small batches (n = 128, L = 20, mean of 10 initializations).
SMALL_BATCHES = ((4, 0.499), (8, 0.289), (16, 0.231), (32, 0.210), (64, 0.200), (128, EXPLOSION))
DEPTH_SCALES = 16
EXACT = 1e-6


@dataclass(frozen=True)
class Prediction:
    """The prediction for one architecture.

    Attributes:
        slope: Least-squares slope of the profile (nats per layer), positive if gradients grow toward the input.
        profile: ln(G_l / G_L) for each tap of the network, starting with the input layer.
        source: The rule in source, with its reference.
        tolerance: Allowed difference of the mean slope over initializations at this width: the mean of logarithms is below
            the logarithm of the mean by at most 5/(4n) per layer, and corrections of order 1/n and 1/batch are omitted.
    """

    slope: float
    profile: tuple[float, ...]
    source: str
    tolerance: float


def predict(model: object, batch_size: int) -> Prediction | None:
    """The prediction for a model of `MODELS`; None if there is none (see `reason_unpredicted`)."""
    prediction = _find(model, batch_size)
    return None if isinstance(prediction, str) else prediction


def reason_unpredicted(model: object, batch_size: int) -> str:
    """The reason why a model has no prediction; `""` if it has one."""
    prediction = _find(model, batch_size)
    return prediction if isinstance(prediction, str) else ""


def depth_scale(slope: float) -> float:
    """xi = 1/|ln(rate^2)| = 1/(2 |slope|) (layers): squared gradients change by a factor e over this depth.

    Example:
        >>> round(depth_scale(EXPLOSION), 2), round(depth_scale(log(1 / 6) / 2), 2)
        (2.61, 0.56)
    """
    return 1 / (2 * abs(slope)) if slope else float("inf")


def depth_limit(slope: float) -> float:
    """16 xi (layers), near which batch-normalized networks stop being trainable (Yang et al., 2019, Fig. 2).

    Example:
        >>> round(depth_limit(EXPLOSION), 1)
        41.8
    """
    return DEPTH_SCALES * depth_scale(slope)


def branch_share(layer: int) -> float:
    """Centered variance of the branch over that of the skip at hidden layer 1, 2, ... of a residual MLP with batch norm: 1/l.

    The skip sums l outputs, including the input layer's, and each has the branch's variance (De & Smith, 2020).
    """
    return 1 / layer


def forward_growth(model: object) -> tuple[float, ...] | None:
    """Predicted rms(h_l) / rms(h_0) for l = 0 to L; None without a closed form (other blocks or activations, large eps)."""
    mlp = _options(model)
    if isinstance(mlp, str) or mlp.activation != "ReLU" or mlp.init == "looks_linear" or mlp.skip_init != "none":
        return None
    if mlp.block != "one_layer" or (mlp.batch_norm and not _small_eps(mlp)):
        return None
    steps = range(mlp.hidden_layers_num + 1)
    if mlp.batch_norm:
        # h_l sums outputs relu(z), the first and l branches: means 1/sqrt(2 pi), centered variances CENTERED, over a first 1/2
        scale = mlp.branch_factor if mlp.residual else 0.0
        summed = [(1 + scale * step, 1 + scale**2 * step) for step in steps]
        return tuple(sqrt(2 * (mean**2 / (2 * pi) + variance * CENTERED)) for mean, variance in summed)
    gain = _gain(mlp)
    if mlp.residual:
        return tuple(sqrt(q) for q, _ in _drift(_branch_gain(mlp), mlp.hidden_layers_num))
    # The z of a layer has variance g q + Var b, and relu halves it; torch's biases have variance 1/(3 fan_in)
    bias = 1 / 3 if mlp.init == "torch" else 0.0
    squares = [(_input_gain(mlp) + bias / mlp.input_size) / 2]
    for _ in range(mlp.hidden_layers_num):
        squares.append((gain * squares[-1] + bias / mlp.layers_dim) / 2)
    return tuple(sqrt(q / squares[0]) for q in squares)


def linear_batch_norm(batch_size: int) -> float:
    """Slope of a linear net with batch norm: sqrt((B-2)/(B-3)) per layer (Yang et al., 2019); B at least 4."""
    return log((batch_size - 2) / (batch_size - 3)) / 2


def _find(model: object, batch_size: int) -> Prediction | str:
    mlp = _options(model)
    if isinstance(mlp, str):
        return mlp
    if mlp.hidden_layers_num < 1:
        return "a slope needs a hidden layer"
    if mlp.residual and mlp.skip_init != "none":
        return _zero_branch(mlp)
    if mlp.activation not in ACTIVE:
        return f"no closed form for {mlp.activation}"
    if mlp.batch_norm and (batch_size < 4 or mlp.batch_norm_beta < 0 or mlp.activation == "LeakyReLU"):
        return "no closed form for batches below 4, a negative beta or LeakyReLU with batch norm"
    if not mlp.residual:
        return _normalized(mlp, batch_size) if mlp.batch_norm else _plain(mlp)
    return _residual_normalized(mlp, batch_size) if mlp.batch_norm else _residual(mlp)


def _options(model: object) -> MLP | str:
    return model.canonical() if isinstance(model, MLP) else "there are closed forms for MLPs only"


def _gain(mlp: MLP) -> float:
    """g = n Var W of a hidden layer; for orthogonal matrices, which are isometries times their gain, the gain squared."""
    scale = 2.0 if mlp.activation == "ReLU" else 1.0
    return {"torch": 1 / 3, "he": 2.0, "glorot": 1.0, "orthogonal": scale, "looks_linear": 1.0}[mlp.init]


def _input_gain(mlp: MLP) -> float:
    """The same for the input layer."""
    inputs, outputs = mlp.input_size, mlp.layers_dim
    if mlp.init == "glorot":
        return 2 * inputs / (inputs + outputs)
    return _gain(mlp) * (min(1.0, inputs / outputs) if mlp.init == "orthogonal" else 1.0)


def _branch_gain(mlp: MLP) -> float:
    """The gain of a branch of one layer with the mean square of the branch: g times the square of its constant factor.

    The second application of the same weights has independent units: it multiplies the mean square by g/2 again.
    """
    applied = _gain(mlp) * ACTIVE[mlp.activation] if mlp.block == "shared_twice" else 1.0
    return mlp.branch_factor**2 * _gain(mlp) * applied


def _prediction(rates: Sequence[float], source: str, tolerance: float, stride: int = 1) -> Prediction:
    """A prediction from ln(G_(l-1) / G_l) for each layer l = 1 to L (each block of `stride` layers)."""
    profile = [0.0]
    for rate in reversed(rates):
        profile.append(profile[-1] + rate)
    profile.reverse()
    center = (len(profile) - 1) / 2
    total = sum((index - center) ** 2 for index in range(len(profile)))
    slope = sum((center - index) * value for index, value in enumerate(profile)) / total / stride
    return Prediction(slope, tuple(profile), source, tolerance)


def _width_tolerance(mlp: MLP) -> float:
    return 0.01 + 5 / (4 * mlp.layers_dim)


def _plain(mlp: MLP) -> Prediction:
    """Squared rate g E[act'^2]: 1/6 for torch's default (Var W = 1/(3n)), 1 for He's (eq. 14 with Hanin & Rolnick, 2018)."""
    if mlp.init == "looks_linear":
        source = "0: a looks-linear net is an orthogonal linear one at the start (Balduzzi et al., 2017)"
        return _prediction([0.0] * mlp.hidden_layers_num, source, EXACT)
    rate = log(_gain(mlp) * ACTIVE[mlp.activation]) / 2
    source = "ln(n Var W E[act'^2]) / 2 (He et al., 2015; Hanin & Rolnick, 2018)"
    return _prediction([rate] * mlp.hidden_layers_num, source, _width_tolerance(mlp))


def _normalized(mlp: MLP, batch: int) -> Prediction:
    """Plain with batch norm, any eps and beta.

    With v_l the variance of W h_(l-1) over the batch, the norm puts out a normal variable of mean beta and variance
    v_l/(v_l + eps). Its activation has the centered variance C_l, so v_(l+1) = g C_l; backwards the norm divides by sqrt(v_l +
    eps), and the squared rate is g E[act'^2]/(v_l + eps). Where eps is small, g cancels: pi/(pi - 1) for ReLU (Yang et al.,
    2019, Thm 8). Above eps = 0.341 g the variance dies out and the rate tends to g/(2 eps). Inputs have unit variance.
    """
    gain, eps, beta = _gain(mlp), mlp.batch_norm_eps, mlp.batch_norm_beta
    linear = mlp.activation == "Identity"
    variance, rates = _input_gain(mlp), []
    for _ in range(mlp.hidden_layers_num):
        centered, _ = _moments(variance / (variance + eps), beta, linear)
        variance = gain * centered
        _, active = _moments(variance / (variance + eps), beta, linear)
        rates.append(log(gain * active / (variance + eps)) / 2)
    correction = linear_batch_norm(batch) if linear else _small_batch(batch) - EXPLOSION
    rate = "(B-2)/(B-3) squared, linear batch norm" if linear else "pi/(pi-1) squared where eps and beta are small"
    # beta and a critical eps leave finite-batch terms of up to 0.013 (computed), in addition to those of width
    tolerance = 0.02 if beta or not _small_eps(mlp) else 0.005 + 0.64 / mlp.layers_dim
    return _prediction([rate + correction for rate in rates], f"rate {rate} (Yang et al., 2019)", tolerance)


def _moments(variance: float, beta: float, linear: bool) -> tuple[float, float]:
    """Centered variance of act(z) and E[act'(z)^2] for normal z of mean `beta`; act is ReLU or, where `linear`, the identity."""
    deviation = sqrt(variance)
    if linear or beta > 8 * deviation:
        return variance, 1.0
    ratio = beta / deviation if beta else 0.0
    below, density = (1 + erf(ratio / sqrt(2))) / 2, exp(-ratio * ratio / 2) / sqrt(2 * pi)
    mean = ratio * below + density
    return variance * ((1 + ratio * ratio) * below + ratio * density - mean * mean), below


def _small_batch(batch: int) -> float:
    """The slope of ReLU + batch norm, interpolated on ln B between the computed ones; the closed form from 128 on."""
    for (low, one), (high, other) in pairwise(SMALL_BATCHES):
        if batch < high:
            return one + (other - one) * log(batch / low) / log(high / low)
    return EXPLOSION


def _small_eps(mlp: MLP) -> bool:
    return mlp.batch_norm_eps <= 0.003 * _gain(mlp) and mlp.batch_norm_beta == 0


def _zero_branch(mlp: MLP) -> Prediction | str:
    """Branches that start at 0 (rezero, fixup): the net is its skips.

    In He's form a ReLU follows each addition: it blocks the half of the units that are 0, once, and changes nothing after.
    """
    source = "branches start at 0 (Zhang et al., 2019; Bachlechner et al., 2020)"
    if mlp.block != "two_layer" or mlp.activation == "Identity":
        stride = 2 if mlp.block == "two_layer" else 1
        return _prediction([0.0] * (mlp.hidden_layers_num // stride), source, EXACT, stride)
    if mlp.activation != "ReLU" or mlp.batch_norm_beta:
        return "no closed form for activations after the addition other than ReLU, or with a beta"
    return _prediction([*[0.0] * (mlp.hidden_layers_num // 2 - 1), log(0.5) / 2], source, 0.01, 2)


def _residual(mlp: MLP) -> Prediction | str:
    if mlp.block == "two_layer" or mlp.init == "looks_linear":
        return f"no closed form for residual nets with block {mlp.block} and init {mlp.init}"
    gain, active, depth = _branch_gain(mlp), ACTIVE[mlp.activation], mlp.hidden_layers_num
    if mlp.block == "pre_activation" or mlp.activation == "Identity":
        source = "ln(1 + g_branch E[act'^2]) / 2: skip and branch are independent"
        return _prediction([log(1 + gain * active) / 2] * depth, source, _width_tolerance(mlp))
    if mlp.activation != "ReLU":
        return f"no closed form for residual nets with {mlp.activation}"
    # Two parts of a gradient that starts in a random direction. The bulk grows by 1 + g/2 per layer. Without biases the net
    # above layer l is homogeneous, J h_l = h_L; of h_l, its mean m_l over the units carries this growth, so J has the singular
    # value rms(h_L)/m_l, and the gradient has 1/n of its square in that direction.
    states = _drift(gain, depth)
    part = states[-1][0] / mlp.layers_dim
    squares = [(1 + gain / 2) ** (depth - layer) + part / mean**2 for layer, (_, mean) in enumerate(states)]
    rates = [log(one / other) / 2 for one, other in pairwise(squares)]
    return _prediction(rates, "growth of the mean of non-negative branches, plus (1 + g_branch / 2) per layer", 0.02)


def _drift(gain: float, depth: int) -> list[tuple[float, float]]:
    """Mean square q and mean m over the units of h_l, l = 0 to L, for h + relu(W h), with q_0 = 1.

    q' = q + g q / 2 + 2 m c sqrt(q), m' = m + c sqrt(q), c = sqrt(g / (2 pi)): z = W h has variance g q, relu(z) the mean square
    g q / 2 and the mean c sqrt(q). At the start h = relu(z), so m = sqrt(q / pi).
    """
    square, mean = 1.0, 1 / sqrt(pi)
    states = [(square, mean)]
    for _ in range(depth):
        step = sqrt(gain * square / (2 * pi))
        square, mean = square * (1 + gain / 2) + 2 * mean * step, mean + step
        states.append((square, mean))
    return states


def _residual_normalized(mlp: MLP, batch: int) -> Prediction | str:
    """The branch at layer l divides by the skip's deviation, so its squared rate relative to the skip falls like 1/l.

    One-layer blocks: the skip has l times the branch's CENTERED variance: 1 + (1/2)/(l CENTERED) = 1 + 1.467/l (De & Smith, 2020,
    for the 1/l); a layer that is applied twice multiplies the second term by the plain rate 1.467. Pre-activation: the trunk
    starts with the input layer's variance g_0 and each branch adds g CENTERED. A factor of the branch scales what it adds.
    """
    if mlp.block == "two_layer" or mlp.activation != "ReLU" or not _small_eps(mlp) or batch < 32:
        return "residual nets with batch norm: closed forms except for two_layer, with ReLU, small eps, batches from 32"
    scale = mlp.branch_factor**2
    if mlp.block != "pre_activation":
        power = "^2" if mlp.block == "shared_twice" else ""
        source, start = f"sqrt(prod(1 + 1.467{power}/l)): a power of depth (De & Smith, 2020)", CENTERED
    else:
        source, start = (
            "the trunk's variance grows by 0.341 n Var W per layer (De & Smith, 2020)",
            _input_gain(mlp) / _gain(mlp),
        )
    active = 0.5 * scale * (0.5 / CENTERED if mlp.block == "shared_twice" else 1)
    rates = [log(1 + active / (start + scale * skip * CENTERED)) / 2 for skip in range(mlp.hidden_layers_num)]
    return _prediction(rates, source, 0.02)
