"""Distillation with mistakes of published code, to show what they do."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

from fathomlab.losses.defaults import LossDefaults
from fathomlab.losses.distillation import Distillation

if TYPE_CHECKING:
    from fathomlab.base.axes import PerExample

LOSS_MISTAKES = ("mean_reduction", "no_t2")


@final
@dataclass(frozen=True)
class EmulatedDistillation(LossDefaults):
    """`Distillation` with a divergence of another size. It is set with `training.emulate`, never by name.

    Attributes:
        loss: The correct loss.
        no_t2: Leave out the factor T^2. The soft gradient then shrinks with 1 / T^2 (Hinton et al., 2015, section 2).
        mean_reduction: Average over the classes, too, as `reduction="mean"` of `torch.nn.KLDivLoss` does. The soft gradient is
            then divided by the number of classes.
    """

    loss: Distillation
    no_t2: bool = False
    mean_reduction: bool = False

    needs: ClassVar[frozenset[Any]] = Distillation.needs
    test_options: ClassVar[Mapping[str, object]] = {}

    @property
    def temperature(self) -> float:
        """T of the correct loss."""
        return self.loss.temperature

    def terms(self, signals: Any) -> "Mapping[str, PerExample]":
        """Compute the terms of the correct loss, with a smaller divergence, each of shape (k, n)."""
        terms = dict(self.loss.terms(signals))
        if self.no_t2:
            terms["distillation"] = terms["distillation"] / self.loss.temperature**2
        if self.mean_reduction:
            terms["distillation"] = terms["distillation"] / signals.logits.shape[-1]
        return terms


def with_mistakes(loss: Any, mistakes: Collection[str]) -> Any:
    """The loss with those of `mistakes` that change the loss; the loss itself if none does."""
    options = {name: True for name in LOSS_MISTAKES if name in mistakes}
    return EmulatedDistillation(loss, **options) if options else loss
