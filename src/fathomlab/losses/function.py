"""A user's function as a loss."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from fathomlab.base.axes import PerExample

SIGNALS = ("logits", "labels", "teacher_logits")


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

    def terms(self, signals: Any) -> "Mapping[str, PerExample]":
        """Compute the loss (nats), shape (k, n).

        Raises:
            ValueError: If the function does not return one number per example.
        """
        inputs = [getattr(signals, name).flatten(0, 1) for name in self.inputs]
        options = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        losses, name = type(self).function(*inputs, **options), type(self).__name__
        if tuple(losses.shape) != (len(inputs[0]),):
            expected = f"the loss of each of the {len(inputs[0])} examples, shape ({len(inputs[0])},)"
            raise ValueError(f"{name} must return {expected}, got shape {tuple(losses.shape)}")
        return {name: losses.view(signals.labels.shape)}
