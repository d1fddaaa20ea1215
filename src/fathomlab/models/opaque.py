"""A user's torch module as a model: a component that constructs it, and a layer that stands for it.

The engine does not look inside. It calls the module as a function of its parameters and buffers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from fathomlab.base.errors import Issue, UserError
from fathomlab.base.options import option_values
from fathomlab.base.output import escape_control_chars
from fathomlab.models.parameters import LayerDefaults, Parameter, Shape
from fathomlab.models.trace import Trace, trace

if TYPE_CHECKING:
    from torch import nn

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
        return type(self).module_class(**option_values(self))

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
    def trace(self) -> Trace:
        """What forward and backward passes show of the module."""
        return trace(self.model, self.image_shape)

    @property
    def points(self) -> tuple[str, ...]:
        """Names of the inner modules whose output probes read, in the order of the forward pass."""
        return self.trace.points

    @property
    def weight_layers(self) -> tuple[str, ...]:
        """Names of the inner modules with a weight matrix or kernel, in the order of the forward pass."""
        return self.trace.weight_layers

    def parameters(self) -> tuple[Parameter, ...]:
        """Learned tensors, with the module's dotted names."""
        return self.trace.parameters

    def shape(self, shape: Shape) -> Shape:
        """(c, h, w) to (classes,)."""
        return (self.trace.outputs,)

    def macs(self, shape: Shape) -> int:
        """Multiply-accumulates per example, counted by torch."""
        return self.trace.macs
