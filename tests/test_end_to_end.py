"""From YAML to a page, and the Python side of the commands, on a few hundred images."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import fathomlab
from fathomlab.api import run

EXPERIMENT = """\
seed: 3
data: {name: mnist-sample, limit: 200, batch_size: 40}
model:
  type: MLP
  params: {layers_dim: 6}
training:
  epochs: 2
experiment:
  title: Shortcuts & depth
  depths: [1, 2]
  analyze_gradients: true
  seeds: 2
claims:
  - name: Shortcuts help at depth 2
    factor: residual
    levels: [true, false]
    at: {hidden_layers_num: 2}
    expect: greater
"""
TINY: dict[str, Any] = {
    "data": {"name": "mnist-sample", "limit": 200, "batch_size": 40},
    "model": {"type": "MLP", "params": {"layers_dim": 6, "hidden_layers_num": 1}},
    "training": {"epochs": 1},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the experiment's file and its finished store."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "exp.yaml").write_text(EXPERIMENT)
    run(folder / "exp.yaml", runs=folder / "runs", workers=1, progress="off")
    return folder


def again(store: Path, *overrides: str) -> Any:
    """The same run once more."""
    return run(store / "exp.yaml", *overrides, runs=store / "runs", workers=1, progress="off")


def test_a_file_becomes_a_page_with_its_verdict(store: Path):
    """The answer, every condition, the file itself; nothing is loaded from elsewhere."""
    results = again(store)
    assert (results.summary.trained, results.summary.cached) == (0, 8)
    page = results.report.read_text(encoding="utf-8")
    assert "Shortcuts &amp; depth" in page
    assert "Shortcuts &amp; depth" in (store / "runs" / "index.html").read_text(encoding="utf-8")
    assert "Shortcuts help at depth 2" in page
    assert "2 seeds" in page
    assert page.count("<svg") >= 3
    assert "mnist-sample" in page
    for word in ("<script src", "<link", "@import"):
        assert word not in page
    assert len(page.encode()) < 1_500_000


def test_results_are_in_the_plan_s_order(store: Path):
    """Iterating gives each trial's record; the table has a row for each."""
    results = again(store)
    records = list(results)
    assert [record.trial for record in records] == [trial.hash for trial in results.plan.trials]
    assert all(record.status == "finished" for record in records)
    table = results.table()
    assert {len(column) for column in table.values()} == {8}
    assert table["trial"] == [record.trial for record in records]
    assert table["seed"] == [3, 4] * 4
    assert table["model.params.hidden_layers_num"] == [1] * 4 + [2] * 4
    assert table["model.params.residual"] == [False, False, True, True] * 2
    assert table["test/accuracy"] == [record.metrics["test/accuracy"] for record in records]
    assert table["condition"][0] == "hidden_layers_num=1 residual=false"


def test_every_trial_is_another_network_of_the_same_size(store: Path):
    """Shortcuts add no parameter; four conditions and two seeds are eight different results."""
    table = again(store).table()
    shallow = 784 * 6 + 6 + 6 * 6 + 6 + 6 * 10 + 10
    assert table["parameters"] == [shallow] * 4 + [shallow + 6 * 6 + 6] * 4
    assert len(set(table["test/loss"])) == 8


def test_an_opened_store_gives_the_same_columns(store: Path):
    """By name of the experiment or all, and each trial by its first digits."""
    results = again(store)
    runs = fathomlab.open_store(store / "runs")
    assert runs.experiments == [results.summary.experiment]
    assert runs.table() == runs.table(results.summary.experiment) == results.table()
    first = next(iter(results))
    assert runs.trial(first.trial[:10]) == first
    assert {record.trial for record in runs} == set(results.table()["trial"])
    with pytest.raises(fathomlab.UserError):
        runs.table("nothing")


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_where_there_is_a_library_for_them(store: Path, library: str):
    """A frame with the table's columns, or the command that installs the library."""
    results = again(store)
    try:
        frame = getattr(results, f"to_{library}")()
    except ImportError as error:
        assert str(error) == f"{library} is not installed; install it with: pip install {library}"  # noqa: PT017
    else:
        assert list(frame.columns) == list(results.table())
        assert len(frame) == 8


def test_a_new_seed_is_all_that_is_trained(store: Path):
    """A larger experiment reuses what the smaller has finished."""
    results = again(store, "experiment.seeds=3")
    assert (results.summary.trained, results.summary.cached) == (4, 8)


def test_the_same_experiment_twice_gives_the_same_numbers(store: Path, tmp_path: Path):
    """Another store, the same machine: every curve and every gradient norm to the last bit."""
    mine = again(store)
    other = run(store / "exp.yaml", runs=tmp_path, workers=1, progress="off")
    for first, second in zip(mine, other, strict=True):
        assert first.trial == second.trial
        assert first.metrics == second.metrics
        assert first.probes == second.probes
        assert {**first.curves, "seconds": []} == {**second.curves, "seconds": []}


def test_a_diverging_trial_is_in_the_report(tmp_path: Path):
    """With its cause, beside those that finished."""
    results = run(
        TINY,
        "training.lr=0.001,1e20",
        "training.optimizer=SGD",
        runs=tmp_path,
        workers=1,
        progress="off",
    )
    assert [record.status for record in results] == ["finished", "diverged"]
    assert (results.summary.failed, results.summary.diverged) == (0, 1)
    assert "diverged" in results.report.read_text(encoding="utf-8")


def test_torch_is_left_as_it_was(tmp_path: Path):
    """Random state, default dtype, threads and grad mode are the caller's."""
    before = torch.get_rng_state().tolist(), torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()
    run(TINY, runs=tmp_path, workers=1, progress="off")
    after = torch.get_rng_state().tolist(), torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()
    assert before == after


def test_the_store_is_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """FATHOMLAB_RUNS, or `runs` here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FATHOMLAB_RUNS", str(tmp_path / "elsewhere"))
    run(TINY, workers=1, progress="off")
    assert len(list(fathomlab.open_store())) == 1
    monkeypatch.delenv("FATHOMLAB_RUNS")
    assert list(fathomlab.open_store()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


@pytest.mark.parametrize(
    ("model", "shape", "parameters"),
    [
        ({"type": "MLP"}, (1, 28, 28), 784 * 128 + 128 + 2 * (128 * 128 + 128) + 1290),
        ({"type": "MLP", "params": {"input_size": 12, "class_num": 3, "layers_dim": 4}}, (1, 3, 4), 107),
        ({"type": "CNN", "params": {"width": 4, "residual": False}}, (3, 32, 32), None),
        ({"type": "CNN", "params": {"residual": False}}, (3, 32, 32), 4_729_418),
        ({"type": "CNN", "params": {"layers": [3, 4, 6, 3]}}, (3, 32, 32), 21_282_122),
    ],
)
def test_build_model(model: dict[str, Any], shape: tuple[int, ...], parameters: int | None):
    """A torch module from images to logits, with the published numbers of parameters."""
    module = fathomlab.build_model(model)
    assert isinstance(module, torch.nn.Module)
    classes = model.get("params", {}).get("class_num", 10)
    assert module(torch.zeros(2, *shape)).shape == (2, classes)
    if parameters is not None:
        assert sum(tensor.numel() for tensor in module.parameters()) == parameters


def test_build_model_starts_from_its_seed():
    """Equal seeds, equal values; the global generator is not used."""
    state = torch.get_rng_state().tolist()
    first, same, other = (fathomlab.build_model({"type": "MLP"}, seed).eval() for seed in (1, 1, 2))
    images = torch.ones(1, 1, 28, 28)
    assert torch.equal(first(images), same(images))
    assert not torch.equal(first(images), other(images))
    assert torch.get_rng_state().tolist() == state


def test_build_model_learns():
    """Its parameters take gradients."""
    module = fathomlab.build_model({"type": "CNN", "params": {"width": 2}})
    module(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_build_model_tells_what_is_wrong():
    """The messages of a file, all at once."""
    with pytest.raises(fathomlab.ConfigError) as caught:
        fathomlab.build_model({"type": "MLP", "params": {"layers_dim": 0, "widht": 3, "dropout": "x"}})
    problems = {(problem.path, problem.code) for problem in caught.value.problems}
    assert problems == {
        ("params.layers_dim", "out-of-range"),
        ("params.widht", "unknown-key"),
        ("params.dropout", "wrong-type"),
    }


def test_the_first_lines_of_the_documentation_work_in_a_fresh_interpreter(tmp_path: Path):
    """Twice in one process: `fathomlab.run` stays a function after the package has been used."""
    code = (
        "import fathomlab\n"
        f"source = {TINY!r}\n"
        f"for seed in ('seed=0', 'seed=1'):\n"
        f"    plan = fathomlab.load(source, seed)\n"
        f"    results = fathomlab.run(source, seed, runs={str(tmp_path)!r}, workers=1, progress='off')\n"
        f"    assert fathomlab.run(plan, runs={str(tmp_path)!r}, progress='off').summary.cached == 1\n"
        f"print(len(fathomlab.open_store({str(tmp_path)!r}).table()['trial']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("2\n", "", 0)
