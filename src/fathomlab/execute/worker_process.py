"""Starts worker processes. Imports little, so that `fathomlab run` starts some before it plans: they import torch meanwhile."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TypeAlias, cast

from fathomlab.base.processor import cores

Process: TypeAlias = "subprocess.Popen[bytes]"

PACKAGE = Path(__file__).parents[1]
# Workers find the same fathomlab as this process, after everything else, so that no neighbor of it shadows another module.
START = "import sys; sys.path.append(sys.argv[1]); from fathomlab.execute.worker import main; main()"
SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": str(2**32),  # freed memory stays with the worker: handing it back and forth costs time
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}
MOST_EARLY = 4  # more would load the disk of a large machine for runs that turn out to need none

_early: list[Process] = []


@contextlib.contextmanager
def early_workers(requested: str) -> Iterator[None]:
    """Start workers now that `take_worker` returns inside this context. Those that nobody takes are killed at its end.

    One core is left for this process. If it has torch loaded, it can train as soon as a worker, so none is started.

    Args:
        requested: The value of `--workers`, checked or not.
    """
    limit = int(requested) if requested.isdigit() else MOST_EARLY
    number = 0 if "torch" in sys.modules else min(limit, MOST_EARLY, cores() - 1)
    try:
        with contextlib.suppress(OSError):  # it is reported when a worker is needed
            for _ in range(number):
                _early.append(start_worker(START))
        yield
    finally:
        end_early_workers()


def has_early_workers() -> bool:
    """Whether a worker has been started early."""
    return bool(_early)


def end_early_workers() -> None:
    """Kill the workers that nobody has taken. They have no job."""
    while _early:
        process = _early.pop()
        process.kill()
        process.communicate()


def take_worker(code: str, lock: int | None) -> Process:
    """A worker that was started early, or a new one.

    Args:
        code: What Python runs, as in `START`.
        lock: Descriptor of the store's lock, which the worker holds, too, from now on; None without one.

    Returns:
        The process. Its standard input takes jobs.
    """
    process = _early.pop() if _early else start_worker(code)
    if os.name == "posix":
        pipe = cast(IO[bytes], process.stdin)
        # If the worker has died already, this is noticed when its end is reported.
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(pipe.fileno())) as channel:
            if lock is None:
                channel.send(b"\n")
            else:
                socket.send_fds(channel, [b"\n"], [lock])
    return process


def receive_lock(descriptor: int) -> None:
    """In a worker: wait for what `take_worker` sends over standard input, and hold the lock until the process ends."""
    with socket.socket(fileno=os.dup(descriptor)) as channel:
        _, locks, _, _ = socket.recv_fds(channel, 1, 1)
    for lock in locks:
        os.set_inheritable(lock, False)


def start_worker(code: str) -> Process:
    """Start a worker.

    On POSIX, its standard input is a socket, over which it receives the lock of the store: a worker that was started early was
    there before the lock. The working directory is not on its module search path: a file `statistics.py` there must not replace
    a module of Python.
    """
    ours, theirs = socket.socketpair() if os.name == "posix" else (None, None)
    pipe = subprocess.PIPE
    process: Process = subprocess.Popen(
        [sys.executable, "-P", "-c", code, str(PACKAGE.parent)],
        stdin=theirs.fileno() if theirs else pipe,
        stdout=pipe,
        stderr=pipe,
        env=_environment(),
        cwd=working_directory(),
    )
    if ours is not None and theirs is not None:
        process.stdin = ours.makefile("wb")
        ours.close()
        theirs.close()
    return process


def working_directory() -> Path:
    """The caller's, or the package's if the caller's has been deleted: the libraries of torch cannot be loaded there."""
    try:
        return Path.cwd()
    except OSError:
        return PACKAGE


def _environment() -> dict[str, str]:
    """The caller's environment without entries that put the working directory on the module search path."""
    environment = SETTINGS | dict(os.environ) | {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path not in ("", os.curdir)]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment
