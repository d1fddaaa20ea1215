"""The JSON Schema and the key reference that are generated from the dataclasses."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from fathomlab.config.reference import experiment_schema, write
from fathomlab.models import MODELS

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def errors(document: Any) -> list[str]:
    """Paths of what the schema refuses."""
    return [error.json_path for error in Draft202012Validator(experiment_schema()).iter_errors(document)]


def test_generated_reference_is_up_to_date(tmp_path: Path):
    write(tmp_path)
    names = ("experiment.schema.json", "experiment-file.md")
    old = [name for name in names if (ROOT / "docs/reference" / name).read_text() != (tmp_path / name).read_text()]
    assert old == [], "run `make reference`"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_schema_accepts_bundled_files(path: Path):
    Draft202012Validator.check_schema(experiment_schema())
    assert errors(yaml.safe_load(path.read_text())) == []


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
    assert missing == []
    assert len(schema["$defs"]["ModelChoice"]["allOf"]) == len(MODELS)
