"""Worker processes in hostile surroundings: shadowing modules, broken starts, and sudden deaths."""

import json
import os
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.execute.events import Warned
from fathomlab.execute.executors import local
from fathomlab.execute.executors.setting import Setting
from fathomlab.execute.experiment import RunOptions, run_experiment
from fathomlab.execute.signals import StopRequest
from fathomlab.store.reading import Store
from tests.helpers.commands import SOURCE, TRIALS, run_command, run_python

PARALLEL = ("run", "tiny.yaml", "run.pack=2", "--workers", "2", "--progress", "plain", "--json")
SHADOWS = ("statistics", "queue", "random", "json", "numpy", "torch", "fathomlab/__init__")


ENTRIES = [
    ".:{source}:",
    *(pytest.param(text, marks=pytest.mark.slow) for text in ("{source}:", ":{source}", "{source}::.")),
]


@pytest.mark.parametrize("entries", ENTRIES)
def test_workers_ignore_the_working_directory(workspace: Path, entries: str):
    """Scripts of the user with the names of modules, and empty entries in PYTHONPATH, which mean the directory.

    Only workers are tested, not their parent.
    """
    for name in SHADOWS:
        path = workspace / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text("raise SystemExit('imported from the working directory')\n")
    path_variable = entries.format(source=SOURCE).replace(":", os.pathsep)
    code = (
        f"import sys; sys.path = [p for p in sys.path if p not in ('', '.', {str(workspace)!r})];"
        "from fathomlab.cli import main; main()"
    )
    variables = {"PYTHONPATH": path_variable, "PYTHONSTARTUP": str(workspace / "queue.py")}
    result = run_python("-c", code, *PARALLEL, cwd=workspace, environment=variables)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["trained"] == TRIALS


def test_workers_that_cannot_start_end_the_run(workspace: Path):
    """One error with the last lines of the worker; no trial is recorded as failed."""
    broken = workspace / "broken"
    broken.mkdir()
    (broken / "torch.py").write_text("raise RuntimeError('libtorch is missing')\n")
    path = os.pathsep.join([str(broken), SOURCE])
    result = run_command(*PARALLEL, cwd=workspace, environment={"PYTHONPATH": path})
    assert result.returncode == 2
    (problem,) = json.loads(result.stdout)["problems"]
    assert problem["code"] == "worker-start-failed"
    assert "libtorch is missing" in problem["message"]
    assert Store(workspace / "runs").trials() == []


CRASH = """
import os, signal, sys
sys.path.append(sys.argv[1])
from fathomlab.execute.pack import pack
def crash(job, emit, stop, node="", original=pack.train_job):
    if any(trial.seed == 2 for trial in job.trials):
        os.write(2, b"munmap_chunk(): invalid pointer\\n")
        os.kill(os.getpid(), signal.NAME)
    original(job, emit, stop, node)
pack.train_job = crash
from fathomlab.execute.worker import main
main()
"""


@pytest.mark.parametrize("name", ["SIGKILL", pytest.param("SIGABRT", marks=pytest.mark.slow)])
def test_worker_crash_fails_only_its_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    """Every worker that trains one of two trials crashes. The cause has its signal and output."""
    monkeypatch.setattr(local, "START", CRASH.replace("NAME", name))
    conf = {
        "data": {"name": "mnist-sample", "limit": 200, "batch_size": 40},
        "model": {"type": "MLP", "params": {"layers_dim": 6, "hidden_layers_num": 1}},
        "training": {"epochs": 1},
    }
    events: list[Any] = []
    plan = fathomlab.load(conf, ["seed=1,2", "run.pack=1"])
    summary = run_experiment(plan, tmp_path / "runs", RunOptions("cpu", 2), events.append, StopRequest())
    records = {trial.seed: Store(tmp_path / "runs").trial(trial.hash) for trial in plan.trials}
    assert {seed: record.status for seed, record in records.items() if record.status != "finished"} == {2: "failed"}
    assert (summary.failed, summary.trained) == (1, 2)
    attempts, used = 2 if name == "SIGKILL" else 3, summary.fleet
    assert used is not None
    assert (used.executor, used.nodes, used.retried, used.lost) == ("local", (), attempts - 1, attempts)
    assert Store(tmp_path / "runs").experiment(summary.experiment).runs == (used,)
    assert name in str(records[2].cause)
    assert name != "SIGKILL" or re.search(r"limit \d+\.\d GB", str(records[2].cause))
    assert name == "SIGKILL" or "munmap_chunk" in str(records[2].cause)
    warnings = [event.text for event in events if isinstance(event, Warned)]
    assert warnings
    assert all(records[2].trial[:12] in text and name in text for text in warnings)


def test_worker_output_is_bounded_and_escaped(monkeypatch: pytest.MonkeyPatch):
    """A worker that floods standard error with control characters."""
    code = "import sys; [print('x' * 5000 + '\\x1b[31m', i, file=sys.stderr) for i in range(100)]; sys.exit(3)"
    monkeypatch.setattr(local, "START", code)
    with closing(local.Local(Setting(Path(), 1))) as executor:
        (worker,) = executor.workers
        assert list(executor.events(120)) == []  # it had no job
        assert executor.workers == []
    assert worker.process.returncode == 3
    assert len(worker.tail) == local.TAIL_LINES
    assert all(len(line) <= local.LINE_LENGTH and "\x1b" not in line for line in worker.tail)
