"""Atomic file writes. All files of a store are written this way."""

import contextlib
import errno
import os
import threading
import time
import uuid
from collections.abc import Callable, Generator
from pathlib import Path
from typing import BinaryIO

REPLACE_ATTEMPTS = 20
REPLACE_PAUSE = 0.05
PROCESS = uuid.uuid4().hex[:8]  # processes on two hosts, or in two containers, can have the same ID
UNSUPPORTED = frozenset(
    {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
)  # of calls that a mounted drive lacks


def shown_path(path: str | os.PathLike[str]) -> str:
    """A path as messages write it: relative to the working directory if it is inside, otherwise as it is."""
    path = Path(path)
    try:
        folder = Path.cwd()
    except FileNotFoundError:  # it was deleted
        return str(path)
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)


def is_special(path: Path) -> bool:
    """Whether a path is a link, or something that reading would wait for, such as a pipe. None of them is in a store."""
    return path.is_symlink() or (path.exists() and not (path.is_file() or path.is_dir()))


@contextlib.contextmanager
def if_supported() -> Generator[None]:
    """Ignore that a file system lacks a call, as mounted drives do. Errors of calls that it has are raised."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise


def fsync(descriptor: int) -> None:
    """Make a file durable, if the file system can."""
    with if_supported():
        os.fsync(descriptor)


def fsync_dir(folder: Path) -> None:
    """Make a rename inside `folder` durable. Windows does this without a call, and cannot open directories."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with if_supported():
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def temporary_path(path: Path) -> Path:
    """A name next to `path` that only this thread of this process uses. It ends with the process ID."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    thread = "" if in_main_thread else f"{threading.get_native_id()}."  # two threads may write the same file
    return path.with_name(f".{path.name}.{PROCESS}.{thread}{os.getpid()}.tmp")


def nothing() -> None:
    """Do nothing."""


def atomic_write(path: Path, data: bytes | str, check: Callable[[], None] = nothing) -> None:
    """Replace the content of `path` by `data`. Readers see the old or the new file, even if the writer is killed.

    Args:
        path: The file.
        data: Its new content.
        check: As for `atomic_file`.

    Raises:
        OSError: If the disk is full, or the directory is missing or read-only. The temporary file is removed.
    """
    with atomic_file(path, check) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def atomic_file(path: Path, check: Callable[[], None] = nothing) -> Generator[BinaryIO]:
    """Open a file that replaces `path` when the block ends without an error.

    Writes a temporary file in the same directory, then calls fsync, rename, and fsync of the directory.

    Args:
        path: The file.
        check: Called when only the rename is left; what it raises prevents that.

    Raises:
        OSError: As `atomic_write`.
    """
    temporary = temporary_path(path)
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            fsync(file.fileno())
        check()
        _replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    fsync_dir(path.parent)


def _replace(source: Path, target: Path) -> None:
    """Rename `source` to `target`. On Windows, wait while another process has `target` open."""
    for _ in range(REPLACE_ATTEMPTS if os.name == "nt" else 0):
        with contextlib.suppress(PermissionError):
            os.replace(source, target)
            return
        time.sleep(REPLACE_PAUSE)
    os.replace(source, target)
