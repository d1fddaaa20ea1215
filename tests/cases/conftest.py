"""Commands in processes of their own, with the environment that a case needs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

SOURCE = str(Path(__file__).parents[2] / "src")
TINY = """\
seed: 1
data: {name: mnist-sample, batch_size: 128, limit: 500}
model:
  type: MLP
  params: {input_size: 784, layers_dim: 16, class_num: 10, hidden_layers_num: 2}
training: {epochs: 1, lr: 0.001}
experiment:
  factors: {model.params.residual: [false, true]}
  seeds: 2
claims:
  - {name: "Shortcuts help", factor: residual, levels: [true, false], expect: greater, matters: 0.02}
"""


def command(*words: str, cwd: Path, **options: Any) -> "subprocess.CompletedProcess[bytes]":
    """Run `fathomlab WORDS`; `environment` adds variables, None removes one."""
    changes = {"PYTHONPATH": SOURCE} | options.pop("environment", {})
    environment = {key: value for key, value in (os.environ | changes).items() if value is not None}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    start = "import sys; from fathomlab.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-P", "-c", start, *words], cwd=cwd, env=environment, timeout=300, check=False, **streams
    )


@pytest.fixture
def shell() -> SimpleNamespace:
    """The command and a tiny experiment file's text."""
    return SimpleNamespace(run=command, text=TINY, source=SOURCE)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A folder with a tiny experiment file."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    return tmp_path


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `trained` copies."""
    folder = tmp_path_factory.mktemp("original")
    (folder / "tiny.yaml").write_text(TINY)
    done = command("run", "tiny.yaml", "--progress", "off", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def trained(original: Path, tmp_path: Path) -> Path:
    """A folder with a tiny experiment file and its results."""
    return Path(shutil.copytree(original, tmp_path / "trained"))
