"""Packs of CNNs of the native backend: batch norm of maps in C++, together with what follows it; the rest is the reference."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fathomlab.engine.backends import lanes
from fathomlab.models.architecture import Architecture, walk
from fathomlab.models.layers import BatchNorm, Conv2d

if TYPE_CHECKING:
    from fathomlab.engine.backends import Machine
    from fathomlab.engine.step_inputs import StepFunction
    from fathomlab.engine.training import PackTrainer
    from fathomlab.plan.recipe import Recipe

SOURCE = Path(__file__).with_name("maps.cpp")
MIN_CHANNELS = 32  # of the widest convolution: replicas of narrower networks are faster in groups


def refuses(recipes: "Sequence[Recipe]", machine: "Machine") -> str:
    """Why the native backend cannot train a pack of CNNs on this machine; `""` if it can."""
    reasons = {
        "it needs a CPU": machine.device != "cpu",
        "no C++ compiler is installed": not machine.compiler,
        f"it supports CNNs with batch norm and at least {MIN_CHANNELS} channels in the widest convolution, and some narrower "
        f"ones with a batch size that is a multiple of {lanes.LANES}": not (
            lanes.supports(recipes[0]) or _gains(recipes[0].architecture)
        ),
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


def real_of(precision: str) -> str:
    """The format that the library of a precision is built for."""
    return "double" if precision == "fp64" else "float"


def prepare(pack: "PackTrainer") -> "StepFunction":
    """Return the reference step of networks that normalize maps in C++, one replica after the other.

    Raises:
        UserError: If the library cannot be built, or its numbers are wrong.
    """
    from fathomlab.engine.maps import MapsPass
    from fathomlab.engine.maps_check import checked_maps
    from fathomlab.engine.step import train_step_on_device

    library = checked_maps(pack.shared_recipe.precision)
    if len(pack.recipes) > 1 and not pack.replica_trainers:
        pack.replica_trainers = tuple(pack.replica(slot) for slot in range(len(pack.recipes)))
    for trainer in pack.replica_trainers or (pack,):
        trainer.state.network.training_pass = partial(MapsPass, library)
    return partial(train_step_on_device, pack)


def _gains(architecture: Architecture) -> bool:
    layers = list(walk(architecture.layers))
    widest = max((layer.out_channels for layer in layers if isinstance(layer, Conv2d)), default=0)
    return widest >= MIN_CHANNELS and any(isinstance(layer, BatchNorm) for layer in layers)
