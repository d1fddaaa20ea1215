"""The files of leases, and who wrote them."""

import contextlib
import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from fathomlab.base.codec import JsonObject

FOLDER = "leases"
PACKS = "packs"
LENGTH = 512  # bytes of a lease, always the same, because it is rewritten in place
LONGEST_NAME = 80


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
        return json.dumps(asdict(self)).encode().ljust(LENGTH - 1) + b"\n"


def lease_path(root: Path, lease: str) -> Path:
    """The file of a lease. A claim that was cut off before it named one is its own lease."""
    return root / FOLDER / lease if "/" in lease else root / FOLDER / PACKS / f"{lease}.json"


def read_lease(root: Path, lease: str) -> str | None:
    """The content of a lease; None if it was released.

    Raises:
        OSError: If it cannot be read.
    """
    try:
        return lease_path(root, lease).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


def has_leases(root: Path) -> bool:
    """Whether a process that is not known to be dead has a lease in this store."""
    try:
        return any(not is_dead(path.read_text(errors="replace")) for path in (root / FOLDER / PACKS).glob("*.json"))
    except OSError:
        return False


def active_holder(root: Path, seconds: float) -> str:
    """Watch all leases for a while: the first holder that renews one, in words; `""` without any."""
    leases = {path.stem: path.read_text(errors="replace") for path in (root / FOLDER / PACKS).glob("*.json")}
    leases = {lease: content for lease, content in leases.items() if not is_dead(content)}
    end = time.monotonic() + seconds
    while leases and time.monotonic() < end:
        time.sleep(min(0.5, seconds))
        for lease, content in leases.items():
            if (now := read_lease(root, lease)) is not None and now != content:
                return describe(now)
    return ""


def is_dead(content: str) -> bool:
    """Whether the owner of a lease is known to be dead: a process of this boot and PID namespace that does not exist."""
    owner, boot = _parse(content), this_process().boot
    pid = owner.get("pid")
    return bool(boot) and owner.get("boot") == boot and isinstance(pid, int) and _start(pid) != owner.get("start")


def describe(content: str) -> str:
    """The owner of a lease in words."""
    owner = _parse(content)
    name = str(owner.get("node") or owner.get("host") or "another host")
    return f"process {owner['pid']} on {name}" if "pid" in owner else "another process that has just started"


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
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        boot += f" {os.readlink('/proc/self/ns/pid')}"
    return Owner(platform.node()[:LONGEST_NAME], boot, os.getpid(), _start(os.getpid()))


def _start(pid: int) -> str:
    """When a process started, in ticks since boot; `""` if it does not exist or has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]
