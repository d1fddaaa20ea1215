"""Backends: how the steps of a pack are computed. A new one is a file here and a line in `BACKENDS`. Imports without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fathomlab.engine.backends.graph import Graph
from fathomlab.engine.backends.native import Native
from fathomlab.engine.backends.reference import Reference
from fathomlab.plan.recipe import Recipe

if TYPE_CHECKING:
    from fathomlab.engine.step_inputs import StepFunction
    from fathomlab.engine.training import PackTrainer


@dataclass(frozen=True)
class Machine:
    """What a backend must know about the computer.

    Attributes:
        device: cpu or cuda.
        compiler: Whether a C++ compiler is installed.
    """

    device: str
    compiler: bool = False


class Backend(Protocol):
    """A way to compute the steps of a pack. Its numbers agree with those of `reference` within rounding."""

    def refuses(self, recipes: Sequence[Recipe], machine: Machine) -> str:
        """Why it cannot train a pack with these recipes on this machine, as a sentence; `""` if it can."""
        ...

    def build(self) -> str:
        """What was built: the versions and the processor features that its numbers depend on."""
        ...

    def prepare(self, pack: "PackTrainer") -> "StepFunction":
        """Return the function that computes a step with a batch of any size, without changing the state of the pack.

        Everything that can fail happens here, so that another backend can still be used.

        Raises:
            UserError: If the steps of this pack cannot be built.
        """
        ...


FALLBACK = "Using backend reference."  # follows the reason

BACKENDS: Mapping[str, Backend] = {
    "reference": Reference(),
    "graph": Graph(),
    "native": Native(),
}
