"""The JSON Schema of an experiment file, and the page of its keys, both from the dataclasses and their docstrings."""

import json
from collections.abc import Mapping

from fathomlab.base.options import json_schema
from fathomlab.config import claims, published, schema, slurm, training
from fathomlab.data import NAMED_DATASETS
from fathomlab.data.table import AUGMENTATIONS
from fathomlab.losses import CRITERIA, LOSSES
from fathomlab.models import MODELS
from fathomlab.optim import OPTIMIZERS, SCHEDULES
from fathomlab.probes import PROBES
from fathomlab.probes.schedule import TRIGGERS
from reference.examples import EXAMPLES
from reference.markdown import JsonSchema, attributes, options_table, summary

Components = Mapping[str, type]
NO_SCHEDULE = ("none", "None")
SECTIONS: dict[str, type] = {
    "data": schema.DataOptions,
    "model, teacher_model, student_model": schema.ModelChoice,
    "training, training_teacher, training_student": training.TrainingOptions,
    "distillation": training.DistillationOptions,
    "training.loss, distillation.loss": training.LossChoice,
    "roles.NAME": schema.RoleOptions,
    "roles.NAME.parents": schema.ParentOptions,
    "experiment": schema.ExperimentOptions,
    "experiment.factors.KEY": schema.Factor,
    "experiment.tune": schema.TuneOptions,
    "experiment.published": published.Published,
    "claims": claims.Claim,
    "logging": schema.LoggingOptions,
    "run": slurm.RunSection,
    "run.slurm": slurm.SlurmOptions,
}
INTRODUCTION = """\
# Experiment file

For everyone who writes an experiment. This page lists every section and key. `make reference` generates it from the source.

An override sets a key on the command line: `fathomlab run FILE training.lr=0.01`. A list (`training.lr=0.001,0.01`) or a range
(`seed=0..9`) makes a factor. The names and options of models, datasets, optimizers, schedules, losses, and probes are
in [Components](components.md).

## Completion in editors

Editors with a YAML language server complete keys, show their descriptions, and mark mistakes if the first line of the file is

```text
# yaml-language-server: $schema=experiment.schema.json
```

In Visual Studio Code, install the extension "YAML" by Red Hat. `fathomlab new experiment NAME` writes this line, and
`experiment.schema.json` next to the file. The bundled experiments have the line, too. The schema checks names, types, and ranges.
`fathomlab plan FILE` checks everything.
"""


def schema_text() -> str:
    """The JSON Schema as text."""
    return json.dumps(experiment_schema(), indent=1) + "\n"


def experiment_schema() -> JsonSchema:
    """The JSON Schema of an experiment file (draft 2020-12), for editors."""
    result = _described(schema.ExperimentFile)
    definitions = result["$defs"]
    for section in SECTIONS.values():
        definitions[section.__name__] = _described(section)
        definitions[section.__name__].pop("$defs", None)  # all of them are in `definitions`
    _choose(definitions["ModelChoice"], "type", "params", MODELS)
    _choose(definitions["LossChoice"], "type", "params", LOSSES)
    _choose(definitions["DataOptions"], "name", "params", NAMED_DATASETS)
    definitions["DataOptions"]["properties"]["augment"]["items"] = {"enum": list(AUGMENTATIONS)}
    definitions["DataOptions"]["properties"]["validation_split"]["minimum"] = 1  # `validate` refuses fractions
    levels = {"anyOf": [{"type": "array", "minItems": 1}, {"$ref": "#/$defs/Factor"}]}
    definitions["ExperimentOptions"]["properties"]["factors"]["additionalProperties"] = levels
    definitions["ExperimentOptions"]["properties"]["probes"] |= _probes()
    training = definitions["TrainingOptions"]
    _choose(training, "optimizer", "optimizer_params", OPTIMIZERS)
    _choose(training, "scheduler", "scheduler_params", SCHEDULES)
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
    probes = {"properties": {"probes": {"propertyNames": {"enum": list(PROBES)}, "items": {"enum": list(PROBES)}}}}
    sections |= {"data": data, "roles": {"additionalProperties": role}, "experiment": probes}
    result["then"] = {"properties": sections}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **result, "title": "fathomlab experiment"}


def page() -> str:
    """The page as Markdown."""
    lines = [INTRODUCTION, *_section("Top level", schema.ExperimentFile, "")]
    for name, section in SECTIONS.items():
        lines += _section(f"`{name}`", section, EXAMPLES.get(name, ""))
    lines += _section("Overrides of `run`", schema.RunOverrides, "")
    lines += [
        "These keys of `run` are not in a file. They are overrides:",
        "",
        "```bash",
        "fathomlab plan 1_2 --quick run.pack=4",
        "```",
        "",
        "## Next steps",
        "",
        "- [Components](components.md): models, datasets, optimizers, schedules, losses, and probes.",
        "- [From a question to a verdict](../tutorials/question-to-verdict.md): write an experiment with a claim.",
    ]
    return "\n".join(lines) + "\n"


def _section(title: str, component: type, example: str) -> list[str]:
    text = summary(component)
    _, colon, rest = text.partition("`: ")
    if colon:  # the heading says which section it is
        text = rest[:1].upper() + rest[1:]
    lines = [f"## {title}", "", text, "", *options_table(component)]
    return [*lines, "```yaml", example.strip("\n"), "```", ""] if example else lines


def _choose(section: JsonSchema, selector: str, params: str, components: Components) -> None:
    """Complete the names of components, and restrict `params` to the options of the one that `selector` names."""
    section["properties"][selector]["examples"] = list(components)
    section.setdefault("allOf", []).extend(
        {
            "if": {"properties": {selector: {"const": name}}, "required": [selector]},
            "then": {"properties": {params: _described(component)}},
        }
        for name, component in components.items()
    )


def _probes() -> JsonSchema:
    """The probes by name with their options and schedule, or a list of names."""
    entry = {"anyOf": [{"enum": list(TRIGGERS)}, {"type": "integer", "minimum": 0}]}
    at = {"description": "When to measure.", "anyOf": [entry, {"type": "array", "items": entry, "minItems": 1}]}
    named = {name: _described(component) for name, component in PROBES.items()}
    for options in named.values():
        options |= {"type": ["object", "null"], "properties": {"at": at, **options["properties"]}}
    names = {"type": "array", "items": {"type": "string", "examples": list(PROBES)}}
    return {"anyOf": [{"type": "object", "properties": named}, names]}


def _described(component: type) -> JsonSchema:
    """The JSON Schema of a dataclass with the descriptions of its docstring."""
    result = json_schema(component)
    result["description"] = summary(component)
    for name, text in attributes(component).items():
        if name in result.get("properties", {}):
            result["properties"][name]["description"] = text
    return result
