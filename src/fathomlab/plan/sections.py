"""The sections of an experiment file with the components that they name.

Each function reads one section, adds what is wrong to `problems` and what the user should know to `notices`, and returns None
if there is a problem.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

from fathomlab.base.errors import Issue, format_value
from fathomlab.base.options import parse, to_dict
from fathomlab.config.components import Components
from fathomlab.config.schema import ModelChoice
from fathomlab.config.training import TrainingOptions
from fathomlab.data.table import DatasetInfo
from fathomlab.losses import CRITERIA, Loss
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.models.architecture import Architecture
from fathomlab.optim.schedules import Constant
from fathomlab.plan.hints import torch_name_problem
from fathomlab.plan.objectives import BUILT_IN, chosen_loss, plain_loss
from fathomlab.probes.schedule import DEFAULT, validate_schedule

NO_SCHEDULE = ("none", "None")
Notices = dict[str, None]


@dataclass(frozen=True)
class Network:
    """A model with its options, in canonical form: options without effect have their defaults."""

    type: str
    component: Any

    def architecture(self, info: DatasetInfo) -> Architecture:
        """The network for images of a dataset."""
        return _architecture(self.component, (info.channels, info.height, info.width))

    @cached_property
    def plain(self) -> dict[str, Any]:
        """The section as plain data."""
        return {"type": self.type, "params": to_dict(self.component)}


@dataclass(frozen=True)
class Training:
    """How a network is trained; `optimizer`, `schedule`, and `chosen_loss`, if there is one, are components."""

    epochs: int
    criterion: str
    optimizer: Any
    lr: float
    schedule: Any
    precision: str
    label_smoothing: float
    gradient_clip: float | None
    chosen_loss: Loss | None
    frozen: tuple[str, ...] = ()

    @cached_property
    def loss(self) -> Loss:
        """The loss on the labels."""
        return self.chosen_loss or CRITERIA[self.criterion](self.label_smoothing)

    @cached_property
    def plain(self) -> dict[str, Any]:
        """The section as plain data. A loss by name replaces the criterion."""
        names = ("epochs", "lr", "precision", "gradient_clip")
        later = {"frozen": list(self.frozen)} if self.frozen else {}  # its default is not part of the identity
        criterion = {"criterion": self.criterion, "label_smoothing": self.label_smoothing}
        return {
            **{name: getattr(self, name) for name in names},
            **later,
            **({"loss": plain_loss(self.chosen_loss)} if self.chosen_loss else criterion),
            "optimizer": type(self.optimizer).__name__,
            "optimizer_params": to_dict(self.optimizer),
            "scheduler": None if isinstance(self.schedule, Constant) else type(self.schedule).__name__,
            "scheduler_params": to_dict(self.schedule),
        }


@dataclass(frozen=True)
class Measurement:
    """A probe, and when it measures: schedule entries or step numbers."""

    name: str
    at: tuple[str | int, ...]
    component: Any

    @property
    def plain(self) -> dict[str, Any]:
        """The options as plain data."""
        return {"at": list(self.at), **to_dict(self.component)}


@cache
def _architecture(component: Any, shape: tuple[int, int, int]) -> Architecture:
    return component.build(shape)


def network(
    raw: Any, path: str, problems: list[Issue], notices: Notices, components: Components = BUILT_IN
) -> Network | None:
    """Read `model`, or the section of a role."""
    choice = parse(ModelChoice, raw, path, problems)
    if not isinstance(choice, ModelChoice):
        return None
    if text := components.unsupported(components.models, choice.type):
        problems.append(Issue("unknown-name", f"{path}.type" if path else "type", text))
        return None
    params = f"{path}.params" if path else "params"
    component = components.models.make(choice.type, choice.params, params, problems)
    if component is None:
        return None
    for key, text in component.unused_options():
        notices.setdefault(f"{params}.{key} {text}")
    return Network(choice.type, component.canonical())


def mismatches(model: Network, info: DatasetInfo, path: str) -> list[Issue]:
    """What disagrees between a model and a dataset."""
    complaints = model.component.validate_for((info.channels, info.height, info.width), info.classes)
    return [replace(problem, path=f"{path}.params.{problem.path}".rstrip(".")) for problem in complaints]


def default_dataset(raw: Any, components: Components = BUILT_IN) -> str:
    """The dataset of a model if the file names none."""
    name = raw.get("type") if isinstance(raw, Mapping) else None
    component = components.models.get(name) if isinstance(name, str) else None
    return component.default_dataset if component else "mnist"


def training(
    raw: Any, path: str, problems: list[Issue], notices: Notices, components: Components = BUILT_IN
) -> Training | None:
    """Read `training`, or the section of a role."""
    before = len(problems)
    options = parse(TrainingOptions, raw, path, problems)
    names = dict(raw) if isinstance(raw, Mapping) else {}
    if names.get("scheduler") in NO_SCHEDULE:
        names["scheduler"] = None
    for kind in ("criterion", "optimizer", "scheduler"):
        name = names.get(kind)
        if isinstance(name, str) and (text := torch_name_problem(kind, name, components)):
            problems.append(Issue("unknown-name", f"{path}.{kind}", text))
    if not isinstance(options, TrainingOptions) or len(problems) > before:
        return None
    params = f"{path}.optimizer_params"
    optimizer = components.optimizers.make(options.optimizer, options.optimizer_params, params, problems)
    schedule = _schedule(options, path, problems, notices, components)
    loss = chosen_loss(options.loss, raw, ("criterion", "label_smoothing"), path, problems, components)
    if loss is not None and any(need.startswith("teacher.") for need in loss.needs):
        text = f"{type(loss).__name__} needs a teacher; set distillation.loss instead"
        problems.append(Issue("conflict", f"{path}.loss.type", text))
    if len(problems) > before:
        return None
    smoothing = loss.label_smoothing if isinstance(loss, CrossEntropy) else options.label_smoothing
    return Training(
        options.epochs,
        options.criterion,
        optimizer,
        options.lr,
        schedule,
        options.precision,
        smoothing,
        options.gradient_clip,
        None if isinstance(loss, CrossEntropy) else loss,  # a trial spells it as a criterion
        tuple(sorted(set(options.frozen))),
    )


def _schedule(
    options: TrainingOptions, path: str, problems: list[Issue], notices: Notices, components: Components
) -> Any:
    params = f"{path}.scheduler_params"
    if options.scheduler is None or options.scheduler in NO_SCHEDULE:
        if options.scheduler_params:
            problems.append(Issue("conflict", params, "requires a scheduler; set training.scheduler, or remove it"))
        return Constant()
    component = components.schedules[options.scheduler]
    schedule = components.schedules.make(options.scheduler, options.scheduler_params, params, problems)
    for key, value in component.defaults(options.epochs).items() if hasattr(component, "defaults") else ():
        if schedule is not None and getattr(schedule, key) is None:
            notices.setdefault(f"{params}.{key} is not set; {options.scheduler} uses {value}.")
    return schedule


def measurements(probes: Any, problems: list[Issue], components: Components = BUILT_IN) -> tuple[Measurement, ...]:
    """Read `experiment.probes`: names of probes, or a mapping of names to `{at, options}`. Sorted by name."""
    requested: dict[str, Any] = dict(probes) if isinstance(probes, Mapping) else {name: {} for name in probes or ()}
    results = []
    for name in sorted(requested):
        path, options = f"experiment.probes.{name}", requested[name] if requested[name] is not None else {}
        if text := components.unsupported(components.probes, name):
            problems.append(Issue("unknown-name", "experiment.probes", text))
            continue
        if not isinstance(options, Mapping):
            text = f"must be a mapping of options such as {{at: [init]}}, got {format_value(options)}"
            problems.append(Issue("wrong-type", path, text))
            continue
        at = options.get("at", list(DEFAULT))
        entries = tuple(at) if isinstance(at, list | tuple) else (at,)
        problems.extend(replace(problem, path=f"{path}.{problem.path}") for problem in validate_schedule(entries))
        others = {key: value for key, value in options.items() if key != "at"}
        results.append(Measurement(name, entries, components.probes.make(name, others, path, problems)))
    return tuple(results)
