"""A user's probe, optimizer, and schedule from the experiment file to the report, and what wrong ones do to other trials."""

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import fathomlab
from fathomlab.base.codec import from_plain, to_plain
from fathomlab.base.errors import ConfigError
from fathomlab.cli import main
from fathomlab.execute.experiment import RunOptions, run_experiment
from fathomlab.execute.signals import RunInterrupted, StopRequest
from fathomlab.prepare.jobs import Job
from fathomlab.store.reading import Store
from tests.faults.polls import stopped

PLUGIN = """
    import os
    from dataclasses import dataclass
    import torch
    from fathomlab.optim.rates import WeightDecay, per_replica, zeros_like

    with open(os.environ["PLUGIN_LOG"], "a") as file:
        file.write("loaded\\n")

    class WeightNorms:
        def __init__(self, power: float = 2.0):
            self.power = power

        def measure(self, snapshot):
            with torch.no_grad():
                network = snapshot.module()
                confidence = network(snapshot.images(snapshot.probe_batch(8))[0]).softmax(1).amax(1).mean()
            norms = [weight.detach().norm(self.power) for weight in snapshot.weights()]
            return {"weight_norm": norms, "confidence": confidence, "draw": torch.rand(5)}

    @dataclass(frozen=True)
    class Lion:
        beta: float = 0.9
        weight_decay: WeightDecay = 0.1

        def init_state(self, params):
            return {"moment": zeros_like(params)}

        def step(self, params, grads, state, count, rates):
            for param, grad, moment in zip(params, grads, state["moment"]):
                lr = per_replica(rates.lr, param)
                direction = (self.beta * moment + (1 - self.beta) * grad).sign()
                param.sub_(lr * (direction + per_replica(rates.weight_decay, param) * param))
                moment.mul_(0.99).add_(0.01 * grad)

    @dataclass(frozen=True)
    class Warmup:
        epochs: int = 2

        def lr_at(self, lr, position, memory):
            return lr * min(1, (position.epoch + 1) / self.epochs)

    OPTIMIZERS = {"Lion": Lion}
    SCHEDULES = {"Warmup": Warmup}

    @dataclass(frozen=True)
    class Late(Lion):
        def step(self, params, grads, state, count, rates):
            if count > 8:
                raise ValueError("late")
            super().step(params, grads, state, count, rates)

    @dataclass(frozen=True)
    class Below:
        def lr_at(self, lr, position, memory):
            return lr - memory.get("seen", 0)

        def observe(self, lr, memory, loss):
            return {"seen": 0 if loss == 1 else 1}  # planning does not find it

    class Fragile:
        def measure(self, snapshot):
            if snapshot.epoch and len(snapshot.layers) > 4:
                raise KeyError("deep")
            return {"layers_seen": len(snapshot.layers)}
"""
EXPERIMENT: dict[str, Any] = {
    "plugins": ["my_parts.py"],
    "data": {"name": "mnist-sample", "limit": 250, "batch_size": 50},
    "model": {"type": "MLP", "params": {"layers_dim": 8, "hidden_layers_num": 2}},
    "training": {"epochs": 3, "lr": 0.002, "optimizer": "Lion", "scheduler": "Warmup"},
    "experiment": {
        "seeds": 2,
        "factors": {"training.optimizer_params.weight_decay": [0.0, 0.1]},
        "probes": {"WeightNorms": {"at": ["init", 2, "epochs"], "power": 3}},
    },
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a plugin, the working directory."""
    (tmp_path / "my_parts.py").write_text(dedent(PLUGIN), encoding="utf-8")
    (tmp_path / "exp.yaml").write_text(json.dumps(EXPERIMENT), encoding="utf-8")
    (tmp_path / "log").touch()
    monkeypatch.setenv("PLUGIN_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("FATHOMLAB_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*arguments: str) -> None:
    """Run a command in this process."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code in (0, None)


def outcome(root: Path) -> dict[str, Any]:
    """Metrics, learning rates, weights, and snapshots of every trial."""
    store = Store(root)
    records = [store.trial(trial) for trial in store.trials()]
    return {
        record.trial: (
            record.metrics,
            record.curves.get("lr"),
            record.probes,
            record.descriptions,
            record.files["checkpoint.safetensors"],
        )
        for record in records
    }


def test_parts_train_resume_and_are_reported(folder: Path, capsys: pytest.CaptureFixture[str]):
    """An interruption gives the same bits; reports and lists work without the plugin."""
    plan = fathomlab.load("exp.yaml", ["run.checkpoint_seconds=0"])
    run_experiment(plan, folder / "complete", RunOptions("cpu", 1), lambda event: None, StopRequest())
    with stopped(6) as stop, pytest.raises(RunInterrupted):
        run_experiment(plan, folder / "runs", RunOptions("cpu", 1), lambda event: None, stop)
    assert any(folder.glob("runs/trials/*/state-*"))
    run_experiment(plan, folder / "runs", RunOptions("cpu", 1), lambda event: None, StopRequest())
    complete = outcome(folder / "complete")
    assert len(complete) == 4
    assert outcome(folder / "runs") == complete
    _, rates, probes, descriptions, _ = next(iter(complete.values()))
    assert rates == [0.001, 0.002, 0.002]
    assert [snapshot.step for snapshot in probes["WeightNorms"]] == [0, 2, 4, 8, 12]
    axes = {name: column.axis for name, column in descriptions["WeightNorms"].columns.items()}
    assert axes == {"weight_norm": "layer", "confidence": "replica", "draw": "entry"}
    _check_reading(folder, capsys)
    _check_identity(folder, capsys)


@pytest.mark.slow
def test_workers_give_the_same_bits(folder: Path):
    for workers in ("1", "2"):
        command("run", "exp.yaml", "--workers", workers, "--progress", "off", "--runs", f"runs-{workers}")
    assert len(outcome(folder / "runs-1")) == 4
    assert outcome(folder / "runs-2") == outcome(folder / "runs-1")


def test_job_carries_the_parts(folder: Path):
    trials = fathomlab.load("exp.yaml").trials
    job = Job(trials, folder)
    (folder / "my_parts.py").unlink()
    again = from_plain(Job, to_plain(job))
    assert [trial.recipe for trial in again.trials] == [trial.recipe for trial in trials]
    assert [trial.probes for trial in again.trials] == [trial.probes for trial in trials]


def _check_reading(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Commands that read results do not run the plugin, and work without it."""
    loaded, plugin = (folder / "log").read_text(), (folder / "my_parts.py").read_text()
    (folder / "my_parts.py").unlink()
    trial = Store(folder / "runs").trials()[0]
    for arguments in (["list"], ["report"], ["store", "check"], ["show", trial]):
        command(*arguments)
    capsys.readouterr()
    command("show", trial, "--json")
    shown = json.loads(capsys.readouterr().out)["probes"]["WeightNorms"]
    assert shown["title"] == "Weight norms"
    assert len(shown["snapshots"][0]["weight_norm"]) == len(shown["snapshots"][0]["layers"]) == 4
    store = fathomlab.open_store(folder / "runs")
    assert len(store.experiment(store.experiments[0]).plot("WeightNorms").axes) >= 1
    assert (folder / "log").read_text() == loaded
    (report,) = folder.glob("runs/experiments/*/report.html")
    text = report.read_text()
    assert "Weight norms" in text
    assert all(label in text for label in ("Weight norm, ", "Confidence"))
    (folder / "my_parts.py").write_text(plugin)


def _check_identity(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A changed plugin gives new trials, and `plan --why` says so; trials of built-in parts keep their identity."""
    before = {trial.hash for trial in fathomlab.load("exp.yaml").trials}
    built_in = ["training.optimizer=SGD", "training.scheduler=none", "experiment.probes={}", "experiment.factors={}"]
    plain = [trial.hash for trial in fathomlab.load("exp.yaml", built_in).trials]
    path = folder / "my_parts.py"
    path.write_text(path.read_text() + "\n# a comment\n")
    assert [trial.hash for trial in fathomlab.load("exp.yaml", built_in).trials] == plain
    for part in built_in[:3]:  # each part by itself
        (*_, trial) = fathomlab.load("exp.yaml", [text for text in built_in if text != part]).trials
        assert trial.content["plugins"].keys() == {"my_parts.py"}
    after = fathomlab.load("exp.yaml").trials
    assert before.isdisjoint(trial.hash for trial in after)
    capsys.readouterr()
    command("plan", "exp.yaml", "--why", after[0].hash, "--json")
    fields = json.loads(capsys.readouterr().out)["fields"]
    assert [field["key"].partition(".")[0] for field in fields] == ["plugins"]


def test_wrong_parts_fail_only_the_trials_that_use_them(folder: Path):
    config = {
        **EXPERIMENT,
        "training": {"epochs": 3},
        "experiment": {
            "factors": {
                "training.optimizer": ["SGD", "Late"],
                "training.scheduler": ["none", "Below"],
                "model.params.hidden_layers_num": [1, 4],
            },
            "probes": {"Fragile": {"at": ["init", "epochs"]}},
        },
    }
    results = fathomlab.run(config, runs=folder / "runs", workers=1, progress="off")
    causes = {}
    for condition in results.plan.conditions:
        levels = condition.factors
        key = (levels["training.optimizer"], levels["training.scheduler"], levels["model.params.hidden_layers_num"])
        causes[key] = results.store.trial(condition.trials[0].hash)
    assert causes["SGD", None, 1].status == "finished"
    assert len(causes["SGD", None, 1].probes["Fragile"]) == 4
    lines = [text.strip() for text in dedent(PLUGIN).splitlines()]
    for key, record in causes.items():
        if key == ("SGD", None, 1):
            continue
        assert record.status == "failed"
        late, below = lines.index('raise ValueError("late")') + 1, lines.index("class Below:") + 2
        fragile = lines.index('raise KeyError("deep")') + 1
        expected = {
            f"my_parts.py:{fragile}: KeyError": key[2] == 4,
            f"my_parts.py:{below}: Below.lr_at": key[1] == "Below" and key[2] == 1,
            f"my_parts.py:{late}: ValueError": key == ("Late", None, 1),
        }
        (cause,) = [text for text, wanted in expected.items() if wanted]
        assert (record.cause or "").startswith(cause), (key, record.cause)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.optimizer=Lino", ("unknown-name", "training.optimizer")),
        ("training.scheduler=Wamup", ("unknown-name", "training.scheduler")),
        ("training.optimizer_params.bta=1", ("unknown-key", "training.optimizer_params.bta")),
        ("training.scheduler_params.epoch=1", ("unknown-key", "training.scheduler_params.epoch")),
        ("training.optimizer_params.beta=yes", ("ambiguous-value", "training.optimizer_params.beta")),
        ("training.optimizer_params.weight_decay=-1", ("out-of-range", "training.optimizer_params.weight_decay")),
        ("training.scheduler_params.epochs=0", ("plugin-error", "training.scheduler")),
        ("experiment.probes={WeightNorm: {}}", ("unknown-name", "experiment.probes")),
        ("experiment.probes.WeightNorms.pwer=1", ("unknown-key", "experiment.probes.WeightNorms.pwer")),
    ],
)
def test_wrong_options_are_reported_before_training(folder: Path, override: str, expected: tuple[str, str]):
    with pytest.raises(ConfigError) as raised:
        fathomlab.load("exp.yaml", [override, "experiment.factors={}"])
    (problem,) = raised.value.problems
    assert (problem.code, problem.path) == expected
    if expected[0] in ("unknown-name", "unknown-key"):
        assert "Did you mean" in problem.message
