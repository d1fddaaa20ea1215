"""The files of leases, and who wrote them."""

import contextlib
import errno
import json
import os
import platform
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from fathomlab.base.codec import JsonObject
from fathomlab.base.output import escape_control_chars

FOLDER = "leases"
PACKS = "packs"
NAME = re.compile(r"[0-9a-f]{32}")
LENGTH = 512  # bytes of a lease, always the same, because it is rewritten in place
MAX_LENGTH = 4096  # that are read
LONGEST_NAME = 80
LONGEST_PAUSE = 120.0  # between two writes of a lease that a reader takes for alive (s)


@dataclass(frozen=True)
class Owner:
    """Who trains. A process is identified by boot, PID namespace, PID, and start time; unknown parts are empty."""

    host: str
    boot: str
    pid: int
    start: str
    node: str = ""
    counter: int = 0

    def encode(self) -> bytes:
        """The content of the lease."""
        return json.dumps(asdict(self), ensure_ascii=False).encode(errors="replace").ljust(LENGTH - 1) + b"\n"


def lease_path(root: Path, lease: str) -> Path:
    """The file of a lease. A claim that was cut off before it named one is its own lease."""
    return root / FOLDER / lease if "/" in lease else root / FOLDER / PACKS / f"{lease}.json"


def read_lease(root: Path, lease: str) -> str | None:
    """The content of a lease; None if it was released.

    Raises:
        OSError: If it cannot be read.
    """
    try:
        return read_text(lease_path(root, lease))
    except FileNotFoundError:
        return None


def read_text(path: Path) -> str:
    """The beginning of a file; `""` for links and pipes, which are in no store that fathomlab has written.

    Raises:
        OSError: If it cannot be read.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a socket
            return ""
        raise
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return os.read(descriptor, MAX_LENGTH).decode(errors="replace") if regular else ""
    finally:
        os.close(descriptor)


def refuse_links(root: Path, trials: tuple[str, ...] = ()) -> None:
    """Check that no directory of leases is a link: files are removed there.

    Raises:
        OSError: If one is.
    """
    folder = root / FOLDER
    for path in (folder, folder / PACKS, *(folder / trial for trial in trials)):
        if path.is_symlink():
            raise OSError(errno.ELOOP, "is a symbolic link, which could lead out of the store", str(path))


def live_leases(root: Path) -> Iterator[tuple[str, str]]:
    """Name and content of the leases whose owners are not known to be dead."""
    with contextlib.suppress(OSError):
        refuse_links(root)
        for path in (root / FOLDER / PACKS).glob("*.json"):
            with contextlib.suppress(OSError):  # it may be released in this moment
                content = read_text(path) if NAME.fullmatch(path.stem) else ""
                if content and not is_dead(content):
                    yield path.stem, content


def has_leases(root: Path) -> bool:
    """Whether a process that is not known to be dead has a lease in this store."""
    return any(live_leases(root))


def is_training(root: Path) -> bool:
    """Whether processes with leases seem to train now. For people: it compares the clocks of this host and the file server."""
    with contextlib.suppress(OSError):
        for lease, _ in live_leases(root):
            if time.time() - lease_path(root, lease).stat().st_mtime < LONGEST_PAUSE:
                return True
    return False


def active_holder(root: Path, seconds: float) -> str:
    """Watch all leases until one is renewed, or for this time: the holder of that one in words; `""` without any."""
    before, end = dict(live_leases(root)), time.monotonic() + seconds
    while before and time.monotonic() < end:
        time.sleep(min(0.5, seconds))
        now = dict(live_leases(root))
        for lease, content in now.items():
            if before.get(lease) != content:
                return describe(content)
        before = now
    return ""


def is_dead(content: str) -> bool:
    """Whether the owner of a lease is known to be dead: a process of this boot and PID namespace that does not exist."""
    owner, boot = _parse(content), this_process().boot
    pid = owner.get("pid")
    if not boot or owner.get("boot") != boot or not isinstance(pid, int) or not 0 < pid < 2**31:
        return False
    start = _start(pid)
    return not _exists(pid) if start is None else start != owner.get("start")


def describe(content: str) -> str:
    """The owner of a lease in words."""
    owner = _parse(content)
    name = escape_control_chars(str(owner.get("node") or owner.get("host") or "another host")[:LONGEST_NAME])
    pid = owner.get("pid")
    return f"process {pid} on {name}" if isinstance(pid, int) else "another process that has just started"


def _parse(content: str) -> JsonObject:
    with contextlib.suppress(ValueError, RecursionError):
        owner = json.loads(content)
        if isinstance(owner, dict):
            return cast(JsonObject, owner)
    return {}


def this_process() -> Owner:
    """This process as an owner. Containers of one machine share a boot; their PID namespaces differ."""
    boot = ""
    with contextlib.suppress(OSError):
        identifier = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        boot = f"{identifier} {os.readlink('/proc/self/ns/pid')}"
    return Owner(platform.node()[:LONGEST_NAME], boot, os.getpid(), _start(os.getpid()) or "")


def _start(pid: int) -> str | None:
    """When a process started, in ticks since boot; `""` if it has ended, None if it does not exist or belongs to another user."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def _exists(pid: int) -> bool:
    """Whether a process exists that may be hidden in `/proc`."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
