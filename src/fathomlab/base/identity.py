"""Canonical JSON, content hashes, and one random stream for each (seed, purpose)."""

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def canonical_json(value: Any) -> str:
    """The one spelling of a plain value: sorted keys, no blanks, shortest floats, ASCII.

    Raises:
        ValueError: A number is NaN or infinite, or the value is not plain (dict, list, str, int, float, bool, None).
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def content_hash(value: Any) -> str:
    """SHA-256 over the canonical JSON of `value`, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def stream_seed(seed: int, purpose: str, *keys: int | str) -> int:
    """A 64-bit number that depends on (seed, purpose, keys) alone.

    Conditions of one seed share their streams because nothing else enters; no stream depends on how many numbers another
    has drawn. SHA-256 rather than `hash()`, which differs between processes.
    """
    digest = hashlib.sha256(canonical_json([seed, purpose, *keys]).encode()).digest()
    return int.from_bytes(digest[:8], "big")


def stream(seed: int, purpose: str, *keys: int | str) -> "np.random.Generator":
    """A generator of its own for (seed, purpose, keys); Philox, so that streams are independent by construction."""
    import numpy as np  # planning needs hashes and no generators

    return np.random.Generator(np.random.Philox(key=stream_seed(seed, purpose, *keys)))
