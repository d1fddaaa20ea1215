"""What fathomlab runs on: Python, processor, memory, terminal, and environment variables."""

import os
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from fathomlab.api.doctor.checks import Check

SYSTEM = "System"
FEATURES = {"AVX2": r"avx2", "AVX-512": r"avx512f", "AMX": r"amx_tile", "bf16": r"avx512_bf16|amx_bf16|bf16|svebf16"}
QUOTAS = ("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
VARIABLES = ("FATHOMLAB_RUNS", "FATHOMLAB_DATA", "FATHOMLAB_OFFLINE")
OTHER_VARIABLES = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "PYTHONPATH", "CXX")
SECRET = re.compile(r"key|token|secret|password", re.IGNORECASE)
SMALL_MEMORY = 2e9  # one worker with torch needs about 0.5 GB


def software() -> Iterator[Check]:
    """Versions of fathomlab, Python, and the operating system."""
    from fathomlab import __version__
    from fathomlab.prepare.machine import commit

    source = commit()
    suffix = f", commit {source.commit[:12]}{' (modified)' if source.dirty else ''}" if source.commit else ""
    yield Check(SYSTEM, "fathomlab", f"{__version__}{suffix}, in {Path(__file__).parents[2]}")
    yield Check(SYSTEM, "Python", f"{platform.python_version()}, {sys.executable}")
    yield Check(SYSTEM, "platform", platform.platform())


def processor() -> Iterator[Check]:
    """Model, usable cores, and instruction sets."""
    from fathomlab.prepare.machine import cores, hardware, instructions

    yield Check(SYSTEM, "processor", f"{hardware().cpu or 'unknown'} ({platform.machine()})")
    usable, present, quota = cores(), os.cpu_count() or 1, cpu_quota()
    text = f"{usable} of {present} usable"
    if quota is not None and quota < usable:
        workers = max(1, int(quota))
        remedy = f"Use --workers {workers}: more workers than the quota has cores do not train faster."
        yield Check(SYSTEM, "cores", f"{text}, but a quota limits them to the time of {quota:g}", "note", remedy)
    else:
        yield Check(SYSTEM, "cores", text)
    flags = instructions().split()
    present_names = [
        name for name, flag in FEATURES.items() if any(re.fullmatch(f"({flag})", known) for known in flags)
    ]
    yield Check(SYSTEM, "features", ", ".join(present_names) or f"none of {', '.join(FEATURES)} reported")


def cpu_quota(files: tuple[str, ...] = QUOTAS) -> float | None:
    """Cores whose time the control group may use; None if it is not limited."""
    for name in files:
        try:
            words = Path(name).read_text(encoding="ascii").split()
            period = words[1] if len(words) > 1 else Path(name).with_name("cpu.cfs_period_us").read_text("ascii")
            if words[0] not in ("max", "-1"):
                return int(words[0]) / int(period)
        except (OSError, ValueError, IndexError, ZeroDivisionError):
            continue
    return None


def memory(meminfo: str = "/proc/meminfo") -> Iterator[Check]:
    """Memory that this process may use, and what is free now."""
    from fathomlab.prepare.machine import memory as usable

    total, available = usable(), None
    try:
        match = re.search(r"^MemAvailable:\s*(\d+) kB", Path(meminfo).read_text(encoding="ascii"), re.MULTILINE)
        available = min(total, 1024 * int(match[1])) if match else None
    except (OSError, ValueError):
        pass
    text = f"{total / 1e9:.1f} GB" + (f", {available / 1e9:.1f} GB available" if available is not None else "")
    small = (total if available is None else available) < SMALL_MEMORY
    remedy = "Close other programs, or use --workers 1." if small else ""
    yield Check(SYSTEM, "memory", text, "note" if small else "ok", remedy)


def terminal(encoding: str | None, is_terminal: bool) -> Iterator[Check]:
    """The encoding of standard output."""
    name = (encoding or "unknown").lower()
    text = f"{name}{'' if is_terminal else ', not a terminal'}"
    if name.replace("-", "") == "utf8":
        yield Check(SYSTEM, "output", text)
    else:
        remedy = "Set PYTHONUTF8=1 to see all characters. Others are replaced."
        yield Check(SYSTEM, "output", text, "note", remedy)


def variables() -> Iterator[Check]:
    """Environment variables that change what fathomlab does. Values that may be secret are not shown."""
    from fathomlab.base.errors import did_you_mean

    for name in sorted({*VARIABLES, *OTHER_VARIABLES, *(key for key in os.environ if key.startswith("FATHOMLAB_"))}):
        if name not in os.environ:
            continue
        value = "(set)" if SECRET.search(name) else os.environ[name] or '""'
        known = name in (*VARIABLES, *OTHER_VARIABLES)
        remedy = "" if known else f"fathomlab does not use this variable.{did_you_mean(name, VARIABLES)}"
        yield Check(SYSTEM, name, value, "ok" if known else "note", remedy)
