"""Canonical JSON, content hashes, and one random stream per (seed, purpose)."""

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def canonical_json(value: Any) -> str:
    """Return the unique JSON text of a plain value: sorted keys, no spaces, shortest floats, ASCII.

    Raises:
        ValueError: If a number is NaN or infinite, or the value is not plain (dict, list, str, int, float, bool, None).
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def content_hash(value: Any) -> str:
    """Return the SHA-256 of the canonical JSON of `value`, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def derive_seed(seed: int, purpose: str, *keys: int | str) -> int:
    """Derive a 64-bit seed that depends only on (seed, purpose, keys).

    Conditions with the same seed share their streams, because nothing else is part of the key. No stream depends on the
    number of draws from another one. SHA-256 is used because `hash()` differs between processes.
    """
    digest = hashlib.sha256(canonical_json([seed, purpose, *keys]).encode()).digest()
    return int.from_bytes(digest[:8], "big")


def make_rng(seed: int, purpose: str, *keys: int | str) -> "np.random.Generator":
    """Create the generator of (seed, purpose, keys). Philox streams with different keys are independent."""
    import numpy as np  # planning needs hashes and no generators

    return np.random.Generator(np.random.Philox(key=derive_seed(seed, purpose, *keys)))
