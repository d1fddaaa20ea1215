"""Classes passed as objects: from a script without a main guard, and from a notebook, to workers and results."""

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from fathomlab.config.plugins import read_plugin

DEFINITION = """
    import torch.nn.functional as F
    from torch import nn
    from own_parts import scaled

    WIDTH = 3

    def act(x):
        return scaled(F.gelu(x))

    class Net(nn.Module):
        def __init__(self, width: int = WIDTH):
            super().__init__()
            self.conv = nn.Conv2d(1, width, 3)
            self.head = nn.Linear(width, 10)

        def forward(self, images):
            return self.head(act(self.conv(images)).mean((2, 3)))
"""
RUN = """
    import fathomlab
    conf = {"data": {"name": "mnist-sample", "limit": 200}, "training": {"epochs": 1}}
    fathomlab.run(conf, "run.executor=local", model=Net, runs="runs", workers=1, progress="off")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a local module."""
    (tmp_path / "own_parts.py").write_text("def scaled(x):\n    return 2 * x\n")
    return tmp_path


def check(folder: Path) -> dict[str, str]:
    """The digests of all finished trials' weights; each has the stored source of its class."""
    digests = {}
    for path in folder.glob("runs/trials/*/result.json"):
        digests[path.parent.name] = json.loads(path.read_text())["files"]["checkpoint.safetensors"]["sha256"]
        ((name, digest),) = json.loads((path.parent / "trial.json").read_text())["content"]["plugins"].items()
        assert read_plugin(folder / "runs" / "plugins" / digest / name).sha256 == digest
    assert len(digests) == 1
    return digests


def test_script_trains_its_class(folder: Path):
    (folder / "script.py").write_text(dedent(DEFINITION) + dedent(RUN))
    subprocess.run([sys.executable, "script.py"], cwd=folder, check=True, timeout=100)
    check(folder)


@pytest.mark.slow
def test_notebook_trains_the_trials_of_a_script(folder: Path):
    (folder / "script.py").write_text(dedent(DEFINITION) + dedent(RUN))
    subprocess.run([sys.executable, "script.py"], cwd=folder, check=True, timeout=100)
    trained = check(folder)
    nbformat = pytest.importorskip("nbformat", reason="needs nbclient")
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient")
    pytest.importorskip("ipykernel", reason="needs ipykernel")
    (folder / "runs").rename(folder / "first")
    cells = [nbformat.v4.new_code_cell(dedent(text)) for text in (DEFINITION, "x = images = None", RUN)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=100, resources={"metadata": {"path": os.fspath(folder)}}).execute()
    assert check(folder) == trained
