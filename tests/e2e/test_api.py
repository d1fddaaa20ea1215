"""The Python interface on a few hundred images: results, stores, models, and the numbers of repeated runs."""

from pathlib import Path
from typing import Any

import pytest
import torch

import fathomlab
from tests.helpers.commands import TRIALS, run_python

TINY: dict[str, Any] = {
    "data": {"name": "mnist-sample", "limit": 200, "batch_size": 40},
    "model": {"type": "MLP", "params": {"layers_dim": 6, "hidden_layers_num": 1}},
    "training": {"epochs": 1},
}


@pytest.fixture(scope="module")
def results(trained: Path) -> Any:
    """The finished experiment once more: nothing is trained."""
    return fathomlab.run(trained / "tiny.yaml", runs=trained / "runs", workers=1, progress="off")


def test_report_contains_the_experiment(results: Any, trained: Path):
    """Title, claim, figures, and data; nothing is loaded from elsewhere."""
    assert (results.summary.trained, results.summary.cached) == (0, TRIALS)
    page = results.report.read_text(encoding="utf-8")
    for part in ("Shortcuts &amp; depth", "Shortcuts help", "2 seeds", "mnist-sample"):
        assert part in page
    assert "Shortcuts &amp; depth" in (trained / "runs" / "index.html").read_text(encoding="utf-8")
    assert page.count("<svg") >= 3
    assert not any(part in page for part in ("<script src", "<link", "@import"))
    assert len(page.encode()) < 1_500_000


def test_results_follow_the_plan(results: Any):
    """Iterating yields records, and the table has a row per trial."""
    records = list(results)
    assert [record.hash for record in records] == [trial.hash for trial in results.plan.trials]
    assert {record.status for record in records} == {"finished"}
    table = results.table()
    assert {len(column) for column in table.values()} == {TRIALS}
    assert table["trial"] == [record.hash for record in records]
    assert table["seed"] == [3, 4] * 2
    assert table["model.params.residual"] == [False] * 2 + [True] * 2
    assert table["test/accuracy"] == [record.metrics["test/accuracy"] for record in records]
    assert table["condition"][0] == "residual=false"
    assert table["parameters"] == [784 * 6 + 6 + 6 * 6 + 6 + 6 * 10 + 10] * TRIALS
    assert len(set(table["test/loss"])) == TRIALS


def test_open_store_returns_the_same_table(results: Any, trained: Path):
    """By name of the experiment or all, and each trial by its first digits."""
    runs = fathomlab.open_store(trained / "runs")
    assert runs.experiments == [results.summary.experiment]
    assert runs.table() == runs.table(results.summary.experiment) == results.table()
    first = next(iter(results))
    assert runs.trial(first.hash[:10]) == first
    assert {record.hash for record in runs} == set(results.table()["trial"])
    with pytest.raises(fathomlab.UserError):
        runs.table("nothing")


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_have_the_columns_of_the_table(results: Any, library: str):
    """Or the error contains the command that installs the library."""
    try:
        frame = getattr(results, f"to_{library}")()
    except fathomlab.UserError as error:
        assert f"pip install {library}" in str(error)  # noqa: PT017
    else:
        assert list(frame.columns) == list(results.table())
        assert len(frame) == TRIALS


def test_second_run_gives_the_same_bits(results: Any, trained: Path, tmp_path: Path):
    """Another store on the same machine: every curve and every gradient norm."""
    again = fathomlab.run(trained / "tiny.yaml", runs=tmp_path, workers=1, progress="off")
    for first, second in zip(results, again, strict=True):
        assert first.hash == second.hash
        assert first.metrics == second.metrics
        assert first.record.probes == second.record.probes
        assert {**first.curves, "seconds": []} == {**second.curves, "seconds": []}


def test_added_seeds_are_counted(tmp_path: Path):
    """trials = cached + trained, over all rounds; the log has the labels of added seeds."""
    claim = {"name": "same", "factor": "layers_dim", "levels": [6, 7], "expect": "equal", "matters": 0.0001}
    experiment = {"factors": {"model.params.layers_dim": [6, 7]}, "seeds": 2}
    source = TINY | {"seed": 1, "experiment": experiment, "claims": [claim]}
    fathomlab.run(source, "model.params.layers_dim=6", runs=tmp_path, progress="off", workers=1)
    summary = fathomlab.run(source, runs=tmp_path, progress="off", workers=1, max_seeds=6).summary
    assert (summary.trials, summary.cached, summary.trained) == (12, 2, 10)
    assert (summary.failed, summary.diverged) == (0, 0)
    log = (tmp_path / "experiments" / summary.experiment / "log.txt").read_text()
    assert "layers_dim=7 seed=6" in log


def test_environment_names_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """FATHOMLAB_RUNS, or `runs` in the working directory; in a new interpreter, by file or plan."""
    code = f"""
import fathomlab
plan = fathomlab.load({TINY!r}, "seed=1")
print(fathomlab.run({TINY!r}, "seed=1", workers=1, progress="off").summary.trained)
print(fathomlab.run(plan, progress="off").summary.cached)
print(len(fathomlab.open_store().table()["trial"]))
"""
    result = run_python("-c", code, cwd=tmp_path, environment={"FATHOMLAB_RUNS": str(tmp_path / "elsewhere")})
    assert (result.stdout, result.stderr, result.returncode) == ("1\n1\n1\n", "", 0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FATHOMLAB_RUNS", raising=False)
    assert list(fathomlab.open_store()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


@pytest.mark.parametrize(
    ("model", "shape", "parameters"),
    [
        ({"type": "MLP"}, (1, 28, 28), 784 * 128 + 128 + 2 * (128 * 128 + 128) + 1290),
        ({"type": "MLP", "params": {"input_size": 12, "class_num": 3, "layers_dim": 4}}, (1, 3, 4), 107),
        ({"type": "CNN", "params": {"residual": False}}, (3, 32, 32), 4_729_418),
        ({"type": "CNN", "params": {"layers": [3, 4, 6, 3]}}, (3, 32, 32), 21_282_122),
    ],
)
def test_build_model_returns_a_module(model: dict[str, Any], shape: tuple[int, ...], parameters: int):
    """From images to logits, with the published numbers of parameters."""
    module = fathomlab.build_model(model)
    assert isinstance(module, torch.nn.Module)
    classes = model.get("params", {}).get("class_num", 10)
    assert module(torch.zeros(2, *shape)).shape == (2, classes)
    assert sum(tensor.numel() for tensor in module.parameters()) == parameters


def test_build_model_depends_on_its_seed():
    """Equal seeds give equal parameters, which receive gradients; the global generator is not used."""
    state = torch.get_rng_state().tolist()
    first, same, other = (fathomlab.build_model({"type": "MLP"}, seed).eval() for seed in (1, 1, 2))
    images = torch.ones(1, 1, 28, 28)
    assert torch.equal(first(images), same(images))
    assert not torch.equal(first(images), other(images))
    assert torch.get_rng_state().tolist() == state
    first(images).square().sum().backward()
    assert all(parameter.grad is not None for parameter in first.parameters())


def test_build_model_reports_all_problems():
    with pytest.raises(fathomlab.ConfigError) as caught:
        fathomlab.build_model({"type": "MLP", "params": {"layers_dim": 0, "widht": 3, "dropout": "x"}})
    assert {(problem.path, problem.code) for problem in caught.value.problems} == {
        ("params.layers_dim", "out-of-range"),
        ("params.widht", "unknown-key"),
        ("params.dropout", "wrong-type"),
    }
