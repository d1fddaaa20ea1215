"""A tiny experiment with tuned students and one at equal compute, from the file to the report."""

import json
from pathlib import Path
from statistics import fmean

import pytest

import fathomlab
from fathomlab.api import Results
from reference.json_output import DOCUMENTS
from tests.helpers.commands import Command
from tests.helpers.json_keys import wrong_keys
from tests.helpers.shared import build_once

ROLES = ("baseline", "distilled", "longer")
RATES = [0.0003, 0.01]
CONF = """\
data: {name: mnist-sample, limit: 300, batch_size: 40}
roles:
  teacher: {model: {type: MLP, params: {layers_dim: 24, hidden_layers_num: 1}}, training: {epochs: 2, lr: 0.003}}
  baseline: {model: {type: MLP, params: {layers_dim: 8, hidden_layers_num: 1}}, training: {epochs: 1}}
  distilled:
    model: {type: MLP, params: {layers_dim: 8, hidden_layers_num: 1}}
    training: {epochs: 1}
    parents: {teacher: teacher}
  longer:
    model: {type: MLP, params: {layers_dim: 8, hidden_layers_num: 1}}
    training: {epochs: 1}
    equal_compute: teacher
experiment:
  factors:
    roles.baseline.training.lr: [0.0003, 0.01]
    roles.distilled.training.lr: [0.0003, 0.01]
    roles.longer.training.lr: [0.0003, 0.01]
  tune: {over: [training.lr]}
  seeds: 2
claims:
  - {name: Distillation helps, factor: role, levels: [distilled, baseline], expect: greater}
  - {name: It helps at equal compute, factor: role, levels: [distilled, longer], expect: greater}
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The finished experiment. Only read it."""

    def train(folder: Path) -> None:
        (folder / "tuned.yaml").write_text(CONF)
        fathomlab.run(folder / "tuned.yaml", runs=folder / "runs", workers=1, progress="off")

    folder = build_once(tmp_path_factory, "tuned", train)
    return fathomlab.run(folder / "tuned.yaml", runs=folder / "runs", workers=1, progress="off")


def test_picked_levels_have_the_best_validation_accuracy(results: Results):
    """Computed again from the metrics of the trials, which are all there."""
    assert len(results) == 2 + 3 * 2 * 2
    for condition, choice in results.study.choices:
        key = f"roles.{condition.record.role}.training.lr"
        members = [trial for trial in results if trial.role == condition.record.role]
        means = {
            rate: fmean(
                trial.metrics["val/accuracy"] or 0 for trial in members if trial.config["training"]["lr"] == rate
            )
            for rate in RATES
        }
        assert choice.picked.levels == {key: max(RATES, key=lambda rate: means[rate])}
        assert [item.score for item in choice.tries] == pytest.approx(list(means.values()))
    assert [condition.record.role for condition, _ in results.study.choices] == list(ROLES)


def test_claims_compare_the_picked_levels(results: Results):
    for verdict, second in zip(results.verdicts, ("baseline", "longer"), strict=True):
        picked = {item.record.role: item.outcomes("test/accuracy") for item, _ in results.study.choices}
        assert [(pair.first, pair.second) for pair in verdict.contrast.pairs] == [
            (picked["distilled"][seed], picked[second][seed]) for seed in (0, 1)
        ]


def test_equal_compute_epochs(results: Results):
    """1 + 2 * (784 * 24 + 24 * 24 + 240) / (784 * 8 + 8 * 8 + 80) = 1 + 6.1."""
    epochs = {trial.role: trial.config["training"]["epochs"] for trial in results}
    assert epochs == {"teacher": 2, "baseline": 1, "distilled": 1, "longer": 7}
    assert {len(trial.curves["epoch"]) for trial in results if trial.role == "longer"} == {7}


def test_page_has_the_choice_and_every_try(results: Results):
    page = results.report.read_text(encoding="utf-8")
    for part in ('id="tuning"', 'download="tuning.csv"', 'download="tried.csv"', "(7 epochs)"):
        assert part in page


def test_commands_show_it(results: Results, command: Command, monkeypatch: pytest.MonkeyPatch):
    """Documented keys, and the picked level in each claim."""
    root = results.store.root
    monkeypatch.chdir(root.parent)
    reports = json.loads(command("report", "tuned", "--runs", str(root), "--json").out)
    verdicts = json.loads(command("verify", "tuned.yaml", "--runs", str(root), "--json").out)
    plan = json.loads(command("plan", "tuned.yaml", "--runs", str(root), "--json").out)
    for name, document, places in (
        ("report", reports, {"", "tuned[]", "tuned[].tried[]"}),
        ("verify", verdicts, {"", "verdicts[]", "verdicts[].tuned[]"}),
        ("plan", plan, {"", "equal_compute[]"}),
    ):
        tables = {place: keys for place, keys in DOCUMENTS[name].items() if place in places}
        assert len(tables) == len(places)
        assert wrong_keys(document, tables, strict=True) == {}
    assert [item["role"] for item in reports["tuned"]] == list(ROLES)
    assert [len(verdict["tuned"]) for verdict in verdicts["verdicts"]] == [2, 2]
    assert plan["tune"] == {"over": [f"roles.{role}.training.lr" for role in ROLES], "by": "val/accuracy"}
    assert [(item["role"], item["epochs"]) for item in plan["equal_compute"]] == [("teacher", 7)] * 2
    text = command("plan", "tuned.yaml", "--runs", str(root)).out
    assert text.count("7 epochs") == 2
    assert "tuned by val/accuracy" in text


def test_a_trial_that_was_not_picked_can_be_trained_again(
    results: Results, command: Command, monkeypatch: pytest.MonkeyPatch
):
    """Its command fixes the tuned factors, and plans its hash."""
    monkeypatch.chdir(results.store.root.parent)
    shown = [trial for trial in results if trial.role == "longer" and trial.seed == 1]
    for trial in shown:
        document = json.loads(command("show", trial.hash, "--runs", str(results.store.root), "--json").out)
        assert f"roles.longer.training.lr={trial.config['training']['lr']}" in document["command"]


def test_plots_of_some_trials(results: Results):
    """A filter on trials also finds those of tuned conditions."""
    chosen = results.filter(role="baseline")
    assert chosen.plot("accuracy") is not None


def test_adding_tune_makes_claims_exploratory(results: Results, tmp_path: Path):
    """After results, another choice is another question."""
    file = results.store.root.parent / "tuned.yaml"
    changed = tmp_path / "other.yaml"
    changed.write_text(
        file.read_text().replace("{over: [training.lr]}", "{over: [training.lr], by: best/val/accuracy}")
    )
    other = fathomlab.run(changed, runs=results.store.root, workers=1, progress="off")
    assert (other.summary.trained, other.name == results.name) == (0, False)
    assert all(verdict.exploratory for verdict in other.verdicts)
    assert not any(verdict.exploratory for verdict in results.verdicts)
