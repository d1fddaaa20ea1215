"""A user's module and loss, from the experiment file to the report: workers, an interruption, and reading without plugins."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
import torch

from fathomlab.cli import main

PLUGIN = """
    import os
    import torch
    import torch.nn.functional as F
    from torch import nn
    from plugin_part import activation

    torch.set_default_dtype(torch.float64)  # must not reach a training

    with open(os.environ["PLUGIN_LOG"], "a") as file:
        file.write("loaded\\n")

    class ConvNet(nn.Module):
        def __init__(self, width: int = 8, dropout: float = 0.2):
            super().__init__()
            self.conv = nn.Conv2d(1, width, 3, padding=1)
            self.norm = nn.BatchNorm2d(width)
            self.drop = nn.Dropout(dropout)
            self.head = nn.Linear(width, 10)

        def forward(self, images):
            return self.head(self.drop(activation(self.norm(self.conv(images))).mean((2, 3))))

    def focal(logits, labels, *, gamma: float = 2.0):
        cross_entropy = F.cross_entropy(logits, labels, reduction="none")
        return (1 - (-cross_entropy).exp()) ** gamma * cross_entropy
"""
PART = "import torch.nn.functional as F\n\ndef activation(x):\n    return F.gelu(x)\n"
EXPERIMENT = """
    plugins: [my_parts.py]
    data: {name: mnist-sample, limit: 250, batch_size: 50, augment: [crop]}
    model: {type: ConvNet, params: {width: 4}}
    training: {epochs: 3, lr: 0.01, loss: {type: focal}}
    experiment:
      analyze_gradients: true
      seeds: 2
      factors: {training.loss.params.gamma: [0, 2]}
    claims:
      - {name: focal helps, factor: gamma, levels: [0, 2], expect: less}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with an experiment file, its plugin, and the module that the plugin imports."""
    for name, text in (("my_parts.py", PLUGIN), ("plugin_part.py", PART), ("exp.yaml", EXPERIMENT)):
        (tmp_path / name).write_text(dedent(text), encoding="utf-8")
    (tmp_path / "log").touch()
    monkeypatch.setenv("PLUGIN_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("FATHOMLAB_RUNS", str(tmp_path / "runs"))
    yield tmp_path
    torch.set_default_dtype(torch.float32)  # the plugin changes it in this process


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start `fathomlab ARGUMENTS` in another directory than the plugin's."""
    return subprocess.Popen(
        [sys.executable, "-m", "fathomlab", *arguments],
        cwd=folder.parent,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def command(*arguments: str) -> None:
    """Run a command in this process."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code in (0, None)


def results(runs: Path) -> dict[str, object]:
    """The metrics of every trial, and the SHA-256 of its weights."""
    documents = {path.parent.name: json.loads(path.read_text()) for path in runs.glob("trials/*/result.json")}
    return {
        name: (document["metrics"], document["files"]["checkpoint.safetensors"]) for name, document in documents.items()
    }


def test_run_with_plugins_resumes_with_the_same_bits(folder: Path):
    experiment = str(folder / "exp.yaml")
    command("run", experiment, "--workers", "1", "--progress", "off", "--runs", str(folder / "complete"))
    process = start(folder, "run", experiment, "--workers", "2", "run.checkpoint_seconds=0")
    deadline = time.monotonic() + 120
    while not any(folder.glob("runs/trials/*/state-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert results(folder / "runs") != results(folder / "complete")
    command("run", experiment, "--workers", "1", "--progress", "off")
    assert results(folder / "runs") == results(folder / "complete")
    provenance = [json.loads(path.read_text()) for path in folder.glob("runs/trials/*/provenance.json")]
    content = [json.loads(path.read_text())["content"] for path in folder.glob("runs/trials/*/trial.json")]
    assert any(entry["resumed"] for entry in provenance)
    recorded = [{plugin["name"]: plugin["sha256"] for plugin in entry["plugins"]} for entry in provenance]
    assert recorded == [entry["plugins"] for entry in content]
    assert {*content[0]["plugins"]} == {"my_parts.py"}
    _check_reading(folder)


def _check_reading(folder: Path) -> None:
    """Commands that read results do not run the plugin, and work without it."""
    loaded = (folder / "log").read_text()
    (folder / "my_parts.py").unlink()
    trial = next(iter(results(folder / "runs")))[:12]
    for arguments in (["list"], ["report"], ["store", "check"], ["show", trial]):
        command(*arguments)
    assert (folder / "log").read_text() == loaded
    (report,) = folder.glob("runs/experiments/*/report.html")
    assert "ConvNets" in report.read_text()
    assert "base width" not in report.read_text()
    assert re.search(r"ConvNets with [\d,]+ parameters \([^)]*width \d", report.read_text())
    assert "unknown for modules of plugins" in report.read_text()
    assert "the loss focal (gamma 0 and 2)" in report.read_text()


@pytest.mark.parametrize(("line", "status"), [("pass", 0), ("raise SystemExit(0)", 1), ("raise ValueError('x')", 1)])
def test_module_that_prints_and_stops_during_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, status: int
):
    """What it prints is not part of the JSON on standard output; its error has a line, and ends only its trial."""
    text = (
        PLUGIN.split("import os")[0]
        + f"""
    from torch import nn

    class Net(nn.Linear):
        def __init__(self):
            super().__init__(784, 10)

        def forward(self, images):
            print("noise")
            if len(images) > 2:  # not while planning
                {line}
            return super().forward(images.flatten(1))
    """
    )
    (tmp_path / "parts.py").write_text(dedent(text))
    experiment = {"plugins": ["parts.py"], "model": {"type": "Net"}, "training": {"epochs": 1}}
    (tmp_path / "exp.yaml").write_text(json.dumps({**experiment, "data": {"name": "mnist-sample", "limit": 200}}))
    options = ["--runs", str(tmp_path / "runs"), "--workers", "1", "--progress", "plain", "--json"]
    with pytest.raises(SystemExit) as ended:
        main(["run", str(tmp_path / "exp.yaml"), *options])
    captured = capsys.readouterr()
    assert (ended.value.code or 0, json.loads(captured.out)["failed"]) == (status, status)
    assert "noise" in captured.err
    assert ("failed: parts.py:12: " in captured.err) == (status == 1)
