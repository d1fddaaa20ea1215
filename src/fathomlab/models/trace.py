"""What a user's module is, found by running it on random images before any training, and what is wrong with it."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from fathomlab.base.errors import UserError
from fathomlab.base.generators import generator_states, seeded
from fathomlab.base.user_code import describe_error, user_code
from fathomlab.models.functional import ModuleTensors, construct, fixed_tensors, run_packed, to_format
from fathomlab.models.parameters import Parameter, Shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from fathomlab.models.opaque import UserModel

VECTORIZED_MACS = 2e7  # per step and replica; packs of more work gain nothing, or lose (LOG.md, 2026-11-28)
IMAGES, REPLICAS = 4, 3  # of the comparison of packed and separate replicas
CLOSE, EQUAL = 1e-3, 1e-10  # largest relative differences, in fp32 and fp64


@dataclass(frozen=True)
class Trace:
    """What forward and backward passes show of a module.

    Attributes:
        parameters: Learned tensors: parameters that require a gradient.
        weight_layers: Inner modules whose `weight` is learned and has at least two axes, in the order of the forward pass.
        points: Those of them that ran exactly once.
        outputs: Number of logits.
        macs: Multiply-accumulates per image.
        changes_images: Whether the module changes its input in place.
        single_training: Why it cannot be trained on a batch of one image; `""` if it can.
        single_evaluation: Why it cannot evaluate one image; `""` if it can.
        vectorized: Whether several replicas can run at once, with equal numbers. Not tested for large modules.
    """

    parameters: tuple[Parameter, ...]
    weight_layers: tuple[str, ...]
    points: tuple[str, ...]
    outputs: int
    macs: int
    changes_images: bool
    single_training: str
    single_evaluation: str
    vectorized: bool


@cache
def trace(model: "UserModel", shape: Shape) -> Trace:
    """Construct a module and run random images forward and backward. The result is cached.

    Raises:
        UserError: If the module raises an error, does not return (n, classes), has parameters that it does not use, or is not
            a function of its parameters, its buffers, and its input.
    """
    import torch

    name = type(model).__name__
    with user_code(f"{name} with images of {tuple(shape)}"), seeded(0), torch.enable_grad(), _single_precision():
        return _Tracer(model, name, shape).trace()


@contextmanager
def _single_precision() -> Iterator[None]:
    """Use torch's default format, as in training, whatever a plugin has set."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class _Tracer:
    """Runs a module as the engine does."""

    def __init__(self, model: "UserModel", name: str, shape: Shape):
        self.model, self.name, self.shape = model, name, shape
        self.module = construct(model, shape)
        self.tensors = ModuleTensors(self.module)
        self.learned = [key for key, tensor in self.module.named_parameters() if tensor.requires_grad]
        self.calls: list[str] = []
        self._constructed: dict[int, nn.Module] = {}

    def trace(self) -> Trace:
        """Check the module and describe it."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        self._check_tensors()
        tensors, images = self._values(0, torch.float32), torch.rand(2, *self.shape)
        layers = [name.removesuffix(".weight") for name in self.learned if _is_weight(name, tensors[name])]
        handles = [self.module.get_submodule(layer).register_forward_hook(self._recorder(layer)) for layer in layers]
        before = images.clone()
        with FlopCounterMode(display=False) as counter, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the counter; the next call shows those of the module
            logits = self._run(tensors, images)
        for handle in handles:
            handle.remove()
        self._check_logits(logits)
        gradients = self._gradients(logits, tensors)
        changes_images = not torch.equal(images, before)
        self._check_function(before, logits, gradients)
        single_training, single_evaluation = self._single(training=True), self._single(training=False)
        self.module.train()
        macs = counter.get_total_flops() // 4  # two images, two operations per multiply-accumulate
        return Trace(
            tuple(
                Parameter(key, tuple(tensors[key].shape), "module", "weight" if tensors[key].dim() > 1 else "bias")
                for key in self.learned
            ),
            tuple(dict.fromkeys([*self.calls, *layers])),
            tuple(layer for layer in self.calls if self.calls.count(layer) == 1),
            logits.shape[1],
            macs,
            changes_images,
            single_training,
            single_evaluation,
            macs <= VECTORIZED_MACS and not changes_images and self._is_vectorized(),
        )

    def _values(self, seed: int, dtype: "torch.dtype") -> "dict[str, Tensor]":
        """The parameters and buffers of a module constructed with a seed, in a format."""
        if seed not in self._constructed:
            with seeded(seed):
                self._constructed[seed] = construct(self.model, self.shape)
        module = self._constructed[seed]
        values = {key: to_format(tensor.detach(), dtype).clone() for key, tensor in fixed_tensors(module).items()}
        parameters = dict(module.named_parameters())
        return values | {
            key: to_format(parameters[key].detach(), dtype).clone().requires_grad_() for key in self.learned
        }

    def _run(self, tensors: "dict[str, Tensor]", images: "Tensor") -> "Tensor":
        self.tensors.install(tensors)
        with seeded(0):
            return self.module(images)

    def _recorder(self, layer: str) -> Callable[..., None]:
        import torch

        return lambda module, inputs, output: self.calls.append(layer) if isinstance(output, torch.Tensor) else None

    def _fail(self, text: str) -> None:
        raise UserError("plugin-error", f"{self.name} {text}")

    def _check_tensors(self) -> None:
        import torch

        for name, tensor in self._values(0, torch.float32).items():
            if tensor.layout != torch.strided:
                self._fail(f"must have dense parameters and buffers, got {tensor.layout} for {name}")
            if name in self.learned and not tensor.is_floating_point():
                self._fail(f"must have real parameters, got {tensor.dtype} for {name}; use torch.view_as_complex")

    def _check_logits(self, logits: Any) -> None:
        import torch

        if not isinstance(logits, torch.Tensor) or logits.dim() != 2 or len(logits) != 2:
            got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
            self._fail(f"must return logits of shape (n, classes), got {got} for 2 images")
        if not self.learned:
            self._fail("has no parameters that require a gradient")
        if not logits.is_floating_point():
            self._fail(f"must return real logits, got {logits.dtype}")
        if torch.is_grad_enabled() and not logits.requires_grad:
            self._fail("must return logits that depend on its parameters; do not detach them or disable gradients")
        if [key for key, tensor in self.module.named_parameters() if tensor.requires_grad] != self.learned:
            self._fail(
                "must create its parameters in __init__, not in forward; lazy layers such as LazyLinear may help"
            )

    def _gradients(self, logits: "Tensor", tensors: "dict[str, Tensor]") -> "list[Tensor]":
        import torch

        weights = torch.linspace(-1, 1, logits.numel()).view(logits.shape)
        learned = [tensors[key] for key in self.learned]
        gradients = torch.autograd.grad((logits * weights).sum(), learned, allow_unused=True)
        unused = [key for key, gradient in zip(self.learned, gradients, strict=True) if gradient is None]
        if unused:
            text = "has parameters that do not affect the logits; remove them, or set requires_grad to False"
            self._fail(f"{text}: {', '.join(unused)}")
        return list(gradients)

    def _check_function(self, images: "Tensor", logits: "Tensor", gradients: "list[Tensor]") -> None:
        """Compare with a second call, and with a module that has other parameters and is called without the engine."""
        import torch

        tensors = self._values(0, torch.float32)
        again = self._run(tensors, images.clone())
        results = [logits, *gradients]
        if not _close([again, *self._gradients(again, tensors)], results, CLOSE):
            text = "gives other results for the same input. Keep its state in parameters and buffers, and draw random"
            self._fail(f"{text} numbers from the default generators of torch, NumPy, or Python")
        tensors = self._values(1, torch.float32)
        with seeded(1):
            other = construct(self.model, self.shape).float()
        with seeded(0):
            direct = other(images.clone())
        learned = [dict(other.named_parameters())[key] for key in self.learned]
        weights = torch.linspace(-1, 1, direct.numel()).view(direct.shape)
        expected = [direct, *torch.autograd.grad((direct * weights).sum(), learned)]
        functional = self._run(tensors, images.clone())
        if not _close([functional, *self._gradients(functional, tensors)], expected, CLOSE):
            self._fail("must read its values from its parameters and buffers, not from copies or other attributes")

    def _single(self, training: bool) -> str:
        """Why the module cannot be called with one image."""
        import torch

        self.module.train(training)
        with torch.no_grad():
            if not training:
                self._check_logits(self._run(self._values(0, torch.float32), torch.rand(2, *self.shape)))
            try:
                logits = self._run(self._values(0, torch.float32), torch.rand(1, *self.shape))
            except Exception as error:
                return describe_error(error)
        return "" if logits.dim() == 2 and len(logits) == 1 else f"it returns shape {tuple(logits.shape)} for one image"

    def _is_vectorized(self) -> bool:
        """Whether packed and separate replicas have equal logits, gradients, and buffers in fp64; no random numbers."""
        import torch

        images = torch.rand(REPLICAS, IMAGES, *self.shape, dtype=torch.float64)
        states = generator_states()
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", "There is a performance drop")  # an operation runs in a slow loop
                equal = self._packed_equals_separate(images)
        except KeyboardInterrupt:
            raise
        except BaseException:  # whatever torch or the module does not support
            return False
        return equal and states == generator_states()

    def _packed_equals_separate(self, images: "Tensor") -> bool:
        import torch

        values = [self._values(seed, torch.float64) for seed in range(REPLICAS)]
        packed = {key: torch.stack([value[key].detach() for value in values]) for key in values[0]}
        params = {key: packed[key].requires_grad_() for key in self.learned}
        buffers = {key: tensor for key, tensor in packed.items() if key not in params}
        logits, buffers = run_packed(self.module.train(), params, buffers, images.clone())
        results = [logits, *torch.autograd.grad(logits.square().sum(), list(params.values())), *buffers.values()]
        expected: list[list[Tensor]] = []
        for value, inputs in zip(values, images, strict=True):
            self.tensors.install(value)
            output = self.module(inputs.clone())
            learned = [value[key] for key in self.learned]
            gradients = torch.autograd.grad(output.square().sum(), learned)
            expected.append([output, *gradients, *(self.tensors.current(key) for key in buffers)])
        if not _close(results, [torch.stack(each) for each in zip(*expected, strict=True)], EQUAL):
            return False
        with torch.no_grad():
            self.module.eval()
            logits, _ = run_packed(self.module, params, {key: each.clone() for key, each in buffers.items()}, images)
            for slot, (value, inputs) in enumerate(zip(values, images, strict=True)):
                self.tensors.install({**value, **{key: each[slot].clone() for key, each in buffers.items()}})
                if not _close([self.module(inputs)], [logits[slot]], EQUAL):
                    return False
        return True


def _close(actual: "list[Tensor]", expected: "list[Tensor]", tolerance: float) -> bool:
    """Whether tensors are equal up to a part of their largest number, or NaN where the others are.

    Numbers far below those of the other tensors are rounding noise, such as the gradient of a bias before a normalization.
    """
    pairs = [(one.detach(), other.detach()) for one, other in zip(actual, expected, strict=True)]
    if any(one.shape != other.shape or not bool((one.isnan() == other.isnan()).all()) for one, other in pairs):
        return False
    finite = [(one.nan_to_num(), other.nan_to_num()) for one, other in pairs if one.numel()]
    sizes = [float(other.abs().max()) for _, other in finite]
    differences = [float((one - other).abs().max()) for one, other in finite]
    noise = 1e-2 * max(sizes, default=0)
    return all(gap <= tolerance * max(size, noise) for gap, size in zip(differences, sizes, strict=True))


def _is_weight(name: str, tensor: "Tensor") -> bool:
    return name.endswith(".weight") and tensor.dim() > 1
