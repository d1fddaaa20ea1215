"""The examples of docs/guides/extending.md run as they are printed."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import fathomlab
from fathomlab.analysis.study import study
from fathomlab.engine.snapshot import Snapshot
from fathomlab.engine.training import LossInputs
from fathomlab.export import Exporter
from fathomlab.losses.cross_entropy import cross_entropy
from fathomlab.store.reading import Store
from tests.helpers import small_training
from tests.helpers.stores import condition, write_experiment, write_trial

PAGE = (Path(__file__).parents[3] / "docs" / "guides" / "extending.md").read_text(encoding="utf-8")


def block(language: str, word: str) -> str:
    """The one block of code that contains a word."""
    (text,) = [text for text in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if word in text]
    return text


def example(word: str) -> dict[str, Any]:
    """The names that a block of Python defines."""
    module = ModuleType("example")
    exec(compile(block("python", word), "docs/guides/extending.md", "exec", dont_inherit=True), module.__dict__)
    return vars(module)


@pytest.fixture(autouse=True)
def _module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dataclasses look their module up by name."""
    monkeypatch.setitem(sys.modules, "example", ModuleType("example"))


def test_loss_of_the_page_is_cross_entropy_for_gamma_0():
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inputs, focal = LossInputs(logits, torch.zeros(2, 3, dtype=torch.int64)), example("class Focal")["Focal"]
    expected = cross_entropy(inputs.logits, inputs.labels)
    assert torch.equal(focal(gamma=0.0).terms(inputs)["focal"], expected)
    assert bool((focal(**focal.test_options).terms(inputs)["focal"] < expected).all())


def test_probe_of_the_page_measures_its_columns():
    probe = example("class Weights")["Weights"]
    pack = small_training.make_trainer([small_training.recipe(small_training.mlp())])
    measured = probe(**probe.test_options).measure(Snapshot(pack))
    assert measured.keys() == {"layers", *probe.columns}
    assert measured["norm"].shape == (1, len(measured["layers"]))


def test_section_of_the_page_is_a_section():
    assert callable(example("def section")["section"])


def test_exporter_of_the_page_exports(tmp_path: Path):
    exporter: Exporter = example("class Summary")["Summary"]()
    assert isinstance(exporter, Exporter)
    trials = [(seed, write_trial(tmp_path, "x", {}, seed, 0.8 + seed / 10)) for seed in (0, 1)]
    write_experiment(tmp_path, "x", "x", [condition("all", {}, None, trials)])
    store = Store(tmp_path)
    (path,) = exporter.export(study(store, store.experiment("x")), tmp_path / "x.json")
    assert json.loads(path.read_text()) == {"all": pytest.approx(0.85)}


def test_roles_of_the_page_are_planned(tmp_path: Path):
    (tmp_path / "experiment.yaml").write_text(block("yaml", "roles:"))
    assert len(fathomlab.load(tmp_path / "experiment.yaml").trials) == 9
