"""Users' losses: a function as a loss, and a check that computes a loss once before any training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from fathomlab.base.errors import Issue, UserError, definition_location, format_value
from fathomlab.base.generators import DRAWS, generator_states, seeded
from fathomlab.base.options import option_values
from fathomlab.base.output import escape_control_chars
from fathomlab.base.user_code import user_code
from fathomlab.losses.cross_entropy import cross_entropy
from fathomlab.losses.defaults import LossDefaults, Points
from fathomlab.models.parameters import Parameter

if TYPE_CHECKING:
    from fathomlab.base.axes import PerExample

SIGNALS = ("logits", "labels", "teacher_logits", "label_losses")


@dataclass(frozen=True)
class _Signals:
    logits: Any
    labels: Any
    teacher_logits: Any
    distilled: bool
    features: Mapping[str, Any] = field(default_factory=dict)
    teacher_features: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label_losses(self) -> Any:
        if not self.distilled:
            raise ValueError("label_losses exists only for networks with a teacher; set distillation.loss instead")
        return cross_entropy(self.logits, self.labels)


def loss_issues(
    loss: Any, classes: int, distilled: bool = False, points: tuple[Points, Points] = ({}, {})
) -> list[Issue]:
    """Compute a user's loss once, for random logits and features of four images, and return what is wrong with it.

    Args:
        loss: The component.
        classes: Number of classes of the data.
        distilled: Whether it is the loss of students, which can read their loss on the labels.
        points: Shapes of the features of the network and of its teacher, if the loss needs them.
    """
    import torch

    generator, name = torch.Generator().manual_seed(0), type(loss).__name__
    logits, teacher_logits = torch.randn(2, 1, 4, classes, generator=generator, device="cpu")
    labels = torch.arange(4).remainder(classes).unsqueeze(0)
    signals = _Signals(logits.requires_grad_(), labels.clone(), teacher_logits, distilled)
    features, others = (
        {name: torch.randn(1, 4, *shape, generator=generator, device="cpu") for name, shape in each.items()}
        for each in points
    )
    for values in features.values():  # a loss may depend on nothing else
        values.requires_grad_()
    signals = replace(signals, features=features, teacher_features=others)
    try:
        with user_code(f"{name} with {classes} classes"), seeded(0), torch.enable_grad():
            before = generator_states()
            if points[0]:
                if issues := _mismatches(loss, points):
                    return issues
                learned = {each.name: torch.zeros(1, *each.shape, device="cpu") for each in _learned(loss, points)}
                signals = replace(signals, parameters=learned)
            terms = loss.terms(signals)
            if not isinstance(terms, Mapping) or not terms:
                raise TypeError(f"terms must return a mapping of names to tensors, got {format_value(terms)}")
            losses = reduce(add, terms.values())
            if losses.shape != labels.shape:
                expected = f"one number per example, shape {tuple(labels.shape)}"
                raise ValueError(f"the terms must have {expected}, got {tuple(losses.shape)}")
            drawn = generator_states() != before
    except UserError as error:
        return [Issue(error.code, "", escape_control_chars(str(error)))]
    depends = "must return a loss that depends on the logits" + " or features" * bool(features)
    text = DRAWS if drawn else "" if losses.requires_grad else depends
    if not torch.equal(signals.labels, labels):
        text = "must not change the labels"
    where = definition_location(getattr(type(loss), "function", type(loss).terms))
    return [Issue("plugin-error", "", f"{where}{name} {text}")] if text else []


def _mismatches(loss: Any, points: tuple[Points, Points]) -> list[Issue]:
    """What a user's loss says about the features of two networks."""
    issues = loss.mismatches(*points)
    if not isinstance(issues, list) or not all(isinstance(each, Issue) for each in issues):
        raise TypeError(f"mismatches must return a list of fathomlab.base.errors.Issue, got {format_value(issues)}")
    return [replace(each, path=each.path and f"params.{each.path}") for each in issues]


def _learned(loss: Any, points: tuple[Points, Points]) -> tuple[Parameter, ...]:
    """What a user's loss learns, with different names and known initial values."""
    learned = loss.parameters(*points)
    if not isinstance(learned, tuple | list) or not all(isinstance(each, Parameter) for each in learned):
        expected = "a tuple of fathomlab.models.parameters.Parameter"
        raise TypeError(f"parameters must return {expected}, got {format_value(learned)}")
    names = [each.name for each in learned]
    if len(set(names)) < len(names):
        raise ValueError(f"parameters must have different names, got {', '.join(names)}")
    for each in learned:
        if each.init not in ("weight", "bias") and not isinstance(each.init, int | float):
            raise ValueError(f"the init of parameter {each.name} must be weight, bias, or a number, got {each.init!r}")
    return tuple(learned)


class FunctionLoss(LossDefaults):
    """Base of the components of users' functions: frozen dataclasses whose fields are the keyword parameters.

    The options are equal for all replicas of a pack, so the function is called once, with the examples of all replicas.

    Attributes:
        function: Takes `inputs` in their order, and the options. Returns the loss of each example, (n,).
        inputs: What it reads: `logits` (n, classes), `labels` (n,), `teacher_logits` (n, classes), or `label_losses` (n,).
    """

    function: ClassVar[Callable[..., Any]]
    inputs: ClassVar[tuple[str, ...]]

    def terms(self, signals: Any) -> "Mapping[str, PerExample]":
        """Compute the loss (nats), shape (k, n).

        Raises:
            UserError: If the function does not return one number per example, or it does not depend on the logits.
        """
        import torch

        inputs = [getattr(signals, name).flatten(0, 1) for name in self.inputs]
        losses = type(self).function(*inputs, **option_values(self))
        shape = getattr(losses, "shape", None)
        if shape is None or tuple(shape) != (len(inputs[0]),):
            expected = f"the loss of each of the {len(inputs[0])} examples, shape ({len(inputs[0])},)"
            got = type(losses).__name__ if shape is None else f"shape {tuple(shape)}"
            remedy = "" if shape is None else '. Compute it with reduction="none", or sum over all but the first axis'
            self._fail(f"must return {expected}, got {got}{remedy}")
        if torch.is_grad_enabled() and signals.logits.requires_grad and not losses.requires_grad:
            self._fail("must return a loss that depends on the logits")
        return {type(self).__name__: losses.view(signals.labels.shape)}

    def _fail(self, text: str) -> NoReturn:
        name, where = type(self).__name__, definition_location(type(self).function)
        raise UserError("plugin-error", escape_control_chars(f"{where}{name} {text}"))
