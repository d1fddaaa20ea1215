"""A user's function as a loss."""

import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

from fathomlab.base.errors import Issue, definition_location, user_code_location
from fathomlab.base.output import escape_control_chars

if TYPE_CHECKING:
    from fathomlab.base.axes import PerExample

SIGNALS = ("logits", "labels", "teacher_logits")


@dataclass(frozen=True)
class _Signals:
    logits: Any
    labels: Any
    teacher_logits: Any


class LossShapeError(ValueError):
    """A user's function did not return one number per example."""


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
        """Call the function once, for random logits of four images, and return what is wrong with its result."""
        import torch

        generator, name = torch.Generator().manual_seed(0), type(self).__name__
        logits, teacher_logits = torch.randn(2, 1, 4, classes, generator=generator, device="cpu")
        signals = _Signals(logits.requires_grad_(), torch.arange(4).remainder(classes).unsqueeze(0), teacher_logits)
        try:
            with redirect_stdout(sys.stderr), torch.random.fork_rng(devices=[]), torch.enable_grad():
                losses = self.terms(signals)[name]
        except KeyboardInterrupt:
            raise
        except LossShapeError as error:
            return [Issue("plugin-error", "", str(error))]
        except BaseException as error:  # a function may call sys.exit, too
            text = f"{user_code_location(error)}{name} with {classes} classes: {type(error).__name__}: {error}"
            return [Issue("plugin-error", "", escape_control_chars(text))]
        if losses.requires_grad:
            return []
        return [Issue("plugin-error", "", f"{name} must return a loss that depends on the logits")]

    def terms(self, signals: Any) -> "Mapping[str, PerExample]":
        """Compute the loss (nats), shape (k, n).

        Raises:
            LossShapeError: If the function does not return one number per example.
        """
        inputs = [getattr(signals, name).flatten(0, 1) for name in self.inputs]
        options = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        losses, name = type(self).function(*inputs, **options), type(self).__name__
        shape = getattr(losses, "shape", None)
        if shape is None or tuple(shape) != (len(inputs[0]),):
            expected = f"the loss of each of the {len(inputs[0])} examples, shape ({len(inputs[0])},)"
            got = type(losses).__name__ if shape is None else f"shape {tuple(shape)}"
            remedy = "" if shape is None else '. Compute it with reduction="none", or sum over all but the first axis'
            where = definition_location(type(self).function)
            raise LossShapeError(f"{where}{name} must return {expected}, got {got}{remedy}")
        return {name: losses.view(signals.labels.shape)}
