"""Answers to unknown keys: names that other libraries use, and keys that belong somewhere else."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from fathomlab.base.errors import Issue, did_you_mean, format_value
from fathomlab.config.components import Components
from fathomlab.config.paths import get_path
from fathomlab.config.schema import DataOptions, ExperimentOptions, LoggingOptions
from fathomlab.config.training import DistillationOptions, TrainingOptions
from fathomlab.losses import CRITERIA
from fathomlab.optim import UNSUPPORTED_OPTIMIZERS, UNSUPPORTED_SCHEDULES

MODEL_SECTIONS = ("model", "teacher_model", "student_model")
TRAINING_SECTIONS = ("training", "training_teacher", "training_student")
ALIASES = {
    "learning_rate": "training.lr",
    "max_lr": "training.lr",
    "base_lr": "training.lr",
    "wd": "training.optimizer_params.weight_decay",
    "num_epochs": "training.epochs",
    "n_epochs": "training.epochs",
    "max_epochs": "training.epochs",
    "optim": "training.optimizer",
    "loss": "training.loss",
    "loss_fn": "training.criterion",
    "lr_scheduler": "training.scheduler",
    "schedule": "training.scheduler",
    "grad_clip": "training.gradient_clip",
    "clip_grad_norm": "training.gradient_clip",
    "bs": "data.batch_size",
    "batch": "data.batch_size",
    "batchsize": "data.batch_size",
    "val_split": "data.validation_split",
    "dataset": "data.name",
    "augmentation": "data.augment",
    "hidden_size": "model.params.layers_dim",
    "hidden_dim": "model.params.layers_dim",
    "num_layers": "model.params.hidden_layers_num",
    "n_layers": "model.params.hidden_layers_num",
    "T": "distillation.temperature",
    "tau": "distillation.temperature",
    "random_seed": "seed",
    "num_seeds": "experiment.seeds",
    "n_seeds": "experiment.seeds",
    "headline": "experiment.primary_metric",
    "project": "logging.project_name",
}
MISPLACED = {
    "experiment.name": "experiment.title",
    "experiment.description": "experiment.question",
    "experiment.seed": "seed",
    "title": "experiment.title",
}
COMPUTED = {
    "total_steps": "computed from the data and training.epochs",
    "steps_per_epoch": "computed from the data",
    "last_epoch": "interrupted trials resume by themselves",
    "mode": "the validation loss is minimized",
    "verbose": "the learning rate of every epoch is recorded",
    "shuffle": "the images are shuffled in every epoch",
    "pin_memory": "datasets stay in device memory",
    "persistent_workers": "datasets stay in device memory",
}
UNSUPPORTED = {
    "criterion": ("NLLLoss", "MSELoss", "BCELoss", "BCEWithLogitsLoss", "KLDivLoss", "L1Loss"),
    "optimizer": UNSUPPORTED_OPTIMIZERS,
    "scheduler": UNSUPPORTED_SCHEDULES,
}
SELECTORS = {"params": "type", "optimizer_params": "optimizer", "scheduler_params": "scheduler"}


def explained(problem: Issue, data: Mapping[str, Any], components: Components) -> Issue:
    """The problem with a message that names where an unknown key belongs, if that is known."""
    if problem.code != "unknown-key" or problem.path.startswith("quick."):
        return problem
    message = _message(problem.path, data, components)
    return replace(problem, message=message) if message else problem


def torch_name_problem(what: str, name: str, components: Components) -> str:
    """What is wrong with the name of an optimizer, scheduler, or criterion; `""` if it is supported."""
    tables: dict[str, Sequence[str]] = {
        "criterion": tuple(CRITERIA),
        "optimizer": tuple(components.optimizers),
        "scheduler": (*components.schedules, "none"),
    }
    supported = tables[what]
    if name in supported or name in components.unusable:
        return "" if name in supported else components.unusable[name]
    listed = f"Supported: {', '.join(supported)}."
    if name in UNSUPPORTED[what]:
        return f"unsupported {what} {format_value(name)}. {listed}"
    if what == "criterion" and name in components.losses:
        return f"{name} is a loss by name. Set training.loss: {{type: {name}}} instead."
    return f"unknown {what} {format_value(name)}.{did_you_mean(name, supported) or ' ' + listed}"


def _message(path: str, data: Mapping[str, Any], components: Components) -> str:
    section, _, key = path.rpartition(".")
    if path in MISPLACED:
        return f"unknown key. Set {MISPLACED[path]} instead."
    if key in COMPUTED:
        return f"unknown key; remove it ({COMPUTED[key]})"
    if key in ALIASES and _in_section(ALIASES[key], section, data) != path:
        return f"unknown key. Set {_in_section(ALIASES[key], section, data)} instead."
    owner, _, kind = section.rpartition(".")
    if kind == "loss" and not did_you_mean(key, ("type", "params")):  # it may be an option of a plugin's loss
        return f"unknown key. Set {section}.params.{key} instead."
    if kind in SELECTORS and (other := _other_component(owner, kind, key, data, components)):
        return other
    places = [place for place in _places(key, components) if _in_section(place, section, data) != path]
    return f"unknown key. Set {_in_section(places[0], section, data)} instead." if places else ""


def _other_component(owner: str, kind: str, key: str, data: Mapping[str, Any], components: Components) -> str:
    """An option of another model, optimizer, or schedule than the chosen one."""
    selector = SELECTORS[kind]
    table = {"type": components.models, "optimizer": components.optimizers, "scheduler": components.schedules}[selector]
    if kind == "params" and owner.rpartition(".")[2] not in MODEL_SECTIONS:
        return ""
    default = "Adam" if kind == "optimizer_params" else None
    chosen = get_path(data, f"{owner}.{selector}", default)
    others = [name for name, component in table.items() if name != chosen and key in _options(component)]
    return f"not an option of {chosen}; it is an option of {', '.join(others)}" if others else ""


def _places(key: str, components: Components) -> list[str]:
    """Where a key of this name is valid, by dotted key of the usual sections."""
    sections = {
        "training": TrainingOptions,
        "data": DataOptions,
        "experiment": ExperimentOptions,
        "distillation": DistillationOptions,
        "logging": LoggingOptions,
    }
    places = [f"{name}.{key}" for name, section in sections.items() if key in _options(section)]
    tables: list[tuple[str, Mapping[str, type]]] = [
        ("model.params", components.models),
        ("training.optimizer_params", components.optimizers),
        ("training.scheduler_params", components.schedules),
        ("data.params", components.datasets),
    ]
    places += [f"{name}.{key}" for name, table in tables if any(key in _options(part) for part in table.values())]
    return places + [key] * (key == "seed")


def _in_section(place: str, section: str, data: Mapping[str, Any]) -> str:
    """The location in the section that the file uses: a student's training for a key in a student's training."""
    top, _, rest = place.partition(".")
    if section.startswith("roles.") and top in ("model", "training"):
        return f"{'.'.join(section.split('.')[:2])}.{place}"
    names = {"model": MODEL_SECTIONS, "training": TRAINING_SECTIONS}.get(top, (top,))
    if rest == "emulate":  # it acts on students
        names = names[::-1]
    current = section.partition(".")[0]
    if current in names:
        return f"{current}.{rest}"
    present = [name for name in names if data.get(name) is not None]
    return f"{present[0]}.{rest}" if present and rest else place


def _options(component: Any) -> set[str]:
    return {field.name for field in fields(component)}
