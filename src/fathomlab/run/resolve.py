"""Turns the names in an experiment file into components, and a trial's content into its recipe. No torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from fathomlab.base.identity import canonical_json
from fathomlab.base.options import parse, to_dict, unknown_name
from fathomlab.base.problems import Problem, shown, suggestion
from fathomlab.config.load import Loaded, load
from fathomlab.config.schema import DataOptions, DistillationOptions, ExperimentOptions, ModelChoice, TrainingOptions
from fathomlab.data import DATASETS, canonical_name
from fathomlab.data.table import AUGMENTATIONS, Facts
from fathomlab.engine.recipe import Recipe
from fathomlab.losses import CRITERIA, Loss
from fathomlab.losses.distillation import Distillation
from fathomlab.models import MODELS
from fathomlab.models.architecture import Architecture
from fathomlab.optim import OPTIMIZERS, SCHEDULES
from fathomlab.optim.schedules import Constant
from fathomlab.plan import FORMAT, Plan, Role, Trial, expand
from fathomlab.probes import PROBES
from fathomlab.probes.schedule import DEFAULT, complaints
from fathomlab.run.feasibility import batch_norm_problems, data_problems
from fathomlab.run.hints import TORCH_NAMES, explained, torch_name_problem

NO_SCHEDULE = ("none", "None")


def prepare(source: Any, overrides: Sequence[str] = (), quick: bool = False) -> Plan:
    """Read an experiment, check every component of every trial, and plan it.

    Raises:
        ConfigError: If there are problems; all of them.
        UserError: If the file cannot be read.
    """
    loaded = load(source, overrides, quick)
    problems = list(loaded.problems)
    if problems:
        _check_parts(loaded.document.data, problems)
    return _expanded(replace(loaded, problems=tuple(problems)))


def _expanded(loaded: Loaded, seeds: tuple[int, ...] | None = None) -> Plan:
    return expand(loaded, Parts(), seeds, lambda problem: explained(problem, loaded.document.data))


def with_seeds(plan: Plan, count: int) -> Plan:
    """The same experiment with `count` seeds: those of the plan, then the next numbers. The plan if it has as many."""
    if count <= len(plan.seeds):
        return plan
    following = range(max(plan.seeds) + 1, max(plan.seeds) + 1 + count - len(plan.seeds))
    return _expanded(plan.loaded, (*plan.seeds, *following))


class Parts:
    """The tables of all layers, for the plan."""

    def axes(self, model: str) -> tuple[str, str] | None:
        """The option names of a model's depth and width."""
        part = MODELS.get(model)
        return (part.depth_key, part.width_key) if part else None

    def content(
        self, data: Mapping[str, Any], role: Role, problems: list[Problem], notices: dict[str, None]
    ) -> tuple[dict[str, Any], int] | None:
        """The resolved content of a trial except for its seed, and its depth."""
        before = len(problems)
        main = {"supervised": "model", "teacher": "teacher_model"}.get(role, "student_model")
        training = {"supervised": "training", "teacher": "training_teacher"}.get(role, "training_student")
        images = _data(data.get("data"), _model_data(data.get(main)), problems, notices)
        model = _model(data.get(main), main, images, problems, notices)
        made: dict[str, Any] = {
            "format": FORMAT,
            "data": images and images[0],
            "model": model and model[0],
            "training": _training(data.get(training), training, problems, notices),
            "probes": _probes(data.get("experiment"), problems),
        }
        if role == "distilled":
            teacher = _model(data.get("teacher_model"), "teacher_model", images, problems, notices)
            schooling = _training(data.get("training_teacher"), "training_teacher", problems, notices)
            made["teacher"] = {"model": teacher and teacher[0], "training": schooling}
            made["distillation"] = to_dict(
                parse(DistillationOptions, data.get("distillation"), "distillation", problems)
            )
        if images and len(problems) == before:
            problems += data_problems(*images[:1], images[1].train_examples, images[1].classes, notices)
        if images and model and len(problems) == before:
            network = architecture(model[0], images[0]["name"])
            problems += batch_norm_problems(images[0], network, images[1].train_examples, notices)
        return None if len(problems) > before or model is None else (made, model[1])


@lru_cache(maxsize=200_000)
def recipe(trial: Trial) -> Recipe:
    """How a planned trial is trained. Its content was checked before."""
    return replace(_seedless(canonical_json({**trial.content, "seed": 0})), seed=trial.seed)


@lru_cache(maxsize=4096)
def _seedless(text: str) -> Recipe:
    content = json.loads(text)
    data, training = content["data"], content["training"]
    criterion = CRITERIA[training["criterion"]](training["label_smoothing"])
    loss: Loss = criterion
    teacher = None
    if "teacher" in content:
        loss = Distillation(**content["distillation"], hard=criterion)
        teacher = architecture(content["teacher"]["model"], data["name"])
    schedule = training["scheduler"]
    return Recipe(
        seed=content["seed"],
        architecture=architecture(content["model"], data["name"]),
        loss=loss,
        optimizer=_make(OPTIMIZERS[training["optimizer"]], training["optimizer_params"]),
        schedule=_make(SCHEDULES[schedule], training["scheduler_params"]) if schedule else Constant(),
        epochs=training["epochs"],
        batch_size=data["batch_size"],
        lr=training["lr"],
        precision=training["precision"],
        gradient_clip=training["gradient_clip"],
        augment=tuple(data["augment"]),
        validation_split=data["validation_split"],
        limit=data["limit"],
        drop_last=data.get("drop_last", False),
        data=canonical_json({"name": data["name"], "params": data["params"]}),
        teacher=teacher,
    )


def architecture(model: Mapping[str, Any], data: str) -> Architecture:
    """The network of resolved model options for images of a dataset."""
    facts = DATASETS[data].facts
    return _make(MODELS[model["type"]], model["params"]).build((facts.channels, facts.height, facts.width))


def build_part(model: Mapping[str, Any], problems: list[Problem]) -> Any:
    """A model's options from `{"type": ..., "params": ...}`, or None after adding to `problems`."""
    choice = parse(ModelChoice, model, "", problems)
    if not isinstance(choice, ModelChoice):
        return None
    complaint = unknown_name("model", choice.type, tuple(MODELS))
    if complaint:
        problems.append(Problem("unknown-name", "type", complaint))
        return None
    part = parse(MODELS[choice.type], choice.params, "params", problems)
    return part if isinstance(part, MODELS[choice.type]) else None


def _check_parts(data: Mapping[str, Any], problems: list[Problem]) -> None:
    """What is wrong with the parts that any section names, each section by itself."""
    for name in ("training", "training_teacher", "training_student"):
        if data.get(name) is not None:
            _training(data[name], name, problems, {})
    for name in ("model", "teacher_model", "student_model"):
        if data.get(name) is not None:
            _model(data[name], name, None, problems, {})
    _data(data.get("data"), "mnist", problems, {})


def _make(part: type[Any], options: Mapping[str, Any]) -> Any:
    problems: list[Problem] = []
    made = parse(part, options, "", problems)
    assert not problems, problems
    return made


def _model_data(choice: Any) -> str:
    name = choice.get("type") if isinstance(choice, Mapping) else None
    part = MODELS.get(name) if isinstance(name, str) else None
    return part.data if part else "mnist"


def _data(
    options: Any, default: str, problems: list[Problem], notices: dict[str, None]
) -> tuple[dict[str, Any], Facts] | None:
    made = parse(DataOptions, options, "data", problems)
    if not isinstance(made, DataOptions):
        return None
    name = default if made.name is None else canonical_name(made.name)
    if name is None:
        near = suggestion(str(made.name), tuple(DATASETS))
        text = f"unsupported dataset {shown(made.name)}.{near} Supported: {', '.join(DATASETS)}."
        problems.append(Problem("unknown-name", "data.name", text))
        return None
    params = parse(DATASETS[name], made.params, "data.params", problems)
    for place, augmentation in enumerate(made.augment):
        complaint = unknown_name("augmentation", augmentation, AUGMENTATIONS)
        if complaint:
            problems.append(Problem("unknown-name", f"data.augment[{place}]", complaint))
    facts = DATASETS[name].facts
    if made.limit is not None and made.limit > facts.train_examples:
        text = f"must be <= {facts.train_examples}, the number of training images of {name}, got {made.limit}"
        problems.append(Problem("data-mismatch", "data.limit", text))
    if not isinstance(params, DATASETS[name]):
        return None
    if made.num_workers:
        notices.setdefault("data.num_workers is ignored: datasets are kept in device memory.")
    resolved = to_dict(made) | {"name": name, "params": to_dict(params)}
    del resolved["num_workers"]
    if not made.drop_last:  # added later: at its default it is no part of a trial's identity
        del resolved["drop_last"]
    resolved["augment"] = [word for word in AUGMENTATIONS if word in made.augment]
    return resolved, facts


def _model(
    options: Any,
    path: str,
    images: tuple[dict[str, Any], Facts] | None,
    problems: list[Problem],
    notices: dict[str, None],
) -> tuple[dict[str, Any], int] | None:
    found: list[Problem] = []
    part = build_part(options, found)
    problems.extend(replace(problem, path=f"{path}.{problem.path}" if problem.path else path) for problem in found)
    if part is None:
        return None
    if images is not None:
        facts = images[1]
        complaints = part.complaints_for((facts.channels, facts.height, facts.width), facts.classes)
        problems.extend(replace(problem, path=f"{path}.params.{problem.path}") for problem in complaints)
    normal = part.normal_form()
    for key, text in part.ignored():
        notices.setdefault(f"{path}.params.{key} {text}")
    return {"type": options["type"], "params": to_dict(normal)}, normal.depth


def _training(options: Any, path: str, problems: list[Problem], notices: dict[str, None]) -> dict[str, Any] | None:
    before = len(problems)
    made = parse(TrainingOptions, options, path, problems)
    raw = dict(options) if isinstance(options, Mapping) else {}
    if raw.get("scheduler") in NO_SCHEDULE:
        raw["scheduler"] = None
    for what, supported, others in TORCH_NAMES:
        name = raw.get(what)
        if isinstance(name, str) and (complaint := torch_name_problem(what, name, supported, others)):
            problems.append(Problem("unknown-name", f"{path}.{what}", complaint))
    if not isinstance(made, TrainingOptions) or len(problems) > before:
        return None
    scheduler = None if made.scheduler in NO_SCHEDULE else made.scheduler
    optimizer = parse(OPTIMIZERS[made.optimizer], made.optimizer_params, f"{path}.optimizer_params", problems)
    schedule: Any = Constant()
    if scheduler is not None:
        part = SCHEDULES[scheduler]
        schedule = parse(part, made.scheduler_params, f"{path}.scheduler_params", problems)
        for key, value in part.defaults(made.epochs).items() if hasattr(part, "defaults") else ():
            if isinstance(schedule, part) and getattr(schedule, key) is None:
                notices.setdefault(f"{path}.scheduler_params.{key} is not set; {scheduler} uses {value}.")
    elif made.scheduler_params:
        problems.append(
            Problem(
                "conflict", f"{path}.scheduler_params", "requires a scheduler; set training.scheduler, or remove it"
            )
        )
    if len(problems) > before:
        return None
    parts = {"scheduler": scheduler, "optimizer_params": to_dict(optimizer), "scheduler_params": to_dict(schedule)}
    return to_dict(made) | parts


def _probes(options: Any, problems: list[Problem]) -> dict[str, dict[str, Any]]:
    """Name of each probe to its schedule (`at`) and options, with defaults."""
    made = parse(ExperimentOptions, options, "experiment", problems)
    if not isinstance(made, ExperimentOptions):
        return {}
    asked: dict[str, Any] = (
        dict(made.probes) if isinstance(made.probes, Mapping) else {name: {} for name in made.probes}
    )
    if made.analyze_gradients:
        asked.setdefault("gradients", {})
    found = {}
    for name in sorted(asked):
        path = f"experiment.probes.{name}"
        complaint = unknown_name("probe", name, tuple(PROBES))
        if complaint:
            problems.append(Problem("unknown-name", "experiment.probes", complaint))
            continue
        given = asked[name] if asked[name] is not None else {}
        if not isinstance(given, Mapping):
            problems.append(
                Problem("wrong-type", path, f"must be a mapping of options such as {{at: [init]}}, got {shown(given)}")
            )
            continue
        at = given.get("at", list(DEFAULT))
        moments = list(at) if isinstance(at, list | tuple) else [at]
        problems.extend(replace(problem, path=f"{path}.{problem.path}") for problem in complaints(moments))
        own = {key: value for key, value in given.items() if key != "at"}
        part = parse(PROBES[name], own, path, problems)
        found[name] = {"at": moments} | (to_dict(part) if isinstance(part, PROBES[name]) else {})
    return found
