"""Workers in hostile surroundings: foreign modules in the working directory, broken starts, sudden deaths."""

import json
import os
import signal
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import fathomlab
from fathomlab.execute.events import Warned
from fathomlab.execute.executors import local
from fathomlab.execute.experiment import RunOptions, run_experiment
from fathomlab.execute.signals import StopRequest
from fathomlab.store.reading import Store

PARALLEL = ("run.pack=1", "--workers", "2", "--progress", "plain", "--json")


@pytest.mark.parametrize(
    "shadow",
    [
        ["statistics.py", "queue.py", "random.py", "json.py", "numpy.py", "torch.py", "fathomlab/__init__.py"],
        *(
            pytest.param(names, marks=pytest.mark.slow)
            for names in (["statistics.py"], ["queue.py", "random.py", "json.py"], ["numpy.py", "torch.py"])
        ),
    ],
)
def test_modules_in_the_working_directory_are_not_imported(tiny: Path, shell: SimpleNamespace, shadow: list[str]):
    """A script of the user's with the name of a module that workers need."""
    for name in shadow:
        (tiny / name).parent.mkdir(exist_ok=True)
        (tiny / name).write_text("raise SystemExit('imported from the working directory')\n")
    done = shell.run("run", "tiny.yaml", *PARALLEL, cwd=tiny)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["trained"] == 4


@pytest.mark.parametrize(
    "entries",
    [
        ".:{source}:",
        pytest.param("{source}:", marks=pytest.mark.slow),
        pytest.param(":{source}", marks=pytest.mark.slow),
        pytest.param("{source}::.", marks=pytest.mark.slow),
    ],
)
def test_empty_entries_of_the_module_path_are_not_the_working_directory(
    tiny: Path, shell: SimpleNamespace, entries: str
):
    """An empty entry in PYTHONPATH means the working directory."""
    (tiny / "queue.py").write_text("raise SystemExit('imported from the working directory')\n")
    path = entries.format(source=shell.source).replace(":", os.pathsep)
    start = {"PYTHONPATH": path, "PYTHONSTARTUP": str(tiny / "queue.py")}
    # the parent is this test's: only workers are under test
    code = (
        "import sys, os; sys.path = [p for p in sys.path if p not in ('', '.', os.getcwd())];"
        "from fathomlab.cli import main; main()"
    )
    import subprocess
    import sys

    words = [sys.executable, "-P", "-c", code, "run", "tiny.yaml", *PARALLEL]
    done = subprocess.run(words, cwd=tiny, env=os.environ | start, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["trained"] == 4


def test_workers_that_cannot_start_end_the_run_at_once(tiny: Path, shell: SimpleNamespace):
    """One error with the worker's last lines; no trial is recorded as failed, and a repaired machine trains them."""
    broken = tiny / "broken"
    broken.mkdir()
    (broken / "torch.py").write_text("raise RuntimeError('libtorch is missing')\n")
    path = os.pathsep.join([str(broken), shell.source])
    done = shell.run("run", "tiny.yaml", *PARALLEL, cwd=tiny, environment={"PYTHONPATH": path})
    assert done.returncode == 2
    (problem,) = json.loads(done.stdout)["problems"]
    assert problem["code"] == "worker-start-failed"
    assert "libtorch is missing" in problem["message"]
    assert [Store(tiny / "runs").trial(name).status for name in Store(tiny / "runs").trials()] == []
    assert json.loads(shell.run("run", "tiny.yaml", *PARALLEL, cwd=tiny).stdout)["trained"] == 4


def dying(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, when: str) -> None:
    """Workers that end themselves with SIGABRT when they train a trial for which `when` is true."""
    code = f"""
import os, sys
sys.path.append(sys.argv[1])
from fathomlab.execute.pack import pack
def end(job, emit, stop, original=pack.train_job):
    if any({when} for trial in job.trials):
        os.write(2, b"munmap_chunk(): invalid pointer\\n")
        os.abort()
    original(job, emit, stop)
pack.train_job = end
from fathomlab.execute.worker import main
main()
"""
    monkeypatch.setattr(local, "START", code)


def run(runs: Path, *overrides: str) -> tuple[Any, Any, list[Any]]:
    """A run with two workers: its plan, summary, and events."""
    conf = {
        "data": {"name": "mnist-sample", "limit": 200, "batch_size": 40},
        "model": {"type": "MLP", "params": {"layers_dim": 6, "hidden_layers_num": 1}},
        "training": {"epochs": 1},
    }
    events: list[Any] = []
    plan = fathomlab.load(conf, overrides)
    return plan, run_experiment(plan, runs, RunOptions("cpu", 2), events.append, StopRequest()), events


def test_a_signal_is_named_and_fails_only_the_guilty_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Four trials in two packs; one of them ends every worker that trains it."""
    dying(monkeypatch, tmp_path, "trial.seed == 2")
    plan, summary, events = run(tmp_path / "runs", "seed=0..3", "run.pack=2")
    statuses = {trial.seed: Store(tmp_path / "runs").trial(trial.hash) for trial in plan.trials}
    assert {seed: record.status for seed, record in statuses.items()} == {
        0: "finished",
        1: "finished",
        2: "failed",
        3: "finished",
    }
    assert (summary.failed, summary.trained) == (1, 4)
    assert "SIGABRT" in str(statuses[2].cause)
    assert "munmap_chunk" in str(statuses[2].cause)
    warnings = [event.text for event in events if isinstance(event, Warned)]
    guilty = next(trial.hash for trial in plan.trials if trial.seed == 2)
    assert warnings
    assert all(guilty[:12] in text and signal.Signals.SIGABRT.name in text for text in warnings)


def test_last_lines_of_a_worker_are_bounded_and_escaped(tmp_path: Path):
    """A worker that floods standard error with control characters."""
    code = "import sys; [print('x' * 5000 + '\\x1b[31m', i, file=sys.stderr) for i in range(100)]; sys.exit(3)"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "START", code)
        with closing(local.Local(1, None)) as executor:
            (worker,) = executor.workers
            assert list(executor.events(120)) == []  # no job is lost with it
            assert executor.workers == []
    assert worker.process.returncode == 3
    assert len(worker.tail) == local.TAIL_LINES
    assert all(len(line) <= local.LINE_LENGTH and "\x1b" not in line for line in worker.tail)


def test_a_deleted_working_directory_does_not_stop_training(tmp_path: Path, shell: SimpleNamespace):
    """Another program removes the folder in which the command was started."""
    away, runs = tmp_path / "away", tmp_path / "runs"
    away.mkdir()
    (tmp_path / "tiny.yaml").write_text(shell.text)
    code = (
        "import os, shutil, fathomlab; plan = fathomlab.load('../tiny.yaml', ['run.pack=1']); shutil.rmtree(os.getcwd());"
        f"print(fathomlab.run(plan, runs={str(runs)!r}, workers=2, progress='off').summary.trained)"
    )
    import subprocess
    import sys

    environment = os.environ | {"PYTHONPATH": shell.source}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=away, env=environment, capture_output=True, timeout=300, check=False
    )
    assert done.stdout.strip() == b"4", done.stderr
