"""The native backend: one C++ function computes the training steps of MLPs on a CPU, built once per machine."""

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast, final

from fathomlab.engine.backends import maps
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.models.architecture import Architecture
from fathomlab.models.layers import BatchNorm, Dropout, Layer, Layers, Linear, ParameterFree, Residual, Tap
from fathomlab.optim.adam import Adam, AdamW
from fathomlab.optim.sgd import SGD

if TYPE_CHECKING:
    from torch import Tensor

    from fathomlab.engine.backends import Machine
    from fathomlab.engine.step_inputs import StepFunction, StepInputs
    from fathomlab.engine.training import PackTrainer
    from fathomlab.plan.recipe import Recipe

KINDS = {Adam: 0, AdamW: 0, SGD: 1}
REALS = {"fp32": "float", "fp64": "double"}


@dataclass(frozen=True)
class DenseLayer:
    """What the native step computes per layer: h = act(norm(W x + b)) [+ x].

    Attributes:
        linear: Name of the linear layer.
        inputs: Width of x.
        outputs: Width of h.
        norm: Name of the batch normalization; `""` without one.
        eps: Added to the variance.
        active: Whether a ReLU follows.
        skip: Whether x is added; None where it cannot be.
    """

    linear: str
    inputs: int
    outputs: int
    norm: str = ""
    eps: float = 0.0
    active: bool = False
    skip: bool | None = None


def dense_layers(architecture: Architecture) -> tuple[DenseLayer, ...] | None:
    """The layers of a network; None if it has others than these."""
    first, *rest = architecture.layers
    if first != ParameterFree("Flatten"):
        return None
    try:
        return tuple(_dense(tuple(rest)))
    except ValueError:
        return None


def _dense(layers: Layers) -> Iterator[DenseLayer]:
    """Yield the layers of a chain. Raises ValueError for others."""
    current: DenseLayer | None = None
    for layer in layers:
        if isinstance(layer, Linear | Residual):
            if current is not None:
                yield current
            current = _block(layer) if isinstance(layer, Residual) else _linear(layer)
        elif current is None or current.skip is not None:
            if not isinstance(layer, Tap):
                raise ValueError(layer)
        else:
            current = _extended(current, layer)
    if current is None:
        raise ValueError("no layer")
    yield current


def _linear(layer: Linear) -> DenseLayer:
    return DenseLayer(layer.name, layer.in_features, layer.out_features)


def _block(layer: Residual) -> DenseLayer:
    branch = tuple(_dense(layer.branch))
    if len(branch) != 1 or branch[0].skip is not None or branch[0].inputs != branch[0].outputs:
        raise ValueError("a branch has one linear layer")
    return replace(branch[0], skip=layer.enabled)


def _extended(dense: DenseLayer, layer: Layer) -> DenseLayer:
    match layer:
        case BatchNorm() if not dense.norm and not dense.active:
            return replace(dense, norm=layer.name, eps=layer.eps)
        case ParameterFree(kind="ReLU") if not dense.active:
            return replace(dense, active=True)
        case Dropout(p=0) | Tap():
            return dense
        case _:
            raise ValueError(layer)


@final
@dataclass(frozen=True)
class Native:
    """Computes one replica after the other, so that its activations stay in the cache and its bits do not depend on the pack."""

    def refuses(self, recipes: "Sequence[Recipe]", machine: "Machine") -> str:
        """What the C++ function does not compute: other networks than MLPs of ReLU layers, and other losses and optimizers."""
        recipe = recipes[0]
        if recipe.architecture.convolutional:
            return maps.refuses(recipes, machine)
        optimizer = recipe.optimizer
        reasons = {
            "it needs a CPU": machine.device != "cpu",
            "no C++ compiler is installed": not machine.compiler,
            "it supports MLPs with ReLU, without dropout, and with one layer per block": any(
                dense_layers(each.architecture) is None for each in recipes
            ),
            "it supports CrossEntropy only": not isinstance(recipe.loss, CrossEntropy) or bool(recipe.teachers),
            "it supports Adam without amsgrad, AdamW, and SGD": type(optimizer) not in KINDS
            or getattr(optimizer, "amsgrad", False),
            "it does not support gradient clipping": recipe.gradient_clip is not None,
            "it does not support frozen parameters": bool(recipe.frozen),
            "it computes steps in training mode only": "student_eval" in recipe.emulate,
            "it supports fp32 and fp64": recipe.precision not in REALS,
        }
        return next((reason for reason, applies in reasons.items() if applies), "")

    def build(self) -> str:
        """The versions of torch and the compiler, its flags, and the instruction set."""
        import torch

        from fathomlab.engine.backends.native_library import describe_build

        return f"torch {torch.__version__}, {describe_build()}"

    def prepare(self, pack: "PackTrainer") -> "StepFunction":
        """Build the library if this machine does not have it, and allocate memory for activations.

        Raises:
            UserError: If it cannot be built, or its numbers are wrong.
        """
        from fathomlab.engine.native_check import checked_library

        if pack.shared_recipe.architecture.convolutional:
            return maps.prepare(pack)
        return NativeStep(pack, checked_library(pack.shared_recipe.precision))


class NativeStep:
    """The steps of one pack, with batches of any size."""

    def __init__(self, pack: "PackTrainer", library: ctypes.CDLL):
        """Keep the addresses of all tensors, which training changes in place."""
        self._pack, self._library = pack, library
        self._keep: list[Tensor] = []
        self._layers = self._layer_array()
        self._plans: dict[int, int] = {}
        data, recipe = pack.data, pack.shared_recipe
        self._labels = data.labels.long().contiguous()
        raw = data.images.dtype.is_floating_point or bool(recipe.augment)
        self._pixels = None if raw else data.images.contiguous()
        shape = data.images.shape[1:]
        self._mean, self._scale = (value.expand(shape).contiguous() for value in (data.mean, data.scale))
        losses = [cast(CrossEntropy, each.loss) for each in pack.recipes]
        self._smoothing = _doubles([loss.label_smoothing for loss in losses], len(losses))

    def __del__(self) -> None:
        """Free the memory for activations."""
        for plan in getattr(self, "_plans", {}).values():
            self._library.native_free(ctypes.c_void_p(plan))

    def __call__(self, inputs: "StepInputs") -> None:
        """Train on one batch; updates parameters, running statistics, the optimizer's state, and the sums of the epoch."""
        pack, state, optimizer = self._pack, self._pack.state, self._pack.shared_recipe.optimizer
        replicas, n = inputs.index.shape
        index = inputs.index.contiguous()
        batch = None if self._pixels is not None else pack.batch(index, inputs.epoch).contiguous()
        lr, decay = (_doubles(value, replicas) for value in (inputs.rates.lr, inputs.rates.weight_decay))
        beta1, beta2 = getattr(optimizer, "betas", (0.0, 0.0))
        momentum = getattr(optimizer, "momentum", 0.0)
        if inputs.rates.momentum is not None:
            beta1, momentum = inputs.rates.momentum, momentum and inputs.rates.momentum
        step = _Step(
            replicas=replicas,
            count=int(inputs.count),
            optimizer=KINDS[type(optimizer)],
            pixels=_address(self._pixels),
            batch=_address(batch),
            mean=_address(self._mean),
            scale=_address(self._scale),
            labels=_address(self._labels),
            index=_address(index),
            lr=_address(lr),
            decay=_address(decay),
            smoothing=_address(self._smoothing),
            beta1=float(beta1),
            beta2=beta2,
            eps=getattr(optimizer, "eps", 0.0),
            momentum=float(momentum),
            dampening=getattr(optimizer, "dampening", 0.0),
            nesterov=getattr(optimizer, "nesterov", False),
            decoupled=isinstance(optimizer, AdamW),
            sums=_address(state.epoch_sums),
            diverged=_address(state.diverged_at_step),
        )
        self._library.native_step(ctypes.c_void_p(self._plan(n)), ctypes.byref(step))

    def _plan(self, n: int) -> int:
        if n not in self._plans:
            plan = self._library.native_plan(n, len(self._layers), self._layers)
            if not plan:
                raise MemoryError(f"no memory for the activations of {n} images")
            self._plans[n] = plan
        return self._plans[n]

    def _layer_array(self) -> Any:
        columns = [dense_layers(recipe.architecture) or () for recipe in self._pack.recipes]
        layers = [self._layer(replicas) for replicas in zip(*columns, strict=True)]
        return (_Layer * len(layers))(*layers)

    def _layer(self, replicas: Sequence[DenseLayer]) -> "_Layer":
        import torch

        state, dense = self._pack.state, replicas[0]
        order = list(state.params)
        slots = list(state.optimizer_state.values())
        names = [f"{dense.linear}.weight", f"{dense.linear}.bias", f"{dense.norm}.weight", f"{dense.norm}.bias"]
        layer = _Layer(dense.inputs, dense.outputs, bool(dense.norm), dense.active)
        for field, name, states in zip(("weight", "bias", "gamma", "beta"), names, layer.state, strict=True):
            if name in state.params:
                setattr(layer, field, self._at(state.params[name]))
                for position, slot in enumerate(slots):
                    states[position] = self._at(slot[order.index(name)])
        if dense.norm:
            layer.mean = self._at(state.buffers[f"{dense.norm}.running_mean"])
            layer.variance = self._at(state.buffers[f"{dense.norm}.running_var"])
            layer.eps = self._at(_doubles([each.eps for each in replicas], len(replicas)))
        if dense.skip is not None:
            layer.skip = self._at(torch.tensor([bool(each.skip) for each in replicas], dtype=torch.uint8))
        return layer

    def _at(self, tensor: "Tensor") -> int:
        """The address of a tensor, which is kept alive."""
        assert tensor.is_contiguous()
        self._keep.append(tensor)
        return tensor.data_ptr()


class _Layer(ctypes.Structure):
    """`Layer` of native.cpp."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("inputs", "outputs", "norm", "active")),
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "gamma", "beta", "mean", "variance")),
        ("state", ctypes.c_void_p * 2 * 4),
        *((name, ctypes.c_void_p) for name in ("skip", "eps")),
    ]


class _Step(ctypes.Structure):
    """`Step` of native.cpp."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("replicas", "count", "optimizer")),
        *((name, ctypes.c_void_p) for name in ("pixels", "batch", "mean", "scale", "labels", "index")),
        *((name, ctypes.c_void_p) for name in ("lr", "decay", "smoothing")),
        *((name, ctypes.c_double) for name in ("beta1", "beta2", "eps", "momentum", "dampening")),
        *((name, ctypes.c_int64) for name in ("nesterov", "decoupled")),
        *((name, ctypes.c_void_p) for name in ("sums", "diverged")),
    ]


def _address(tensor: "Tensor | None") -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _doubles(value: "float | Sequence[float] | Tensor", replicas: int) -> "Tensor":
    """One float64 number per replica."""
    import torch

    return torch.as_tensor(value, dtype=torch.float64).expand(replicas).contiguous()
