"""JSON of typed values: round trips, strictness, and unknown keys."""

import json
from dataclasses import dataclass
from typing import Literal

import pytest

from fathomlab.base.codec import error_location, from_json, from_plain, to_plain


@dataclass(frozen=True)
class Started:
    trials: tuple[str, ...]
    epochs: int
    event: Literal["started"] = "started"


@dataclass(frozen=True)
class Saved:
    seconds: float
    factors: dict[str, int | float | str | bool | None]
    event: Literal["saved"] = "saved"


def test_codec_round_trips_dataclasses():
    for value in (Started(("a", "b"), 3), Saved(1.5, {"x": True, "y": None, "z": 2, "w": 0.1})):
        assert from_json(type(value), json.dumps(to_plain(value))) == value
        assert from_plain(type(value), to_plain(value)) == value
    assert to_plain(Started(("a",), 3)) == {"trials": ["a"], "epochs": 3, "event": "started"}


def test_codec_round_trips_unions_by_tag():
    value = from_json(Started | Saved, '{"event": "saved", "seconds": 2, "factors": {}}')  # type: ignore[arg-type]
    assert value == Saved(2.0, {})
    assert isinstance(value.seconds, float)


@pytest.mark.parametrize("text", ["", "[]", '{"trials": [1], "epochs": 1}', '{"trials": [], "epochs": "3"}', "{}"])
def test_from_json_raises_value_error(text: str):
    with pytest.raises(ValueError, match="validation error"):
        from_json(Started, text)


def test_error_location_returns_first_invalid_path():
    with pytest.raises(ValueError, match="validation error") as caught:
        from_json(Saved, '{"seconds": 1, "factors": {"x": []}}')
    assert error_location(caught.value).startswith("factors.x")
    assert error_location(ValueError("x")) == ""


def test_from_json_ignores_unknown_keys():
    assert from_json(Started, '{"trials": [], "epochs": 1, "added_later": 1}') == Started((), 1)


def test_codec_keeps_bits_of_floats():
    value = Saved(0.1 + 0.2, {"x": 1e-323, "y": -0.0})
    again = from_json(Saved, json.dumps(to_plain(value)))
    assert again.seconds == value.seconds
    assert str(again.factors["y"]) == "-0.0"
    assert again.factors["x"] == 1e-323
