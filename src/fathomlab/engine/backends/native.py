"""The native backend: C++ that is built once per machine trains MLPs and narrow CNNs on a CPU, and normalizes maps of others."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from fathomlab.engine.backends import lanes, maps
from fathomlab.engine.backends.dense import dense_layers
from fathomlab.engine.backends.native_library import SOURCE
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.optim.adam import Adam, AdamW
from fathomlab.optim.sgd import SGD

if TYPE_CHECKING:
    from fathomlab.engine.backends import Machine
    from fathomlab.engine.step_inputs import StepFunction
    from fathomlab.engine.training import PackTrainer
    from fathomlab.plan.recipe import Recipe

REALS = {"fp32": "float", "fp64": "double"}


def library_of(recipe: "Recipe") -> tuple[Path, str]:
    """The source of the library that trains a recipe, and the format of its numbers."""
    source = lanes.SOURCE if lanes.supports(recipe) else maps.SOURCE
    return source if recipe.architecture.convolutional else SOURCE, maps.real_of(recipe.precision)


@final
@dataclass(frozen=True)
class Native:
    """Computes one replica after the other, so that activations stay in the cache. Narrow CNNs of a pack are groups."""

    def refuses(self, recipes: "Sequence[Recipe]", machine: "Machine") -> str:
        """What the C++ function does not compute: other networks than MLPs of ReLU layers, and other losses and optimizers."""
        recipe = recipes[0]
        if recipe.architecture.convolutional:
            return maps.refuses(recipes, machine)
        optimizer = recipe.optimizer
        reasons = {
            "it needs a CPU": machine.device != "cpu",
            "no C++ compiler is installed": not machine.compiler,
            "it supports MLPs with ReLU, without dropout, with one layer per block, and pre-activation without batch norm": any(
                dense_layers(each.architecture) is None for each in recipes
            ),
            "it supports CrossEntropy only": not isinstance(recipe.loss, CrossEntropy) or bool(recipe.teachers),
            "it supports Adam without amsgrad, AdamW, and SGD": type(optimizer) not in (Adam, AdamW, SGD)
            or getattr(optimizer, "amsgrad", False),
            # Before batch norm, the gradient of a bias is 0 and not rounding noise: its update would be 0/0.
            "it supports Adam with eps above 0": getattr(optimizer, "eps", 1.0) == 0,
            "it does not support gradient clipping": recipe.gradient_clip is not None,
            "it does not support frozen parameters": bool(recipe.frozen),
            "it computes steps in training mode only": "student_eval" in recipe.emulate,
            "it supports fp32 and fp64": recipe.precision not in REALS,
        }
        return next((reason for reason, applies in reasons.items() if applies), "")

    def build(self) -> str:
        """The versions of torch and the compiler, its flags, and the instruction set."""
        import torch

        from fathomlab.engine.backends.native_library import describe_build

        return f"torch {torch.__version__}, {describe_build()}"

    def prepare(self, pack: "PackTrainer") -> "StepFunction":
        """Build the library if this machine does not have it. Memory for activations is allocated by the first step.

        Raises:
            UserError: If it cannot be built, or its numbers are wrong.
        """
        from fathomlab.engine.native_check import checked_library
        from fathomlab.engine.native_step import NativeStep

        if pack.shared_recipe.architecture.convolutional:
            return (lanes if lanes.supports(pack.shared_recipe) else maps).prepare(pack)
        return NativeStep(pack, checked_library(pack.shared_recipe.precision))
