"""A user's function as a loss."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from fathomlab.base.errors import Issue, UserError, definition_location
from fathomlab.base.output import escape_control_chars
from fathomlab.base.user_code import describe_error, user_code

if TYPE_CHECKING:
    from fathomlab.base.axes import PerExample

SIGNALS = ("logits", "labels", "teacher_logits")


@dataclass(frozen=True)
class _Signals:
    logits: Any
    labels: Any
    teacher_logits: Any


class FunctionLoss:
    """Base of the components of users' functions: frozen dataclasses whose fields are the keyword parameters.

    The options are equal for all replicas of a pack, so the function is called once, with the examples of all replicas.

    Attributes:
        function: Takes `inputs` in their order, and the options. Returns the loss of each example, (n,).
        inputs: What it reads: `logits` (n, classes), `labels` (n,), or `teacher_logits` (n, classes).
        needs: `teacher.logits` if it reads them.
    """

    function: ClassVar[Callable[..., Any]]
    inputs: ClassVar[tuple[str, ...]]
    needs: ClassVar[frozenset[Any]]

    def validate_for(self, classes: int) -> list[Issue]:
        """Call the function twice, for random logits of four images, and return what is wrong with it."""
        import torch

        name = type(self).__name__
        try:
            with user_code(), torch.random.fork_rng(devices=[]), torch.enable_grad():
                signals, untouched = _random_signals(classes), _random_signals(classes)
                losses, again = self.terms(signals)[name], self.terms(untouched)[name]
                self._check(torch.equal(signals.labels, _random_signals(classes).labels), "must not change the labels")
                same = torch.allclose(losses, again, equal_nan=True)
                self._check(same, "gives other results for the same logits; a loss must not draw random numbers")
        except KeyboardInterrupt:
            raise
        except UserError as error:
            return [Issue(error.code, "", str(error))]
        except BaseException as error:  # a function may call sys.exit, too
            text = describe_error(error, f"{name} with {classes} classes")
            return [Issue("plugin-error", "", escape_control_chars(text))]
        return []

    def terms(self, signals: Any) -> "Mapping[str, PerExample]":
        """Compute the loss (nats), shape (k, n).

        Raises:
            UserError: If the function does not return one number per example, or it does not depend on the logits.
        """
        import torch

        inputs = [getattr(signals, name).flatten(0, 1) for name in self.inputs]
        options = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        losses, name = type(self).function(*inputs, **options), type(self).__name__
        shape = getattr(losses, "shape", None)
        if shape is None or tuple(shape) != (len(inputs[0]),):
            expected = f"the loss of each of the {len(inputs[0])} examples, shape ({len(inputs[0])},)"
            got = type(losses).__name__ if shape is None else f"shape {tuple(shape)}"
            self._check(False, f"must return {expected}, got {got}")
        differentiable = losses.requires_grad or not signals.logits.requires_grad or not torch.is_grad_enabled()
        self._check(differentiable, "must return a loss that depends on the logits")
        return {name: losses.view(signals.labels.shape)}

    def _check(self, condition: bool, text: str) -> None:
        if not condition:
            name, where = type(self).__name__, definition_location(type(self).function)
            raise UserError("plugin-error", escape_control_chars(f"{where}{name} {text}"))


def _random_signals(classes: int) -> _Signals:
    """Equal random numbers for four images."""
    import torch

    generator = torch.Generator().manual_seed(0)
    logits, teacher_logits = torch.randn(2, 1, 4, classes, generator=generator, device="cpu")
    return _Signals(logits.requires_grad_(), torch.arange(4).remainder(classes).unsqueeze(0), teacher_logits)
