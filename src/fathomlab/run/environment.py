"""What must agree for a trial to go on with the bits of an uninterrupted run. No torch."""

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from fathomlab.run import provenance

NUMERIC = ("base", "data", "models", "losses", "engine")


def environment(device: str, gpu: str | None = None) -> dict[str, Any]:
    """Machine type, torch build, threads, device and the code that computes.

    Args:
        device: cpu or cuda.
        gpu: Its name, on cuda.
    """
    return {
        "torch": provenance.versions()["torch"],
        "processor": provenance.hardware()["cpu"],
        "device": device,
        "gpu": gpu,
        "threads": 1,
        "code": code_digest(),
    }


@lru_cache(maxsize=1)
def code_digest() -> str:
    """SHA-256 over the source of everything that computes a number of a trial."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for folder in NUMERIC:
        for path in sorted((root / folder).glob("*.py")):
            digest.update(f"{folder}/{path.name}".encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def drift(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two environments, one phrase each; nothing where the bits will be the same."""
    words = {"code": "fathomlab's own code", "processor": "the processor", "gpu": "the GPU"}
    found = []
    for key in now:
        if then.get(key) != now[key]:
            known = "" if key == "code" else f" ({then.get(key)} then, {now[key]} now)"
            found.append(f"{words.get(key, key)}{known}")
    return found
