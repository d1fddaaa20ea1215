"""Starts worker processes. Imports little, so that `fathomlab run` starts some before it plans: they import torch meanwhile."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from fathomlab.base.processor import cores

Process: TypeAlias = "subprocess.Popen[bytes]"

PACKAGE = Path(__file__).parents[1]
# Workers find the same fathomlab as this process, after everything else, so that no neighbor of it shadows another module.
START = "import sys; sys.path.append(sys.argv[1]); from fathomlab.execute.worker import main; main()"
MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(2**32),  # freed memory stays with the worker: handing it back and forth costs time
    "MALLOC_MMAP_THRESHOLD_": str(2**26),  # but larger blocks go back: they would not fit into the holes of others
    "THP_MEM_ALLOC_ENABLE": "1",  # torch asks for large pages for tensors of 2 MiB and more
}
SETTINGS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **MEMORY, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
MOST_EARLY = 4  # more would load the disk of a large machine for runs that turn out to need none


@dataclass(frozen=True)
class _Started:
    """A worker, and the socket over which it receives the lock of the store, on POSIX."""

    process: Process
    channel: socket.socket | None


_early: list[_Started] = []


@contextlib.contextmanager
def early_workers(requested: str, executor: str | None) -> Iterator[None]:
    """Start workers now that `take_worker` returns inside this context. Those that nobody takes are killed at its end.

    One core is left for this process. None is started for `--workers 1`, which trains in this process, for executors that
    start workers elsewhere, or if this process has torch loaded, so that it can train at once.

    Args:
        requested: The value of `--workers`, checked or not.
        executor: The value of `--executor`, checked or not.
    """
    limit = int(requested) if requested.isdecimal() else MOST_EARLY
    elsewhere = executor not in (None, "auto", "local") or (executor != "local" and bool(os.environ.get("RAY_ADDRESS")))
    number = 0 if limit == 1 or elsewhere or "torch" in sys.modules else min(limit, MOST_EARLY, cores() - 1)
    try:
        with contextlib.suppress(OSError):  # it is raised again when a worker is needed
            for _ in range(number):
                _early.append(_start(START))
        yield
    finally:
        end_early_workers()


def has_early_workers() -> bool:
    """Whether a worker was started early."""
    return bool(_early)


def end_early_workers() -> None:
    """Kill the workers that nobody has taken. They have no job."""
    while _early:
        started = _early.pop()
        started.process.kill()
        started.process.communicate()
        if started.channel is not None:
            started.channel.close()


def take_worker(code: str, lock: int | None) -> Process:
    """A worker that was started early, or a new one. Its standard input takes jobs.

    Args:
        code: What Python runs, as in `START`.
        lock: Descriptor of the store's lock, which the worker holds, too, from now on; None without one.
    """
    started = _early.pop() if _early else _start(code)
    if started.channel is not None:
        with started.channel as channel, contextlib.suppress(OSError):  # its end is reported as that of any worker
            if lock is None:
                channel.send(b"\n")
            else:
                socket.send_fds(channel, [b"\n"], [lock])
    return started.process


def receive_lock() -> None:
    """In a worker: wait for what `take_worker` sends. The lock of the store is held until the process ends."""
    for descriptor in sys.argv[2:]:
        with socket.socket(fileno=int(descriptor)) as channel:
            _, locks, _, _ = socket.recv_fds(channel, 1, 1)
        for lock in locks:
            os.set_inheritable(lock, False)


def _start(code: str) -> _Started:
    """Start a worker.

    The lock of the store follows later, because a worker that was started early was there before it. The working directory is not
    on the module search path: a file `statistics.py` there must not replace a module of Python.
    """
    ours, theirs = _channel()
    descriptors = [] if theirs is None else [theirs]
    pipe = subprocess.PIPE
    process: Process = subprocess.Popen(
        [sys.executable, "-P", "-c", code, str(PACKAGE.parent), *map(str, descriptors)],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        env=_environment(),
        cwd=working_directory(),
        pass_fds=descriptors,
    )
    if theirs is not None:
        os.close(theirs)
    return _Started(process, ours)


def _channel() -> tuple[socket.socket | None, int | None]:
    """Two connected sockets on POSIX: ours, and the descriptor of the worker's.

    The latter is not 0, 1, or 2, which are free if this process has closed streams, but are streams of the worker.
    """
    if os.name != "posix":
        return None, None
    import fcntl

    ours, theirs = socket.socketpair()
    with theirs:
        return ours, fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, 3)


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
