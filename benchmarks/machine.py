"""The machine and the versions of a measurement, which are quoted with every result."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any

from fathomlab.base.codec import to_plain
from fathomlab.execute.worker_process import MEMORY
from fathomlab.prepare.machine import commit, hardware, instructions

PACKAGES = ("fathomlab", "torch", "numpy", "lightning", "jax")
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", *MEMORY, "LD_PRELOAD")
TICKS = Path("/proc/stat")
STOLEN = 7


@contextmanager
def recorded() -> Iterator[dict[str, Any]]:
    """Yield hardware, versions, and commit; load and stolen time are added at the end."""
    about: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        **to_plain(hardware()),
        "versions": {"python": python_version(), **versions()},
        **to_plain(commit()),
        "instructions": instructions(),
        "threads": "one per process unless a layout says otherwise",
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "load": os.getloadavg(),
    }
    before = _ticks()
    yield about
    about["load_after"] = os.getloadavg()
    about["steal"] = steal(before, _ticks())


def versions() -> dict[str, str]:
    """Versions of the installed packages that compute."""
    result = {}
    for name in PACKAGES:
        try:
            result[name] = version(name)
        except PackageNotFoundError:
            continue
    return result


def has_bf16() -> bool:
    """Whether the processor has instructions for bf16 products."""
    return "bf16" in instructions()


def steal(before: list[int], after: list[int]) -> float | None:
    """Share of the processors' time that another guest had; None if it is not counted."""
    spent = [b - a for a, b in zip(before, after, strict=True)][: STOLEN + 1]
    return spent[STOLEN] / sum(spent) if len(spent) > STOLEN and sum(spent) else None


def described(about: Mapping[str, Any]) -> str:
    """Return one line about a measurement."""
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
    """Ticks of all processors by kind since the start of the machine; empty if the system does not count them."""
    try:
        return [int(word) for word in TICKS.read_text().splitlines()[0].split()[1:]]
    except (OSError, IndexError, ValueError):
        return []
