"""Where a trial's numbers come from: versions, hardware, commit."""

import contextlib
import os
import platform
import subprocess
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import Any


def machine() -> dict[str, Any]:
    """What is true of every trial that this process trains."""
    return {"versions": versions(), "hardware": hardware(), "git": commit()}


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of what computes."""
    found = {"python": platform.python_version()}
    for name in ("fathomlab", "torch", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


@lru_cache(maxsize=1)
def hardware() -> dict[str, Any]:
    """The processor's name and the cores that this process may use."""
    cpu = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        cpu = names[0] if names else cpu
    except OSError:
        pass
    return {"cpu": cpu, "cores": cores(), "gpu": None}


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=1)
def memory() -> int:
    """Bytes that this process may fill: the machine's memory, or less where a control group says so."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 8 * 2**30
    limits = [pages]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            limits.append(int(file.read()))
    return min(limits)


def likely_device(name: str) -> str:
    """The device that `--device` will mean, as far as can be told without loading torch: cpu or cuda."""
    if name != "auto":
        return name
    built = not versions()["torch"].endswith("+cpu")
    return "cuda" if built and os.path.exists("/dev/nvidiactl") else "cpu"


@lru_cache(maxsize=1)
def commit() -> dict[str, Any]:
    """fathomlab's own commit, whether files differ from it, and the SHA-256 of the patch between them.

    Nulls where it does not run from a repository.
    """
    head, text = _git("rev-parse", "HEAD"), patch()
    return {"commit": head or None, "dirty": bool(text), "patch": sha256(text.encode()).hexdigest() if text else None}


@lru_cache(maxsize=1)
def patch() -> str:
    """What differs from fathomlab's own commit in files that it knows; empty where nothing does."""
    return _git("diff", "HEAD")


def _git(*words: str) -> str:
    here = os.path.dirname(os.path.abspath(__file__))
    try:
        done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
