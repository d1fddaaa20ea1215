"""Nothing needs what only POSIX systems have; a child process runs without it."""

import json
from pathlib import Path

from tests.helpers.commands import EXPERIMENT, TRIALS, run_python

WITHOUT = """
import os, signal, subprocess, sys
for name in ("fcntl", "pwd", "grp", "resource", "termios", "pty", "tty", "readline"):
    sys.modules[name] = None
for name in ("sched_getaffinity", "sysconf", "pread", "pwrite", "fork", "forkpty", "O_DIRECTORY",
             "O_CLOEXEC", "killpg", "getpgid", "setsid", "mkfifo", "chown", "fchmod", "posix_fallocate"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGPIPE", "SIGALRM", "pthread_sigmask", "siginterrupt"):
    if hasattr(signal, name):
        delattr(signal, name)
"""
EVERYTHING = """
import importlib, json, pkgutil, fathomlab
names = [m.name for m in pkgutil.walk_packages(fathomlab.__path__, "fathomlab.") if not m.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
from fathomlab.cli import main
from fathomlab.store import lock
lock._lock = lambda descriptor, shared: None  # the lock of Windows is not available here
trained = fathomlab.run("tiny.yaml", runs="runs", progress="plain", workers=1).summary.trained
cached = fathomlab.run("tiny.yaml", runs="runs", progress="off", workers=1).summary.cached
print(json.dumps([len(names) > 100, trained, cached]))
main(["store", "check", "--runs", "runs", "--json"])
"""
STOP = """
import fathomlab
from fathomlab.execute.experiment import RunOptions, run_experiment
from fathomlab.execute.signals import RunInterrupted, StopRequest
from pathlib import Path
stop, plan = StopRequest(), fathomlab.load("tiny.yaml", ["run.pack=2", "training.epochs=100000"])
seen = set()
def watch(event):
    if event.event == "epoch":
        seen.add(event.trial)
        if len(seen) == 4 and stop.signum is None:  # a second request would end the process
            stop.handle(15)
try:
    run_experiment(plan, Path("runs"), RunOptions("cpu", 2), watch, stop)
except RunInterrupted as stopped:
    print(stopped.signum, len(list(Path("runs/trials").glob("*/state-*"))) > 0)
"""


def test_commands_need_no_posix_calls(tmp_path: Path):
    """Every module is imported; an experiment is trained, reported, cached, and checked."""
    (tmp_path / "tiny.yaml").write_text(EXPERIMENT)
    result = run_python("-c", WITHOUT + EVERYTHING, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    first, _, rest = result.stdout.partition("\n")
    assert json.loads(first) == [True, TRIALS, TRIALS]
    assert json.loads(rest)["faults"] == []


def test_workers_stop_without_signals(tmp_path: Path):
    """The request reaches a training worker through its standard input."""
    (tmp_path / "tiny.yaml").write_text(EXPERIMENT)
    without = WITHOUT.replace('"SIGKILL", ', "").replace(
        '"fcntl", ', ""
    )  # on this system, subprocess itself needs them
    result = run_python("-c", without + STOP, cwd=tmp_path)
    assert result.stdout.split() == ["15", "True"], result.stderr
