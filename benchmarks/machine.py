"""Where and on what a part was measured: a result without it is not quoted."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any

from fathomlab.base.codec import to_plain
from fathomlab.prepare.machine import commit, hardware

PACKAGES = ("fathomlab", "torch", "numpy", "lightning", "jax")
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "LD_PRELOAD")
TICKS = Path("/proc/stat")
STOLEN = 7


@contextmanager
def recorded() -> Iterator[dict[str, Any]]:
    """Hardware, versions and commit; load and stolen time are filled in at the end."""
    about: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        **to_plain(hardware()),
        "versions": {"python": python_version(), **versions()},
        **to_plain(commit()),
        "threads": "one a process unless a layout says otherwise",
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "load": os.getloadavg(),
    }
    before = _ticks()
    yield about
    about["load_after"] = os.getloadavg()
    about["steal"] = steal(before, _ticks())


def versions() -> dict[str, str]:
    """Of what computes and is installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def steal(before: list[int], after: list[int]) -> float | None:
    """Share of the processors' time that another guest had; None where it is not counted."""
    spent = [b - a for a, b in zip(before, after, strict=True)][: STOLEN + 1]
    return spent[STOLEN] / sum(spent) if len(spent) > STOLEN and sum(spent) else None


def told(about: Mapping[str, Any]) -> str:
    """One line for people."""
    numbers = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    line = f"Measured on {about['date']}: {about['cpu']}, {about['cores']} cores; {numbers}"
    if about.get("commit"):
        line += f"; commit {about['commit'][:12]}{' with changes' if about.get('dirty') else ''}"
    loads = [
        f"{about[name][0]:.2f} {when}" for name, when in (("load", "before"), ("load_after", "after")) if name in about
    ]
    line += f"; load average {', '.join(loads)}"
    if about.get("steal") is not None:
        line += f"; stolen time {100 * about['steal']:.1f}%"
    return f"{line}."


def _ticks() -> list[int]:
    """Ticks of all processors by kind since the start of the machine; empty where the system does not tell."""
    try:
        return [int(word) for word in TICKS.read_text().splitlines()[0].split()[1:]]
    except (OSError, IndexError, ValueError):
        return []
