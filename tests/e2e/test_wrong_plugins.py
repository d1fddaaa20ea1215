"""Plugins that are wrong: one problem each before any training, and other trials of a run are as without them."""

import json
import sys
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
import torch

import fathomlab
from fathomlab.cli import main
from fathomlab.store.reading import Store

pytestmark = pytest.mark.usefixtures("no_charts")

HEAD = """
import os, random, sys
from dataclasses import dataclass
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
import fathomlab
"""
NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(784, 10)

    def forward(self, images):
        logits = self.head(images.flatten(1))
"""
LOSS = """
def loss(logits, labels):
    losses = F.cross_entropy(logits, labels, reduction="none")
"""
DATASET = """
def images() -> fathomlab.Arrays:
    images, labels = np.zeros((40, 1, 28, 28), np.uint8), np.arange(40) % 2
"""
PROBE = """
class Probe:
    def measure(self, snapshot):
"""
SCHEDULE = """
@dataclass(frozen=True)
class Schedule:
    def lr_at(self, lr, position, memory):
"""
MODEL, DATA, PROBES = "model.params", "data.name", "experiment.probes.Probe"
WRONG = {  # the beginning of a plugin, its wrong end, the key of the problem, a part of its message
    "os._exit": ("", "os._exit(0)", "plugins[0]", "SystemExit: os._exit(0)"),
    "error without text": ("", "class E(Exception):\n    __str__ = None\nraise E", "plugins[0]", "E: its text"),
    "endless text": ("", "raise ValueError('x' * 10**6)", "plugins[0]", "ValueError: xxx"),
    "endless expression": ("", f"x = {'-' * 50000}1", "plugins[0]", "MemoryError"),
    "replaced function": ("", "F.cross_entropy = lambda *args: 0", "plugins[0]", "torch.nn.functional.cross_entropy"),
    "replaced method": ("", "torch.Tensor.relu = lambda self: self", "plugins[0]", "torch.Tensor.relu"),
    "no gradients": (NET, "return logits.detach()", MODEL, "depend on its parameters"),
    "integer logits": (NET, "return logits.long()", MODEL, "torch.int64"),
    "module ends the process": (NET, "os._exit(0)", MODEL, "SystemExit: os._exit(0)"),
    "loss without gradients": (LOSS, "return losses.detach()", "training.loss", "depends on the logits"),
    "loss changes labels": (LOSS, "labels.zero_(); return losses.detach() * logits.sum()", "training.loss", "labels"),
    "random loss": (LOSS, "return losses * torch.rand(len(losses))", "training.loss", "random numbers"),
    "dataset ends the process": (DATASET, "os._exit(0)", DATA, "SystemExit: os._exit(0)"),
    "endless class name": (DATASET, "return fathomlab.Arrays(*[images, labels] * 2, ('a' * 201, 'b'))", DATA, "200"),
    "endless column": (PROBE, "return {'v': [1.0] * 10_001}", PROBES, "10,000 numbers"),
    "random schedule": (SCHEDULE, "return lr * random.random()", "training.scheduler", "random numbers"),
}
CHANGES = {  # what a module does when it trains, and what becomes of its trial
    "torch.set_grad_enabled(False)": "must return logits that depend on its parameters",
    "torch.set_default_dtype(torch.float64)": "",
    "torch.set_num_threads(2)": "",
    "torch.use_deterministic_algorithms(False)": "",
    "torch.set_flush_denormal(False)": "",
    "torch.set_default_device('meta')": None,  # whatever: torch may fail anywhere
    "sys.stdout = None": "",
    "os._exit(0)": "SystemExit: os._exit(0)",
    "images = images[:5]": "must return logits of shape (50, 10), got (5, 10)",
}
PLAIN: dict[str, Any] = {
    "data": {"name": "mnist-sample", "limit": 250, "batch_size": 50},
    "model": {"type": "MLP", "params": {"layers_dim": 8, "hidden_layers_num": 1}},
    "training": {"epochs": 1},
}


def config(start: str) -> dict[str, Any]:
    """An experiment that uses the part of a plugin."""
    conf: dict[str, Any] = {**PLAIN, "plugins": ["parts.py"]}
    if start == NET:
        conf["model"] = {"type": "Net"}
    elif start == DATASET:
        conf["data"] = {"name": "images", "batch_size": 10}
    elif start == PROBE:
        conf["experiment"] = {"probes": {"Probe": {"at": ["init"]}}}
    elif start == LOSS:
        conf["training"] = {"epochs": 1, "loss": {"type": "loss"}}
    elif start == SCHEDULE:
        conf["training"] = {"epochs": 1, "scheduler": "Schedule"}
    return conf


@pytest.mark.parametrize("case", WRONG)
def test_wrong_part_is_one_problem_before_training(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start, end, key, text = WRONG[case]
    for holder, name in ((torch.nn.functional, "cross_entropy"), (torch.Tensor, "relu")):
        monkeypatch.setattr(holder, name, getattr(holder, name))  # put back what the plugin replaces
    (tmp_path / "parts.py").write_text(
        HEAD + start + indent(end, " " * 8 if start in (NET, PROBE, SCHEDULE) else " " * 4 if start else "")
    )
    (tmp_path / "exp.yaml").write_text(json.dumps(config(start)))
    with pytest.raises(SystemExit) as ended:
        main(["plan", str(tmp_path / "exp.yaml"), "--runs", str(tmp_path / "runs"), "--json"])
    assert ended.value.code == 2
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert (problem["key"], text in problem["message"], len(problem["message"]) < 1200) == (key, True, True), problem
    assert problem["code"] == ("wrong-type" if case == "endless class name" else "plugin-error")


def outcome(runs: Path) -> dict[str, Any]:
    """Status, metrics, and the digest of the weights of every trial."""
    records = [Store(runs).trial(trial) for trial in Store(runs).trials()]
    return {each.trial: (each.status, each.metrics, each.files.get("checkpoint.safetensors")) for each in records}


def test_wrong_modules_disturb_no_other_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials of the built-in model that train after them in the same process are equal bit for bit to a run without them."""
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # a module replaces it
    classes = [
        NET.replace("Net", f"Net{number}").replace(
            "        logits", f"        if len(images) > 10:\n            {line}\n        logits"
        )
        + "        return logits\n"
        for number, line in enumerate(CHANGES)
    ]
    (tmp_path / "parts.py").write_text(HEAD + "".join(classes))
    monkeypatch.chdir(tmp_path)
    names = [f"Net{number}" for number in range(len(CHANGES))]
    params = PLAIN["model"]["params"]
    models = [*({"type": name} for name in names), {"type": "MLP", "params": params}]
    conf = {**PLAIN, "plugins": ["parts.py"], "experiment": {"seeds": 2, "factors": {"model": models}}}
    options: dict[str, Any] = {"workers": 1, "progress": "off"}
    run = fathomlab.run(conf, runs=tmp_path / "runs", **options)
    plain_conf = {**PLAIN, "experiment": {"seeds": 2}}
    fathomlab.run(plain_conf, "run.backend=reference", runs=tmp_path / "plain", **options)  # as in a plan with modules
    plain = outcome(tmp_path / "plain")
    assert len(plain) == 2
    assert {name: value for name, value in outcome(tmp_path / "runs").items() if name in plain} == plain
    for condition, expected in zip(run.plan.conditions, CHANGES.values(), strict=False):
        record = run.store.trial(condition.trials[0].hash)
        if expected is not None:
            assert (expected in (record.cause or ""), record.status == "failed") == (True, bool(expected)), record.cause
