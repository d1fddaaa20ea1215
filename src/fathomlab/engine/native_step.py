"""The steps and predictions of one pack, computed by the library that is built from native.cpp."""

import ctypes
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from fathomlab.engine.backends.dense import DenseLayer, dense_layers
from fathomlab.engine.state import Tensors
from fathomlab.engine.step_inputs import StepInputs
from fathomlab.engine.training import PackTrainer
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.optim.adam import AdamW
from fathomlab.optim.sgd import SGD

STEPS_AT_ONCE = 8


class NativeStep:
    """The steps of one pack, with batches of any size.

    Attributes:
        at_once: Steps that one call computes.
    """

    def __init__(self, pack: PackTrainer, library: ctypes.CDLL):
        """Keep the addresses of all tensors, which training changes in place."""
        self._pack, self._library = pack, library
        columns = [dense_layers(recipe.architecture) or () for recipe in pack.recipes]
        self._dense = list(zip(*columns, strict=True))
        state = pack.state
        self._layers = _LayerArray(self._dense, state.params, state.buffers, list(state.optimizer_state.values()))
        self._evaluated: tuple[list[int], _LayerArray] = ([], self._layers)  # addresses of tensors, and their layers
        self._plans: dict[tuple[int, bool], int] = {}
        data, recipe = pack.data, pack.shared_recipe
        self._labels = data.labels.long().contiguous()
        raw = data.images.dtype.is_floating_point or bool(recipe.augment)
        self._pixels = None if raw else data.images.contiguous()
        self.at_once = 1 if raw else STEPS_AT_ONCE  # else each step would keep its images
        shape = data.images.shape[1:]
        self._mean, self._scale = (value.expand(shape).contiguous() for value in (data.mean, data.scale))
        losses = [cast(CrossEntropy, each.loss) for each in pack.recipes]
        self._smoothing = _doubles([loss.label_smoothing for loss in losses], len(losses))

    def __del__(self) -> None:
        """Free the memory for activations."""
        for plan in getattr(self, "_plans", {}).values():
            self._library.native_free(ctypes.c_void_p(plan))

    def __call__(self, inputs: StepInputs) -> None:
        """Train on one batch; updates parameters, running statistics, the optimizer's state, and the sums of the epoch."""
        self.together([inputs])

    def together(self, steps: Sequence[StepInputs]) -> None:
        """Train on batches one after the other, all batches of a replica before those of the next."""
        prepared = [self._prepare(inputs) for inputs in steps]
        array = (_Step * len(prepared))(*(step for step, _ in prepared))
        self._library.native_steps(array, len(prepared))

    def _prepare(self, inputs: StepInputs) -> "tuple[_Step, tuple[Tensor | None, ...]]":
        """A step, and the tensors whose memory it reads."""
        pack, state, optimizer = self._pack, self._pack.state, self._pack.shared_recipe.optimizer
        replicas, n = inputs.index.shape
        index = inputs.index.contiguous()
        batch = None if self._pixels is not None else pack.batch(index, inputs.epoch).contiguous()
        lr, decay = (_doubles(value, replicas) for value in (inputs.rates.lr, inputs.rates.weight_decay))
        beta1, beta2 = getattr(optimizer, "betas", (0.0, 0.0))
        momentum = getattr(optimizer, "momentum", 0.0)
        dampening = getattr(optimizer, "dampening", 0.0) if momentum else 0.0
        if inputs.rates.momentum is not None:
            beta1, momentum = inputs.rates.momentum, momentum and inputs.rates.momentum
        step = _Step(
            plan=self._plan(n),
            replicas=replicas,
            count=int(inputs.count),
            optimizer=int(isinstance(optimizer, SGD)),
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
            dampening=dampening,
            nesterov=getattr(optimizer, "nesterov", False),
            decoupled=isinstance(optimizer, AdamW),
            sums=_address(state.epoch_sums),
            diverged=_address(state.diverged_at_step),
        )
        return step, (index, batch, lr, decay)

    def predict(self, params: Tensors, buffers: Tensors, images: Tensor) -> Tensor:
        """Logits (k, n, classes) of normalized images (k, n, c, h, w) with the running statistics."""
        shared = images.stride(0) == 0  # an expanded test set
        rows = (images[:1] if shared else images).flatten(2).contiguous()
        logits = rows.new_empty(*images.shape[:2], self._dense[-1][0].outputs)
        plan, layers = self._plan(images.shape[1], trains=False), self._layers_of(params, buffers)
        stride = 0 if shared else rows[0].numel()
        self._library.native_predict(plan, layers.array, len(logits), rows.data_ptr(), stride, logits.data_ptr())
        return logits

    def predict_pixels(self, params: Tensors, buffers: Tensors, pixels: Tensor) -> Tensor:
        """Logits (k, n, classes) of stored images (n, c, h, w), uint8, which are normalized here."""
        layers, rows = self._layers_of(params, buffers), pixels.contiguous()
        logits = self._mean.new_empty(len(self._pack.recipes), len(rows), self._dense[-1][0].outputs)
        images, mean, scale = (tensor.data_ptr() for tensor in (rows, self._mean, self._scale))
        plan = self._plan(len(rows), trains=False)
        self._library.native_predict_pixels(plan, layers.array, len(logits), images, mean, scale, logits.data_ptr())
        return logits

    def _layers_of(self, params: Tensors, buffers: Tensors) -> "_LayerArray":
        """The layers with these tensors, built once for all batches of an evaluation."""
        addresses = [tensor.data_ptr() for tensors in (params, buffers) for tensor in tensors.values()]
        if addresses != self._evaluated[0]:
            self._evaluated = addresses, _LayerArray(self._dense, params, buffers)
        return self._evaluated[1]

    def _plan(self, n: int, trains: bool = True) -> int:
        if (n, trains) not in self._plans:
            plan = self._library.native_plan(n, len(self._dense), self._layers.array, trains)
            if not plan:
                raise MemoryError(f"no memory for the activations of {n} images")
            self._plans[n, trains] = plan
        return self._plans[n, trains]


class _LayerArray:
    """The layers of a pack for the library: sizes, options, and the addresses of tensors, which are kept alive."""

    def __init__(
        self,
        layers: Sequence[Sequence[DenseLayer]],
        params: Tensors,
        buffers: Tensors,
        slots: Sequence[Sequence[Tensor]] = (),
    ):
        """Take the layers of all replicas, and tensors whose memory the library reads and, in training, changes.

        Args:
            layers: Per layer, one value per replica.
            params: Learned tensors by name.
            buffers: Running statistics by name.
            slots: The state of the optimizer, in the order of `params`.
        """
        self._keep: list[Tensor] = []
        self._order = list(params)
        self.array = (_Layer * len(layers))()
        for layer, replicas in zip(self.array, layers, strict=True):
            self._fill(layer, replicas, params, buffers, slots)

    def _fill(
        self,
        layer: "_Layer",
        replicas: Sequence[DenseLayer],
        params: Tensors,
        buffers: Tensors,
        slots: Sequence[Sequence[Tensor]],
    ) -> None:
        dense = replicas[0]
        layer.inputs, layer.outputs = dense.inputs, dense.outputs
        layer.norm, layer.active, layer.pre = bool(dense.norm), dense.active, dense.pre
        layer.again, layer.factor = dense.again, dense.factor
        names = [f"{dense.linear}.weight", f"{dense.linear}.bias", f"{dense.norm}.weight", f"{dense.norm}.bias"]
        for field, name, states in zip(("weight", "bias", "gamma", "beta"), names, layer.state, strict=True):
            if name in params:
                setattr(layer, field, self._at(params[name]))
                for position, slot in enumerate(slots):
                    states[position] = self._at(slot[self._order.index(name)])
        if dense.norm:
            layer.mean = self._at(buffers[f"{dense.norm}.running_mean"])
            layer.variance = self._at(buffers[f"{dense.norm}.running_var"])
            layer.eps = self._at(_doubles([each.eps for each in replicas], len(replicas)))
        if dense.skip is not None:
            layer.skip = self._at(torch.tensor([bool(each.skip) for each in replicas], dtype=torch.uint8))

    def _at(self, tensor: Tensor) -> int:
        """The address of a tensor."""
        assert tensor.is_contiguous()
        self._keep.append(tensor)
        return tensor.data_ptr()


class _Layer(ctypes.Structure):
    """`Layer` of native.cpp."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("inputs", "outputs", "norm", "active", "pre", "again")),
        ("factor", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "gamma", "beta", "mean", "variance")),
        ("state", ctypes.c_void_p * 2 * 4),
        *((name, ctypes.c_void_p) for name in ("skip", "eps")),
    ]


class _Step(ctypes.Structure):
    """`Step` of native.cpp."""

    _fields_ = [
        ("plan", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("replicas", "count", "optimizer")),
        *((name, ctypes.c_void_p) for name in ("pixels", "batch", "mean", "scale", "labels", "index")),
        *((name, ctypes.c_void_p) for name in ("lr", "decay", "smoothing")),
        *((name, ctypes.c_double) for name in ("beta1", "beta2", "eps", "momentum", "dampening")),
        *((name, ctypes.c_int64) for name in ("nesterov", "decoupled")),
        *((name, ctypes.c_void_p) for name in ("sums", "diverged")),
    ]


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _doubles(value: float | Sequence[float] | Tensor, replicas: int) -> Tensor:
    """One float64 number per replica."""
    return torch.as_tensor(value, dtype=torch.float64).expand(replicas).contiguous()
