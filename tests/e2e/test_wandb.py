"""Weights & Biases with its real client, offline: its files contain what the store contains."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab import api
from fathomlab.execute.pack import pack
from fathomlab.export import live
from fathomlab.store.reading import Store
from tests.helpers.wandb_files import LoggedRun, logged_runs

pytest.importorskip("wandb", reason="needs the extra wandb")

EPOCHS = 3
CONFIG: dict[str, Any] = {
    "seed": 3,
    "data": {"name": "shapes", "limit": 64, "batch_size": 16},
    "model": {"type": "MLP", "params": {"input_size": 3072, "layers_dim": 8, "hidden_layers_num": 1}},
    "training": {"epochs": EPOCHS, "lr": 0.01, "scheduler": "StepLR", "scheduler_params": {"step_size": 1}},
    "experiment": {
        "analyze_gradients": True,
        "factors": {"model.params.residual": [False, True]},
        "seeds": 2,
        "tags": ["demo", "course 2026"],
    },
    "logging": {"project_name": "LAB", "log_gradients": True},
}
OPTIONS: dict[str, Any] = {"progress": "off", "device": "cpu", "workers": 1}


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store whose pack of four trials was logged live, and the name of the experiment."""
    root = tmp_path_factory.mktemp("wandb") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        return root, fathomlab.run(CONFIG, runs=root, **OPTIONS).summary.experiment


def check(store: Store, experiment: str, runs: list[LoggedRun]) -> None:
    """Every trial is one run with the names, steps, and values of the store."""
    record = store.experiment(experiment)
    assert len({run.id for run in runs}) == len(runs) == 4
    expected = {
        (f"{condition.label} seed={pair.seed}", condition.role): store.trial(pair.trial)
        for condition in record.conditions
        for pair in condition.trials
    }
    for run in runs:
        trial = expected.pop((run.name, run.job_type))
        assert (run.project, run.group, run.tags) == ("LAB", experiment, ["demo", "course 2026"])
        assert {key: run.config[key] for key in trial.content} == trial.content
        assert run.summary["test/accuracy"] == trial.metrics["test/accuracy"]
        assert (run.summary["parameters"], run.summary["status"]) == (trial.parameters, "finished")
        assert run.exit_code == 0
        rows = {step: {key: row[key] for key in row if key[0] != "_"} for step, row in run.rows}
        assert list(rows) == [*range(EPOCHS + 1)]
        profiles = {
            snapshot.epoch: dict(zip(snapshot.names["layer"], snapshot.columns["weight"], strict=True))
            for snapshot in trial.probes["gradients"]
            if snapshot.step != 1
        }
        for step, row in rows.items():
            values = {"epoch": step} | {
                name: column[step - 1] for name, column in trial.curves.items() if step and name != "step"
            }
            values |= {f"gradients/{layer}": norm for layer, norm in profiles[step].items()}
            assert row == values
    assert expected == {}


def test_pack_is_logged_live_as_one_run_per_trial(logged: tuple[Path, str]) -> None:
    root, experiment = logged
    check(Store(root), experiment, logged_runs(root))


def test_nothing_is_logged_twice(logged: tuple[Path, str]) -> None:
    root, experiment = logged
    before = sorted((root / "wandb").rglob("*"))
    fathomlab.run(CONFIG, runs=root, **OPTIONS)
    assert api.export_experiment("wandb", experiment, runs=root) == ()
    assert sorted((root / "wandb").rglob("*")) == before


def test_printed_command_uploads_every_run(logged: tuple[Path, str]) -> None:
    root, experiment = logged
    line = next(
        line for line in (root / "experiments" / experiment / "log.txt").read_text().splitlines() if "W&B" in line
    )
    command = line.partition("upload: ")[2].split()
    assert command[:2] == ["wandb", "sync"]
    assert "project LAB, offline" in line
    folder = Path(os.path.abspath(command[2]))
    assert folder == root / "wandb"
    script = [sys.executable, "-m", "wandb", "sync", "--dry-run", str(folder)]
    output = subprocess.run(script, capture_output=True, text=True, timeout=120, check=True)
    assert "Would sync 4 run(s)" in output.stderr + output.stdout


@pytest.mark.parametrize("by", ["export", "run"])
def test_old_trials_are_logged_as_live_ones(logged: tuple[Path, str], tmp_path: Path, by: str) -> None:
    fathomlab.run(CONFIG, runs=tmp_path, log="none", **OPTIONS)
    assert not (tmp_path / "wandb").exists()
    if by == "export":
        api.export_experiment("wandb", logged[1], runs=tmp_path)
    else:
        fathomlab.run(CONFIG, runs=tmp_path, **OPTIONS)
    check(Store(tmp_path), logged[1], logged_runs(tmp_path))
    fields = ("id", "name", "config", "tags")
    for new, old in zip(logged_runs(tmp_path), logged_runs(logged[0]), strict=True):
        assert [getattr(new, field) for field in fields] == [getattr(old, field) for field in fields]


def test_resumed_run_is_logged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first attempt is interrupted after two epochs. Its runs have no end, and the second attempt replaces them."""
    record = pack._PackRun._record_epoch

    def interrupted(self: Any, snapshot: Any) -> None:
        record(self, snapshot)
        if snapshot.epoch == 2:
            wait_until(lambda: len(list(tmp_path.glob("wandb/offline*/*.wandb"))) == 4)
            os.kill(os.getpid(), signal.SIGINT)
            wait_until(lambda: self.stop() is not None)

    with monkeypatch.context() as patch:
        patch.setattr(pack._PackRun, "_record_epoch", interrupted)
        patch.setattr(live, "STOP_SECONDS", 20.0)
        with pytest.raises(KeyboardInterrupt):
            fathomlab.run(CONFIG, runs=tmp_path, **OPTIONS)
    assert [run.summary["status"] for run in logged_runs(tmp_path)] == ["interrupted"] * 4
    assert list(tmp_path.glob("wandb/logged/*")) == []
    experiment = fathomlab.run(CONFIG, runs=tmp_path, **OPTIONS).summary.experiment
    check(Store(tmp_path), experiment, logged_runs(tmp_path))


def wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
