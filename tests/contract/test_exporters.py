"""Every exporter: options with defaults, an extra that pyproject.toml has, a name in the help, and lazy imports."""

import inspect
import subprocess
import sys
import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from fathomlab.cli.export import export
from fathomlab.export import EXPORTERS, Exporter

EXTRAS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.mark.parametrize("name", EXPORTERS)
def test_exporter_is_a_component(name: str):
    kind = EXPORTERS[name]
    exporter = kind()
    assert isinstance(exporter, Exporter)
    assert is_dataclass(kind)
    assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert not {field.name for field in fields(kind)} & {"name", "experiment", "to", "runs"}
    assert exporter.extra == "" or exporter.extra in EXTRAS


def test_help_names_every_exporter():
    (argument,) = inspect.signature(export).parameters["exporter"].annotation.__metadata__
    assert argument.help.rstrip(".").replace(" or", "").split(", ") == list(EXPORTERS)


def test_optional_libraries_are_imported_when_they_are_used():
    libraries = ("torch", "pandas", "polars", "pyarrow", "tensorboard", "wandb")
    code = f"import sys, fathomlab.export, fathomlab.cli.export; print([x for x in {libraries} if x in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
