"""A user's torch module as a model: a component that constructs it, and a layer that stands for it.

The engine does not look inside. It calls the module as a function of its parameters and buffers, one replica per pack.
"""

import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from fathomlab.base.errors import Issue, UserError, user_code_location
from fathomlab.base.output import escape_control_chars
from fathomlab.models.parameters import LayerDefaults, Parameter, Shape

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fathomlab.models.architecture import Architecture


class UserModel:
    """Base of the components of users' modules: frozen dataclasses whose fields are the parameters of `__init__`.

    Attributes:
        module_class: The module's class.
        default_dataset: Dataset of experiment files that name none.
        depth_key: Option that the `depths` of an experiment file set; empty if there is none.
        width_key: Option that the `widths` of an experiment file set; empty if there is none.
    """

    module_class: ClassVar[Callable[..., Any]]
    test_options: ClassVar[Mapping[str, object]] = {}
    test_input_shape: ClassVar[Shape] = (1, 28, 28)
    default_dataset: ClassVar[str] = "mnist"
    depth_key: ClassVar[str] = ""
    width_key: ClassVar[str] = ""

    def module(self) -> "nn.Module":
        """Construct the module. Its random initial values come from torch's current generator."""
        options = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return type(self).module_class(**options)

    def validate(self) -> list[Issue]:
        """No conflicts between options are known."""
        return []

    def validate_for(self, shape: Shape, classes: int) -> list[Issue]:
        """Return what prevents training on images of `shape` (c, h, w): an error in the module, or other classes."""
        try:
            outputs = trace(self, shape).outputs
        except UserError as error:
            return [Issue(error.code, "", escape_control_chars(str(error)))]
        if outputs == classes:
            return []
        text = f"must return {classes} logits, one per class of the data, got {outputs}"
        return [Issue("data-mismatch", "", f"{type(self).__name__} {text}")]

    def unused_options(self) -> list[tuple[str, str]]:
        """No option is known to be unused."""
        return []

    def canonical(self) -> "UserModel":
        """Return the component itself."""
        return self

    def build(self, shape: Shape) -> "Architecture":
        """Return an architecture of one opaque layer.

        Raises:
            UserError: If the module cannot be trained on images of `shape` (c, h, w).
        """
        from fathomlab.models.architecture import Architecture  # it imports the layers, which import this module

        return Architecture((Opaque(self, shape),), shape, trace(self, shape).outputs, "module")


@dataclass(frozen=True)
class Opaque(LayerDefaults):
    """A user's module that maps images to logits. Two are equal if their code and their options are equal.

    Attributes:
        model: The component that constructs the module.
        image_shape: Shape of one image, (c, h, w).
    """

    model: UserModel
    image_shape: Shape

    @property
    def points(self) -> tuple[str, ...]:
        """Names of the inner modules whose output probes read, in the order of the forward pass."""
        return trace(self.model, self.image_shape).points

    @property
    def weight_layers(self) -> tuple[str, ...]:
        """Names of the inner modules with a weight matrix or kernel, in the order of the forward pass."""
        return trace(self.model, self.image_shape).weight_layers

    def parameters(self) -> tuple[Parameter, ...]:
        """Learned tensors, with the module's dotted names."""
        return trace(self.model, self.image_shape).parameters

    def shape(self, shape: Shape) -> Shape:
        """(c, h, w) to (classes,)."""
        return (trace(self.model, self.image_shape).outputs,)

    def macs(self, shape: Shape) -> int:
        """Multiply-accumulates per example, counted by torch."""
        return trace(self.model, self.image_shape).macs


@dataclass(frozen=True)
class Trace:
    """What one forward and one backward pass show of a module.

    Attributes:
        parameters: Learned tensors: parameters that require a gradient.
        weight_layers: Inner modules whose `weight` is learned and has at least two axes, in the order of the forward pass.
        points: Those of them that ran exactly once.
        outputs: Number of logits.
        macs: Multiply-accumulates per image.
    """

    parameters: tuple[Parameter, ...]
    weight_layers: tuple[str, ...]
    points: tuple[str, ...]
    outputs: int
    macs: int


@cache
def trace(model: UserModel, shape: Shape) -> Trace:
    """Construct a module and run two random images forward and backward. The result is cached.

    Raises:
        UserError: If the module raises an error, does not return (n, classes), or has parameters that it does not use.
    """
    import torch

    name = type(model).__name__
    try:
        with (
            redirect_stdout(sys.stderr),  # standard output is for results
            torch.random.fork_rng(devices=[]),
            torch.enable_grad(),
            torch.device("cpu"),
        ):
            torch.manual_seed(0)
            return _trace(model.module(), name, shape)
    except (UserError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a module may call sys.exit, too
        where = user_code_location(error)
        text = f"{type(error).__name__}: {error}"
        raise UserError("plugin-error", f"{where}{name} with images of {tuple(shape)}: {text}") from error


def _trace(module: "nn.Module", name: str, shape: Shape) -> Trace:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    learned = {key: tensor for key, tensor in module.named_parameters() if tensor.requires_grad}
    layers = [key.removesuffix(".weight") for key, tensor in learned.items() if _is_weight(key, tensor)]
    calls: list[str] = []

    def record(layer: str) -> Callable[..., None]:
        return lambda module, inputs, output: calls.append(layer) if isinstance(output, torch.Tensor) else None

    for layer in layers:
        module.get_submodule(layer).register_forward_hook(record(layer))
    with FlopCounterMode(display=False) as counter:
        logits = module(torch.rand(2, *shape))
    if not isinstance(logits, torch.Tensor) or logits.dim() != 2 or len(logits) != 2:
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise UserError("plugin-error", f"{name} must return logits of shape (n, classes), got {got} for 2 images")
    if not learned:
        raise UserError("plugin-error", f"{name} has no parameters that require a gradient")
    gradients = torch.autograd.grad(logits.sum(), list(learned.values()), allow_unused=True)
    unused = [key for key, gradient in zip(learned, gradients, strict=True) if gradient is None]
    if unused:
        text = "has parameters that do not affect the logits; remove them, or set requires_grad to False"
        raise UserError("plugin-error", f"{name} {text}: {', '.join(unused)}")
    return Trace(
        tuple(
            Parameter(key, tuple(tensor.shape), "module", "weight" if tensor.dim() > 1 else "bias")
            for key, tensor in learned.items()
        ),
        tuple(dict.fromkeys([*calls, *layers])),
        tuple(layer for layer in calls if calls.count(layer) == 1),
        logits.shape[1],
        counter.get_total_flops() // 4,  # two images, two operations per multiply-accumulate
    )


def _is_weight(name: str, tensor: "Tensor") -> bool:
    return name.endswith(".weight") and tensor.dim() > 1
