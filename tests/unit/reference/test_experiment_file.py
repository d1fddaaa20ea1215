"""The JSON Schema of an experiment file, and the generated pages."""

import re
from dataclasses import fields
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from fathomlab.cli.new import TEMPLATES
from fathomlab.models import MODELS
from fathomlab.optim import OPTIMIZERS, SCHEDULES
from fathomlab.probes import PROBES
from reference.__main__ import FILES, main
from reference.experiment_file import experiment_schema
from reference.markdown import attributes

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODELINE = "# yaml-language-server: $schema=experiment.schema.json\n"
BAD = sorted((ROOT / "tests" / "bad").glob("*.yaml"))
BEYOND_SCHEMA = [  # names of roles, names and levels of factors, integers beyond JSON, and 12.0, an integer in JSON Schema
    "depths-of-another-model",
    "equal-compute-of-no-role",
    "factor-that-the-model-lacks",
    "seed-of-2-to-the-53",
    "tune-of-no-factor",
    "unknown-targets-of-a-level",
    "whole-float-for-a-whole-number",
    "wrong-level",
]
BY_TYPE = ("unknown-key", "wrong-type", "out-of-range", "unknown-name", "missing-key")


@cache
def validator() -> Draft202012Validator:
    return Draft202012Validator(experiment_schema())


def errors(document: Any) -> list[str]:
    """Paths of what the schema refuses."""
    return [error.json_path for error in validator().iter_errors(document)]


def test_generated_files_are_up_to_date(tmp_path: Path):
    main(tmp_path)
    old = [name for name in FILES if (ROOT / name).read_text() != (tmp_path / name).read_text()]
    assert old == [], "run `make reference`"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_schema_accepts_bundled_files(path: Path):
    validator().check_schema(experiment_schema())
    assert errors(yaml.safe_load(path.read_text())) == []
    assert path.read_text().startswith(MODELINE)


def test_schema_accepts_templates_and_examples():
    """Templates of `fathomlab new`, and every block of YAML in the documentation."""
    texts = [(path.name, path.read_text()) for path in TEMPLATES.glob("*.yaml.txt")]
    assert [name for name, text in texts if not text.startswith(MODELINE.replace("$", "$$"))] == []
    texts = [(name, Template(text).substitute(name="tiny", class_name="Tiny")) for name, text in texts]
    blocks = [
        (page.name, text) for page in PAGES for text in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    ]
    assert len(blocks) > 20
    wrong = {name: found for name, text in texts + blocks if (found := errors(yaml.safe_load(text)))}
    assert wrong == {}


def test_schema_rejects_most_bad_files():
    """What is wrong by itself, in files that YAML can read: keys, types, ranges, and names."""
    missed = []
    for path in BAD:
        text = path.read_text(errors="replace")
        if text.split()[2] in BY_TYPE and not errors(yaml.safe_load(text)):
            missed.append(path.stem)
    assert missed == BEYOND_SCHEMA


@pytest.mark.parametrize(
    ("section", "path"),
    [
        ({"trainin": {}}, "$"),
        ({"model": {"type": "MPL"}}, "$.model.type"),
        ({"model": {"type": "MLP", "params": {"widht": 1}}}, "$.model"),
        ({"model": {"type": "CNN", "params": {"layers_dim": 4}}}, "$.model"),
        ({"training": {"epochs": 0}}, "$.training"),
        ({"training": {"epochs": 1, "optimizer": "SGD", "optimizer_params": {"eps": 0.1}}}, "$.training"),
        ({"training": {"epochs": 1, "scheduler": "StepLR", "scheduler_params": {"T_max": 3}}}, "$.training"),
        ({"distillation": {"loss": {"type": "Distillation", "params": {"alfa": 1}}}}, "$.distillation"),
        ({"claims": [{"name": "x"}]}, "$.claims[0]"),
        ({"quick": {"trainin": {}}}, "$.quick"),
    ],
    ids=str,
)
def test_schema_rejects_typos(section: dict[str, Any], path: str):
    assert set(errors(section)) == {path}


def test_schema_accepts_names_of_plugins():
    training = {"epochs": 1, "loss": {"type": "focal", "params": {"gamma": 1}}}
    module = {"type": "Net", "params": {"depth": 2}}
    assert errors({"plugins": ["parts.py"], "model": module, "training": training}) == []
    assert errors({"plugins": ["parts.py"], "model": {"type": "MLP", "params": {"widht": 1}}}) == ["$.model"]


@pytest.mark.parametrize(
    ("probes", "refused"),
    [
        ({"cam": {"at": ["end", 3], "examples": 4}, "noise": {"at": "log"}, "updates": None}, False),
        (["gradients", "cam"], False),
        ({"cma": {}}, True),
        (["cma"], True),
        ({"cam": {"example": 4}}, True),
        ({"cam": {"at": ["ends"]}}, True),
    ],
)
def test_schema_checks_probes(probes: Any, refused: bool):
    assert bool(errors({"experiment": {"probes": probes}})) == refused
    names = list(probes)
    assert errors({"plugins": ["a.py"], "experiment": {"probes": names}}) == []


def test_every_option_is_documented():
    """In the reference, each option of a section has a description."""
    schema = experiment_schema()
    sections = {"": schema, **schema["$defs"]}
    missing = [
        f"{name}.{key}"
        for name, section in sections.items()
        for key, field in section.get("properties", {}).items()
        if "description" not in field
    ]
    for name, component in {**MODELS, **OPTIMIZERS, **SCHEDULES, **PROBES}.items():
        missing += [f"{name}.{key}" for key in {field.name for field in fields(component)} - set(attributes(component))]
    assert missing == []
    assert len(schema["$defs"]["ModelChoice"]["allOf"]) == len(MODELS)
