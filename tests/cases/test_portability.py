"""No import and no run needs what only POSIX systems have; a child process goes without it."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

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


def child(code: str, shell: SimpleNamespace, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Run code in a process without POSIX."""
    import os

    environment = os.environ | {"PYTHONPATH": shell.source}
    return subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT + code],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_every_module_is_imported_without_posix(tmp_path: Path, shell: SimpleNamespace):
    """Each of the package, torch's part included."""
    code = """
import importlib, pkgutil, fathomlab
names = [m.name for m in pkgutil.walk_packages(fathomlab.__path__, "fathomlab.") if not m.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""
    done = child(code, shell, tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_a_trial_is_trained_and_its_store_held_without_posix(tmp_path: Path, shell: SimpleNamespace):
    """Training in this process, the page, a second run from the store, and the store's maintenance."""
    (tmp_path / "tiny.yaml").write_text(shell.text)
    code = """
import fathomlab, json
from fathomlab.cli import main
from fathomlab.store import lock
lock._lock = lambda descriptor, shared: None  # Windows has its own, which is not here
one = fathomlab.run("tiny.yaml", runs="runs", progress="plain", workers=1).summary
two = fathomlab.run("tiny.yaml", runs="runs", progress="off", workers=1).summary
print(json.dumps([one.trained, two.cached]))
main(["store", "check", "--runs", "runs", "--json"])
"""
    done = child(code, shell, tmp_path)
    assert done.returncode == 0, done.stderr
    first, _, rest = done.stdout.partition("\n")
    assert json.loads(first) == [4, 4]
    assert json.loads(rest)["faults"] == []


def test_workers_stop_by_a_message(tmp_path: Path, shell: SimpleNamespace):
    """A stop request reaches a training worker through its standard input, as signals do not exist everywhere."""
    (tmp_path / "long.yaml").write_text(shell.text.replace("epochs: 1", "epochs: 100000"))
    code = """
import fathomlab, threading
from fathomlab.execute.experiment import RunOptions, run_experiment
from fathomlab.execute.signals import RunInterrupted, StopRequest
from pathlib import Path
stop, plan = StopRequest(), fathomlab.load("long.yaml", ["run.pack=1"])
seen = set()
def watch(event):
    if event.event == "epoch":
        seen.add(event.trial)
        if len(seen) == 2 and stop.signum is None:  # a second request ends the process
            stop.handle(15)
try:
    run_experiment(plan, Path("runs"), RunOptions("cpu", 2), watch, stop)
except RunInterrupted as stopped:
    print(stopped.signum, len(list(Path("runs/trials").glob("*/state-*"))) > 0)
"""
    environment_code = WITHOUT.replace('"SIGKILL", ', "")  # only here, subprocess itself kills with it
    import os

    done = subprocess.run(
        [sys.executable, "-P", "-c", environment_code.replace('"fcntl", ', "") + code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": shell.source},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.split() == ["15", "True"], done.stderr
