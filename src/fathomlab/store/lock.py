"""One process trains into a store at a time. The lock is the kernel's, so the death of its holder frees it at once."""

import contextlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fathomlab.base.problems import UserError

REMOTE = ("nfs", "cifs", "smb", "fuse.sshfs", "9p", "lustre", "gpfs", "afs", "ceph", "glusterfs")
PAUSE = 0.1
GRACE = 0.3


@contextlib.contextmanager
def locked(root: Path, wait: bool, say: Callable[[str], None]) -> Iterator[int | None]:
    """Hold the store for training; yields the lock's descriptor, or None where the file system has no locks.

    Workers inherit the descriptor, so that the store is free only when all of them have ended.

    Args:
        root: The store.
        wait: Wait for another holder instead of refusing.
        say: Takes one line for the user.

    Raises:
        UserError: Another process trains into this store, and `wait` is off.
    """
    if remote := remote_kind(root):
        say(
            f"{root} is on a network file system ({remote}): run one fathomlab at a time there, its locks may not hold."
        )
    descriptor = os.open(root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if not _taken(root, descriptor, wait, say):
            yield None
            return
        about = {"pid": os.getpid(), "host": platform.node(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(about).encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)


def _taken(root: Path, descriptor: int, wait: bool, say: Callable[[str], None]) -> bool:
    try:
        import fcntl
    except ImportError:
        say(f"{root}: this system has no file locks; run one fathomlab at a time.")
        return False
    told, refuse_at = (
        False,
        time.monotonic() + GRACE,
    )  # a reader that asks whether the store is busy holds it for an instant
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            holder = _holder(descriptor)
            if not wait and time.monotonic() > refuse_at:
                raise UserError(
                    "store-in-use",
                    f"{root}: another fathomlab trains into this store ({holder}). Wait for it with --wait, or choose "
                    "another folder with --runs.",
                ) from None
            if wait and not told:
                say(f"{root}: waiting for another fathomlab ({holder}).")
                told = True
            time.sleep(PAUSE)
        except OSError as error:
            say(f"{root}: no locks there ({error.strerror}); run one fathomlab at a time.")
            return False


def _holder(descriptor: int) -> str:
    try:
        about: Any = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {about['pid']} on {about['host']} since {about['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it has just begun"


def busy(root: Path) -> bool:
    """Whether some process trains into this store now."""
    try:
        import fcntl

        descriptor = os.open(root / ".lock", os.O_RDWR | os.O_CLOEXEC)
    except (ImportError, OSError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def remote_kind(root: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The kind of network file system that a folder is on; "" where it is on none, or nobody knows."""
    place, best, kind = os.path.realpath(root), -1, ""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        words, _, rest = line.partition(" - ")
        fields, kinds = words.split(), rest.split()
        if len(fields) < 5 or not kinds:
            continue
        point = fields[4].replace("\\040", " ")
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:
            best, kind = len(point), kinds[0]
    return kind if kind.startswith(REMOTE) else ""
