"""Canonical JSON, hashes, and streams are equal in every process and on every machine."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathomlab.base.identity import canonical_json, content_hash, derive_seed, make_rng

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_canonical_json_returns_unique_text() -> None:
    """Sorted keys, no spaces, shortest floats, ASCII."""
    value = {"b": [1, 2.5, 1e-3, True, None], "a": {"z": "\N{LATIN SMALL LETTER U WITH DIAERESIS}", "y": -0.0}}
    assert canonical_json(value) == '{"a":{"y":-0.0,"z":"\\u00fc"},"b":[1,2.5,0.001,true,null]}'


@settings(deadline=None)
@given(PLAIN)
def test_canonical_json_round_trips(value: object) -> None:
    import json

    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text
    assert text.isascii()


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_canonical_json_rejects_nan_and_infinity(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": [1.0, {"b": number}]})


@pytest.mark.parametrize("value", [{1, 2}, object(), b"x", 1j])
def test_canonical_json_rejects_non_plain_values(value: object) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        canonical_json({"a": value})


def test_content_hash_equals_pinned_values() -> None:
    """The order of keys does not matter. The order of lists and the type of numbers do."""
    assert content_hash({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert content_hash({"a": 1, "b": [1, 2]}) == content_hash({"b": [1, 2], "a": 1})
    different = [{"a": 1}, {"a": 1.0}, {"a": True}, {"a": "1"}, {"a": [1]}, {"a": None}, {"b": 1}]
    assert len({content_hash(value) for value in different}) == len(different)


def test_derive_seed_equals_pinned_value() -> None:
    """The first eight bytes of SHA-256 of the canonical list."""
    import hashlib

    digest = hashlib.sha256(b'[42,"order",3]').digest()
    assert derive_seed(42, "order", 3) == int.from_bytes(digest[:8], "big") == 10068695786079465888


def test_derive_seed_equals_in_every_process() -> None:
    """`PYTHONHASHSEED` differs between processes; seeds do not."""
    code = "from fathomlab.base.identity import *; print(derive_seed(7, 'split', 'a', 1), content_hash({'a': 'b'}))"
    expected = f"{derive_seed(7, 'split', 'a', 1)} {content_hash({'a': 'b'})}\n"
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        result = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert result.stdout == expected


def test_derive_seed_depends_on_every_key() -> None:
    """Seed, purpose, keys, and their grouping all matter."""
    calls = [(1, "a"), (2, "a"), (1, "b"), (1, "a", 0), (1, "a", 1), (1, "a", "1"), (1, "a", 1, 2), (1, "a", 12)]
    assert len({derive_seed(*call) for call in calls}) == len(calls)  # type: ignore[arg-type]
    draws = np.stack([make_rng(seed, "initial", "w").standard_normal(4000) for seed in range(6)])
    assert abs(np.corrcoef(draws) - np.eye(6)).max() < 5 / np.sqrt(4000)


def test_make_rng_returns_new_generator() -> None:
    first = make_rng(3, "x")
    first.random(100)
    assert make_rng(3, "x").random() == make_rng(3, "x").random()
