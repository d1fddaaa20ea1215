"""The page of all components: one section per kind, with their options."""

import dataclasses
from collections.abc import Mapping

from fathomlab.data import NAMED_DATASETS
from fathomlab.data.table import AUGMENTATIONS
from fathomlab.engine.backends import BACKENDS
from fathomlab.execute.executors import EXECUTORS
from fathomlab.export import EXPORTERS
from fathomlab.export.trackers import TRACKERS
from fathomlab.losses import CRITERIA, LOSSES
from fathomlab.models import MODELS
from fathomlab.optim import OPTIMIZERS, SCHEDULES
from fathomlab.probes import PROBES
from reference.markdown import options_table, summary, table

Components = Mapping[str, type]
INTRODUCTION = """\
# Components

For everyone who writes an experiment. This page lists every component and its options. `make reference` generates it from the
source. You can add [your own](../tutorials/your-own-parts.md).
"""
KINDS: dict[str, tuple[str, Components]] = {
    "Models": ("`model.type` selects a model, and `model.params` contains its options.", MODELS),
    "Datasets": ("`data.name` selects a dataset, and `data.params` contains its options.", NAMED_DATASETS),
    "Optimizers": (
        "`training.optimizer` selects an optimizer, and `training.optimizer_params` contains its options.",
        OPTIMIZERS,
    ),
    "Schedules": (
        "`training.scheduler` selects a learning-rate schedule, and `training.scheduler_params` contains its options.",
        SCHEDULES,
    ),
    "Losses": (
        "`training.loss.type` and `distillation.loss.type` select a loss, and `params` contains its options. "
        f"`training.criterion` knows the names of PyTorch: {', '.join(f'`{name}`' for name in CRITERIA)}.",
        LOSSES,
    ),
    "Probes": (
        "`experiment.probes` selects probes: a list of names, or a mapping from the name to `at` and options. `at` is a list of "
        "`init`, `epochs`, `end`, `log` (steps 1, 2, 4, 8, ...), and step numbers. "
        "`experiment.analyze_gradients: true` selects `gradients`.",
        PROBES,
    ),
}
AUGMENTED = {
    "flip": "Mirrors an image left to right with probability 1/2.",
    "crop": "Pads an image with four zeros on each side, and cuts out the original size at a random position.",
}


def page() -> str:
    """The page as Markdown."""
    lines = [INTRODUCTION]
    for title, (text, components) in KINDS.items():
        lines += [f"## {title}", "", text, ""]
        for name, component in components.items():
            lines += [f"### `{name}`", "", summary(component), "", *options_table(component)]
    lines += ["## Augmentations", "", "`data.augment` is a list of augmentations of training images.", ""]
    lines += table(("name", "what it does"), [(f"`{name}`", AUGMENTED[name]) for name in AUGMENTATIONS])
    lines += [
        "## Exporters",
        "",
        "`fathomlab export NAME EXPERIMENT [OPTION=VALUE]` calls an exporter. `onnx` and `hub` export one trial.",
        "",
    ]
    for name, component in EXPORTERS.items():
        lines += [f"### `export {name}`", "", summary(component), "", _extra(component.extra)]
        lines += options_table(component) if dataclasses.fields(component) else []
    lines += ["## Trackers", "", "`fathomlab run --log NAME` logs a run while it trains.", ""]
    extras = {name: f'`pip install "fathomlab[{tracker.extra}]"`' for name, tracker in TRACKERS.items()}
    lines += table(("name", "installed with"), [(f"`{name}`", extra) for name, extra in extras.items()])
    lines += ["## Executors", "", "`run.executor=NAME` selects where jobs are trained.", ""]
    lines += table(("name", "what it does"), [(f"`{name}`", _module(item)) for name, item in EXECUTORS.items()])
    lines += ["## Backends", "", "`run.backend=NAME` selects how the steps of a pack are computed.", ""]
    lines += table(("name", "what it does"), [(f"`{name}`", summary(type(item))) for name, item in BACKENDS.items()])
    lines += [
        "## Next steps",
        "",
        "- [Experiment file](experiment-file.md): the sections that select components.",
        "- [Your own networks, data, and losses](../tutorials/your-own-parts.md)",
    ]
    return "\n".join(lines) + "\n"


def _extra(name: str) -> str:
    return f'Install it with `pip install "fathomlab[{name}]"`.\n' if name else ""


def _module(component: object) -> str:
    """The first sentence of the module of a component."""
    import sys

    return summary(sys.modules[getattr(component, "__module__", "")])
