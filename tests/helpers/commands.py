"""`fathomlab` commands in this process or in another one, and the experiment that most of them run."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fathomlab.cli import main

ROOT = Path(__file__).parents[2]
SOURCE = str(ROOT / "src")
EXPERIMENT = """\
seed: 3
data: {name: mnist-sample, limit: 200, batch_size: 40}
model:
  type: MLP
  params: {layers_dim: 6, hidden_layers_num: 1}
training:
  epochs: 2
experiment:
  title: Shortcuts & depth
  analyze_gradients: true
  factors: {model.params.residual: [false, true]}
  seeds: 2
quick:
  training: {epochs: 1}
claims:
  - {name: Shortcuts help, factor: residual, levels: [true, false], expect: greater, matters: 0.02}
"""
TRIALS = 4
START = "import sys; from fathomlab.cli import main; main()"
RUN = ("run", "tiny.yaml", "--progress", "off", "--workers", "1")


class Output(NamedTuple):
    """Exit status and text of a command."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Both streams."""
        return self.out + self.err


Command = Callable[..., Output]


def command_in_process(capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs a command in this process; an unexpected exception is raised."""

    def run(*args: str) -> Output:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main(list(args))
        assert isinstance(caught.value.code, int)
        return Output(caught.value.code, *capsys.readouterr())

    return run


def run_python(
    *args: str, cwd: Path, environment: Mapping[str, str | None] | None = None, **options: Any
) -> "subprocess.CompletedProcess[str]":
    """Run Python with this source tree; None in `environment` removes a variable."""
    changes = {"PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"} | dict(environment or {})
    variables = {key: value for key, value in (os.environ | changes).items() if value is not None}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
    return subprocess.run([sys.executable, "-P", *args], cwd=cwd, env=variables, timeout=300, check=False, **streams)


def run_command(*args: str, cwd: Path, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run `fathomlab ARGS` in another process."""
    return run_python("-c", START, *args, cwd=cwd, **options)


def start_python(*args: str, cwd: Path) -> "subprocess.Popen[str]":
    """Start Python with this source tree in a process group."""
    return subprocess.Popen(
        [sys.executable, *args],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": SOURCE},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def process_group(leader: int) -> list[int]:
    """Process IDs of a group that are alive, on Linux."""
    alive = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split() if entry.name.isdigit() else []
        except OSError:
            continue
        if fields and int(fields[2]) == leader and fields[0] != "Z":
            alive.append(int(entry.name))
    return alive
