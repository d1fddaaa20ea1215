"""The reference backend: operations of torch, one by one, for every network and every device."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from fathomlab.engine.backends import Machine
    from fathomlab.engine.step_inputs import StepFunction
    from fathomlab.engine.training import PackTrainer
    from fathomlab.plan.recipe import Recipe


@final
@dataclass(frozen=True)
class Reference:
    """Runs the operations of a step one by one. It defines the numbers of the other backends."""

    def refuses(self, recipes: "Sequence[Recipe]", machine: "Machine") -> str:
        """Nothing is refused."""
        return ""

    def build(self) -> str:
        """The version of torch."""
        import torch

        return f"torch {torch.__version__}"

    def prepare(self, pack: "PackTrainer") -> "StepFunction":
        """Return the step of `engine.step`."""
        from fathomlab.engine.step import train_step_on_device

        return partial(train_step_on_device, pack)
