"""One process trains into a store at a time. The lock is the kernel's, so it is free as soon as its holder ends.

Where several hosts train into one store, each pack has a lease (`store.leases`), and their locks are shared.
"""

import contextlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fathomlab.base.errors import UserError

NETWORK_FS_TYPES = (
    "nfs",
    "cifs",
    "smb",
    "9p",
    "lustre",
    "gpfs",
    "afs",
    "beegfs",
    "ceph",
    "glusterfs",
    "drvfs",
    "virtiofs",
)
# FUSE serves network folders and mounted cloud drives, except for these, which are local.
LOCAL_FUSE_TYPES = (
    "fuse.fuse-overlayfs",
    "fuse.ntfs",
    "fuse.exfat",
    "fuse.ext4",
    "fuse.apfs",
    "fuse.gocryptfs",
    "fuse.bindfs",
)
CLOUD_DRIVES = ("fuse.drive", "fuse.drivefs", "fuse.google-drive-ocamlfuse")
POLL_SECONDS = 0.1
GRACE_SECONDS = 0.3
LOCKED_BYTE = 2**20  # on Windows


@contextlib.contextmanager
def store_lock(
    root: Path,
    wait: bool,
    say: Callable[[str], None],
    check: Callable[[], None] = lambda: None,
    shared: bool = False,
    remedy: str = "Use --wait, or another directory with --runs.",
) -> Generator[int | None]:
    """Hold the store for training; yields the lock's descriptor, or None if the file system has no locks.

    Workers inherit the descriptor, so that the store is free only when all of them have ended.

    Args:
        root: The store.
        wait: Wait for another holder instead of refusing.
        say: Takes one line for the user.
        check: Called while waiting; what it raises ends the wait.
        shared: Exclude only holders that do not share. Those that share exclude each other by leases.
        remedy: What the user can do if the store is in use.

    Raises:
        UserError: If another process trains into this store and `wait` is off.
    """
    if (fs_name := network_fs_type(root)).startswith(CLOUD_DRIVES):
        say(
            f"{root} is on a mounted cloud drive ({fs_name}), which may show other hosts late what this one writes. "
            "Run one fathomlab at a time there."
        )
    descriptor = os.open(root / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _acquire(root, descriptor, shared, wait, say, check, remedy):
            yield None
            return
        holder = {"pid": os.getpid(), "host": platform.node(), "since": datetime.now(UTC).isoformat(timespec="seconds")}
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, json.dumps(holder).encode())
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def file_lock(path: Path, check: Callable[[], None]) -> Generator[None]:
    """Hold a lock file, after waiting for another holder. Without locks of the file system, it does not wait.

    `check` is called while waiting; what it raises ends the wait.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while True:
            try:
                _lock(descriptor, shared=False)
                break
            except (BlockingIOError, PermissionError):
                check()
                time.sleep(POLL_SECONDS)
            except OSError:
                break
        yield
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):  # another process may hold it
            path.unlink()


def _acquire(
    root: Path,
    descriptor: int,
    shared: bool,
    wait: bool,
    say: Callable[[str], None],
    check: Callable[[], None],
    remedy: str,
) -> bool:
    refuse_at = time.monotonic() + GRACE_SECONDS  # a reader that asks for the status holds the lock briefly
    waiting = False
    if shared and sys.platform == "win32":  # it has no shared locks
        return True
    while True:
        try:
            _lock(descriptor, shared)
            return True
        except (BlockingIOError, PermissionError):
            check()
            holder = _holder(descriptor)
            if not wait and time.monotonic() > refuse_at:
                text = f"{root}: results directory is in use by {holder}. {remedy}"
                raise UserError("store-in-use", text) from None
            if wait and not waiting:
                say(f"{root}: waiting for {holder}.")
                waiting = True
            time.sleep(POLL_SECONDS)
        except OSError:  # this file system has no locks
            return False


def locks_hold(root: Path) -> bool:
    """Whether a lock of a store excludes every other process that may use it: not on network file systems, or without locks."""
    if network_fs_type(root):
        return False
    return _is_free(os.open(root / ".lock", os.O_RDWR | os.O_CREAT, 0o644)) is not None


def _is_free(descriptor: int) -> bool | None:
    """Whether nobody holds a lock exclusively; None if the file system has no locks. Closes the file."""
    try:
        _lock(descriptor, shared=True)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return True


def _lock(descriptor: int, shared: bool) -> None:
    """Lock without waiting.

    Raises:
        BlockingIOError: If another process holds the lock (PermissionError on Windows).
        OSError: If the file system has no locks.
    """
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)  # nobody else can read a locked byte, so one behind the text
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


def _holder(descriptor: int) -> str:
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        holder: Any = json.loads(os.read(descriptor, 4096))
        return f"process {holder['pid']} on {holder['host']} (since {holder['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process that has just started"


def is_locked(root: Path) -> bool:
    """Whether some process trains into this store now."""
    try:
        descriptor = os.open(root / ".lock", os.O_RDWR)
    except OSError:
        return False
    return _is_free(descriptor) is False


def lock_failure(directory: Path) -> str:
    """Try a lock in a directory: "" if it excludes another holder, or why it does not.

    Raises:
        OSError: If the directory cannot be written.
    """
    with tempfile.TemporaryDirectory(dir=directory, prefix=".lock-test-") as folder:
        first, second = (os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT) for _ in range(2))
        try:
            _lock(first, shared=False)
            _lock(second, shared=False)
        except (BlockingIOError, PermissionError):
            return ""
        except OSError as error:
            return f"no locks ({error.strerror or error})"
        finally:
            os.close(first)
            os.close(second)
    return "two holders at the same time"


def fs_type(root: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the file system that a directory is or would be on, such as ext4; "" if it is unknown."""
    path, longest, fs_name = os.path.realpath(root), -1, ""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        left, _, right = line.partition(" - ")
        fields, types = left.split(), right.split()
        if len(fields) < 5 or not types:
            continue
        mount_point = fields[4].replace("\\040", " ")
        inside = path == mount_point or path.startswith(mount_point.rstrip("/") + "/")
        if inside and len(mount_point) >= longest:
            longest, fs_name = len(mount_point), types[0]
    return fs_name


def network_fs_type(root: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of network file system that a directory is on, such as nfs4, or "fuse.drive, a mounted Google Drive".

    "" if it is on none or the type is unknown.
    """
    fs_name = fs_type(root, mounts)
    if fs_name in CLOUD_DRIVES:
        return f"{fs_name}, a mounted Google Drive"
    remote = fs_name.startswith(NETWORK_FS_TYPES) or fs_name.split(".")[0] == "fuse"
    return fs_name if remote and not fs_name.startswith(LOCAL_FUSE_TYPES) else ""
