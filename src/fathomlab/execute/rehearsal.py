"""Measures a small training once with the probes of plugins, before anything is trained."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from fathomlab.base.errors import Issue, UserError
from fathomlab.base.output import escape_control_chars
from fathomlab.base.user_code import user_code
from fathomlab.config.load import raise_config_error
from fathomlab.plan import Plan, Recipe
from fathomlab.probes.user import UserProbe

if TYPE_CHECKING:
    from fathomlab.engine.training import PackTrainer

IMAGES = 16


def rehearse_probes(plan: Plan) -> None:
    """Measure an untrained network of each kind, the smallest of the plan, with each user's probe.

    Raises:
        ConfigError: If a probe raises an error, returns something else than numbers, or changes what it measures.
    """
    problems = [Issue("plugin-error", f"experiment.probes.{name}", text) for name, text in _problems(plan)]
    raise_config_error(plan.loaded.document, problems)


def _problems(plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield the name of a probe and what is wrong with it, once per probe."""
    chosen: dict[tuple[object, ...], tuple[str, UserProbe, Recipe]] = {}
    for trial in plan.trials:
        for measurement in trial.probes:
            if isinstance(probe := measurement.component, UserProbe):
                network = trial.recipe.architecture
                key = probe, network.convolutional, network.opaque and type(network.opaque.model)
                if key not in chosen or network.num_params < chosen[key][2].architecture.num_params:
                    chosen[key] = measurement.name, probe, trial.recipe
    reported: set[str] = set()
    for name, probe, recipe in chosen.values():
        if name not in reported and (text := _problem(probe, recipe)):
            reported.add(name)
            yield name, text


def _problem(probe: UserProbe, recipe: Recipe) -> str:
    from fathomlab.execute.pack.measuring import measure_copy, replica_row
    from fathomlab.execute.pack.settings import deterministic_mode

    try:
        with user_code(type(probe).__name__), deterministic_mode():
            probe.describe(replica_row(measure_copy(probe, _small_training(recipe), 0), 0))
    except UserError as error:
        return escape_control_chars(str(error))
    return ""


def _small_training(recipe: Recipe) -> "PackTrainer":
    """A training before its first step, with random images, on the CPU."""
    import torch

    from fathomlab.engine.random_pack import random_pack
    from fathomlab.losses.cross_entropy import CrossEntropy

    recipe = replace(
        recipe,
        precision="fp64" if recipe.precision == "fp64" else "fp32",
        batch_size=min(recipe.batch_size, IMAGES),
        loss=CrossEntropy() if recipe.teachers else recipe.loss,
        teachers=(),
        augment=(),
    )
    return random_pack([recipe], IMAGES, torch.device("cpu"))
