"""`fathomlab run` starts workers before it plans."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fathomlab.base.processor import cores
from fathomlab.store.lock import is_locked
from tests.helpers.commands import SOURCE, TRIALS, process_group, run_python, start_python

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads the process table of Linux"),
    pytest.mark.skipif(cores() < 2, reason="one core is left for the run"),
]
RUN = """
import json, sys
from fathomlab.execute import worker_process
started, start = [], worker_process._start
worker_process._start = lambda code: started.append("fathomlab.plan" in sys.modules) or start(code)
from fathomlab.cli import main
try:
    main(sys.argv[1:])
finally:
    print(json.dumps([started, "torch" in sys.modules, len(worker_process._early)]), file=sys.stderr)
"""


def trained(workspace: Path, *words: str) -> tuple[int, list[bool]]:
    """Run; returns the number of trained trials, and for each worker whether the plan was loaded when it was started.

    No early worker remains. The process of the run imports torch only if no worker was started.
    """
    result = run_python("-c", RUN, "run", "tiny.yaml", "--json", "--progress", "off", *words, cwd=workspace)
    assert result.returncode == 0, result.stderr
    started, has_torch, left = json.loads(result.stderr.splitlines()[-1])
    assert has_torch == (not started or "inline" in words)
    assert left == 0
    return json.loads(result.stdout)["trained"], started


def test_worker_starts_before_the_plan_and_trains(workspace: Path):
    """Also a single pack. If all is cached, it has started for nothing."""
    early = [False] * min(4, cores() - 1)
    assert trained(workspace, "run.pack=4") == (TRIALS, early)
    assert trained(workspace, "run.pack=4") == (0, early)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "started"),
    [
        (("--workers", "1"), []),
        (("--executor", "inline"), [False] * min(4, cores() - 1)),
        (("--workers", "2"), [False] * min(2, cores() - 1) + [True] * (cores() < 3)),
    ],
)
def test_workers_start_early_if_they_may_train(workspace: Path, words: tuple[str, ...], started: list[bool]):
    assert trained(workspace, "run.pack=2", *words) == (TRIALS, started)


def test_mistake_ends_early_workers(workspace: Path):
    """One error, and no process that runs on."""
    process = start_python("-m", "fathomlab", "run", "tiny.yaml", "lr=1", cwd=workspace)
    seen = 0
    while process.poll() is None:
        seen = max(seen, len(process_group(process.pid)))
    assert process_group(process.pid) == []
    out, err = process.communicate()
    assert seen > 1
    assert (process.returncode, out) == (2, "")
    assert err.startswith("Planning tiny.yaml ...\ntiny.yaml: 1 problem\n  override 1  lr: ")


def test_early_worker_holds_the_lock(workspace: Path):
    """The run is killed while its worker is suspended: the store is in use until the worker has ended."""
    words = ["run", "tiny.yaml", "training.epochs=100000", "run.pack=4", "--progress", "json"]
    process = start_python("-m", "fathomlab", *words, cwd=workspace)
    assert process.stderr is not None
    next(line for line in process.stderr if '"started"' in line)
    (worker,) = [pid for pid in process_group(process.pid) if pid != process.pid]
    os.kill(worker, signal.SIGSTOP)
    process.kill()
    process.communicate(timeout=60)
    assert is_locked(workspace / "runs")
    os.kill(worker, signal.SIGCONT)
    until = time.monotonic() + 30
    while (process_group(process.pid) or is_locked(workspace / "runs")) and time.monotonic() < until:
        time.sleep(0.05)
    assert not process_group(process.pid)
    assert not is_locked(workspace / "runs")


def test_worker_starts_if_all_streams_are_closed(workspace: Path):
    """Then the descriptors 0 to 2 of the run are free, and its sockets must not take those of the worker."""
    command = [sys.executable, "-m", "fathomlab", "run", "tiny.yaml", "run.pack=4"]
    script = 'exec "$@" <&- >&- 2>&-'
    subprocess.run(["sh", "-c", script, "sh", *command], env=os.environ | {"PYTHONPATH": SOURCE}, check=False)
    (log,) = (workspace / "runs" / "experiments").glob("*/log.txt")
    assert f"[{TRIALS}/{TRIALS}]" in log.read_text()
    assert "warning:" not in log.read_text()


@pytest.mark.parametrize("workers", ["\u00b2", "0", "many"])
def test_wrong_number_of_workers_is_an_error(workspace: Path, workers: str):
    """Workers are started before it is checked. The first one is a digit, but no number."""
    result = run_python("-c", RUN, "run", "tiny.yaml", "--workers", workers, "--progress", "off", cwd=workspace)
    assert result.returncode == 2
    assert result.stderr.startswith("error: --workers must be auto or a number >= 1")
