"""Measures a small training once with the probes of plugins, before anything is trained."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from fathomlab.base.errors import Issue, UserError
from fathomlab.base.output import escape_control_chars
from fathomlab.base.user_code import describe_error, user_code
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
                key = probe, network.convolutional, network.opaque and type(network.layers[0].model)  # type: ignore[union-attr]
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
        with deterministic_mode(), user_code():
            probe.describe(replica_row(measure_copy(probe, _small_training(recipe), 0), 0))
    except KeyboardInterrupt:
        raise
    except UserError as error:
        return escape_control_chars(str(error))
    except BaseException as error:  # a plugin may call sys.exit, too
        return escape_control_chars(describe_error(error, type(probe).__name__))
    return ""


def _small_training(recipe: Recipe) -> "PackTrainer":
    """A training before its first step, with random images, on the CPU."""
    import torch

    from fathomlab.engine.device_data import DeviceDataset
    from fathomlab.engine.training import PackTrainer
    from fathomlab.losses.cross_entropy import CrossEntropy

    network, cpu = recipe.architecture, torch.device("cpu")
    recipe = replace(
        recipe,
        precision="fp64" if recipe.precision == "fp64" else "fp32",
        batch_size=min(recipe.batch_size, IMAGES),
        loss=CrossEntropy() if recipe.teachers else recipe.loss,
        teachers=(),
        augment=(),
    )
    dtype = torch.float64 if recipe.precision == "fp64" else torch.float32
    images = torch.randint(256, (IMAGES, *network.shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(IMAGES).remainder(network.classes)
    mean = torch.full((network.shape[0], 1, 1), 128.0, dtype=dtype)
    data = DeviceDataset(images, labels, images, labels, mean, torch.full_like(mean, 1 / 64))
    index = torch.arange(IMAGES).unsqueeze(0)
    return PackTrainer([recipe], data, index, index[:, :1], cpu)
