"""The JSON Schema of an experiment file, and the reference of its keys, both from the dataclasses and their docstrings.

`python -m fathomlab.config.reference DIRECTORY` writes `experiment.schema.json` and `experiment-file.md`.
"""

import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fathomlab.base.options import json_schema
from fathomlab.config import claims, published, schema
from fathomlab.data import NAMED_DATASETS
from fathomlab.losses import CRITERIA, LOSSES
from fathomlab.models import MODELS
from fathomlab.optim import OPTIMIZERS, SCHEDULES
from fathomlab.probes import PROBES

JsonSchema = dict[str, Any]
Components = Mapping[str, type]
NO_SCHEDULE = ("none", "None")
BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
SECTIONS: dict[str, type] = {
    "data": schema.DataOptions,
    "model, teacher_model, student_model": schema.ModelChoice,
    "training, training_teacher, training_student": schema.TrainingOptions,
    "distillation": schema.DistillationOptions,
    "training.loss, distillation.loss": schema.LossChoice,
    "roles.NAME": schema.RoleOptions,
    "roles.NAME.parents": schema.ParentOptions,
    "experiment": schema.ExperimentOptions,
    "experiment.factors.KEY": schema.Factor,
    "experiment.published": published.Published,
    "claims": claims.Claim,
    "logging": schema.LoggingOptions,
}
TABLES: dict[str, Components] = {
    "model.type": MODELS,
    "data.name": NAMED_DATASETS,
    "training.optimizer": OPTIMIZERS,
    "training.scheduler": SCHEDULES,
    "training.loss.type, distillation.loss.type": LOSSES,
    "experiment.probes": PROBES,
}


def experiment_schema() -> JsonSchema:
    """The JSON Schema of an experiment file (draft 2020-12), for editors."""
    result = _described(schema.ExperimentFile)
    definitions = result["$defs"]
    for section in SECTIONS.values():
        definitions[section.__name__] = _described(section)
        definitions[section.__name__].pop("$defs", None)  # all of them are in `definitions`
    _choose(definitions["ModelChoice"], "type", "params", MODELS, closed=False)
    _choose(definitions["LossChoice"], "type", "params", LOSSES, closed=False)
    _choose(definitions["DataOptions"], "name", "params", NAMED_DATASETS, closed=False)
    training = definitions["TrainingOptions"]
    _choose(training, "optimizer", "optimizer_params", OPTIMIZERS, closed=False)
    _choose(training, "scheduler", "scheduler_params", SCHEDULES, closed=False)
    training["properties"]["criterion"]["enum"] = list(CRITERIA)
    quick = {name: {} for name in result["properties"] if name != "quick"}
    result["properties"]["quick"] |= {"properties": quick, "additionalProperties": False}
    built_in = {"properties": {"type": {"enum": list(MODELS)}}}
    result["if"] = {"not": {"required": ["plugins"]}}  # a plugin may define any name
    chosen = {"optimizer": {"enum": list(OPTIMIZERS)}, "scheduler": {"enum": [*SCHEDULES, *NO_SCHEDULE, None]}}
    training_built_in, data = {"properties": chosen}, {"properties": {"name": {"enum": [*NAMED_DATASETS, None]}}}
    sections = dict.fromkeys(("model", "teacher_model", "student_model"), built_in)
    sections |= dict.fromkeys(("training", "training_teacher", "training_student"), training_built_in)
    role = {"properties": {"model": built_in, "training": training_built_in, "data": data}}
    result["then"] = {"properties": {**sections, "data": data, "roles": {"additionalProperties": role}}}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **result, "title": "fathomlab experiment"}


def key_reference() -> str:
    """The reference of all keys as Markdown."""
    lines = [
        "# Experiment file",
        "",
        "For everyone who writes an experiment. This page is generated from the source: `python -m fathomlab.config.reference "
        "docs/reference`. [experiment.schema.json](experiment.schema.json) is the same as a JSON Schema for editors.",
        "",
        *_section("Top level", schema.ExperimentFile),
    ]
    for name, section in SECTIONS.items():
        lines += _section(f"`{name}`", section)
    lines += _section("`run` (overrides only, as in `run.pack=4`)", schema.RunOverrides)
    for key, components in TABLES.items():
        lines += [f"## Components of `{key}`", ""]
        for name, component in components.items():
            lines += _section(f"`{name}`", component, "###")
    lines += ["## Next steps", "", "- [Your own networks, data, and losses](../your-own-parts.md)"]
    return "\n".join(lines) + "\n"


def _choose(
    section: JsonSchema,
    selector: str,
    params: str,
    components: Components,
    closed: bool = True,
) -> None:
    """Restrict `params` to the options of the component that `selector` names, and if `closed`, `selector` to these names."""
    names = section["properties"][selector]
    if closed:
        names.pop("type", None)
        optional = names.pop("anyOf", None) is not None
        names["enum"] = [*components, *([None] if optional else [])]
    else:
        names["examples"] = list(components)
    section.setdefault("allOf", []).extend(
        {
            "if": {"properties": {selector: {"const": name}}, "required": [selector]},
            "then": {"properties": {params: _described(component)}},
        }
        for name, component in components.items()
    )


def _described(component: type) -> JsonSchema:
    """The JSON Schema of a dataclass with the descriptions of its docstring."""
    result = json_schema(component)
    result["description"] = _summary(component)
    for name, text in _attributes(component).items():
        if name in result.get("properties", {}):
            result["properties"][name]["description"] = text
    return result


def _section(title: str, component: type, level: str = "##") -> list[str]:
    properties = json_schema(component).get("properties", {})
    descriptions = _attributes(component)
    lines = [f"{level} {title}", "", _summary(component), ""]
    if not properties:
        return [*lines, "No options.", ""]
    lines += ["| key | values | default | description |", "|---|---|---|---|"]
    for field in dataclasses.fields(component):
        option = properties[field.name]
        default = "required" if field.name in json_schema(component).get("required", ()) else _default(field, option)
        lines.append(f"| `{field.name}` | {_values(option)} | {default} | {descriptions.get(field.name, '')} |")
    return [*lines, ""]


def _values(option: JsonSchema) -> str:
    if "enum" in option:
        return ", ".join(f"`{value}`" for value in option["enum"])
    if choices := option.get("anyOf"):
        return " or ".join(_values(choice) for choice in choices)
    if "$ref" in option:
        return "mapping"
    bounds = " and ".join(f"{sign} {option[bound]:,}" for bound, sign in BOUNDS.items() if bound in option)
    kind = {"object": "mapping", "array": "list", "null": "none", "integer": "integer"}.get(option.get("type", ""), "")
    items = f" of {_values(option['items'])}" if option.get("type") == "array" and option.get("items") else ""
    return f"{kind or option.get('type', 'any')}{items} {bounds}".strip()


def _default(field: "dataclasses.Field[Any]", option: JsonSchema) -> str:
    if "default" in option:
        return f"`{json.dumps(option['default'])}`"
    return "empty" if field.default_factory is not dataclasses.MISSING else ""


def _summary(component: type) -> str:
    """The docstring up to its attributes, in one line."""
    return " ".join(inspect.cleandoc(component.__doc__ or "").split("\nAttributes:")[0].split())


def _attributes(component: type) -> dict[str, str]:
    """Option to its description in the docstring's `Attributes`."""
    text = inspect.cleandoc(component.__doc__ or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8,}.*)*)", text, re.MULTILINE)
    return {name: " ".join(description.split()).replace("|", "\\|") for name, description in entries}


def write(directory: Path) -> None:
    """Write both files."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(experiment_schema(), indent=1) + "\n"
    (directory / "experiment.schema.json").write_text(text, encoding="utf-8")
    (directory / "experiment-file.md").write_text(key_reference(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
