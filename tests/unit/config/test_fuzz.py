"""Whatever stands in a file, a mapping or an override: it plans, or it is a user's error with words. Nothing else."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fathomlab

BASE: dict[str, Any] = {"model": {"type": "MLP"}, "training": {"epochs": 1}, "experiment": {"seeds": 1}}
KEYS = [
    "seed",
    "data",
    "data.name",
    "data.limit",
    "data.augment",
    "data.params",
    "model",
    "model.type",
    "model.params",
    "model.params.layers_dim",
    "model.params.layers",
    "training",
    "training.lr",
    "training.optimizer",
    "training.optimizer_params",
    "training.scheduler_params",
    "teacher_model",
    "distillation",
    "distillation.alpha",
    "experiment",
    "experiment.depths",
    "experiment.widths",
    "experiment.seeds",
    "experiment.factors",
    "experiment.factors.training.lr",
    "experiment.factors.model",
    "logging",
    "claims",
    "claims.at",
    "claims.levels",
    "quick",
    "run.pack",
    "unknown.key",
]
PIECES = [*KEYS, "&a", "*a", "<<", "!!int", "!x", "- ", ": ", "{", "}", "[", "]", "'", '"', "|", "\n", "  ", "\t", "?"]
WORDS = [
    "no",
    "010",
    "1_0",
    "12:30",
    "2024-01-01",
    ".nan",
    "1e400",
    "MLP",
    "CNN",
    "SGD",
    "shapes",
    "levels",
    "1,2",
    "0..3",
]
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 12)
    | st.integers()
    | st.floats()
    | st.sampled_from(WORDS)
    | st.text(max_size=6)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([key.split(".")[-1] for key in KEYS]) | st.text(max_size=4), inner, max_size=3
        )
    ),
    max_leaves=6,
)
quickly = settings(
    max_examples=200, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def plans_or_says(source: Any, overrides: list[str], quick: bool = False) -> None:
    """Load, and read every hash; a user's error must have words."""
    try:
        plan = fathomlab.load(source, overrides, quick)
    except fathomlab.UserError as error:
        assert str(error).strip()  # noqa: PT017
    else:
        assert all(len(identity) == 64 for identity in [plan.hash, *(trial.hash for trial in plan.trials[:20])])


@quickly
@given(key=st.sampled_from([key for key in KEYS if not key.startswith("run")]), value=values, quick=st.booleans())
def test_any_value_at_any_key_of_a_mapping(key: str, value: Any, quick: bool):
    """A right experiment with one thing replaced."""
    data = {name: dict(section) for name, section in BASE.items()}
    *sections, last = key.split(".", 2) if key.startswith("experiment.factors.") else key.split(".")
    inner: dict[str, Any] = data
    for name in sections:
        inner = inner.setdefault(name, {})
    inner[last] = value
    if sections == ["claims"]:
        data["claims"] = [{"name": "a", "factor": "lr", "levels": [1, 2], "expect": "less"} | data["claims"]]
    plans_or_says(data, [], quick)


@quickly
@given(
    overrides=st.lists(
        st.tuples(st.sampled_from(KEYS), scalars | st.text("[]{},.:'\"ab1 -&*!", max_size=8)), max_size=3
    )
)
def test_any_overrides(overrides: list[tuple[str, Any]]):
    """Up to three on a right experiment."""
    plans_or_says(BASE, [f"{key}={value}" for key, value in overrides])


@quickly
@given(pieces=st.lists(st.sampled_from([*PIECES, *WORDS]), max_size=25), start=st.booleans())
def test_any_text(tmp_path: Path, pieces: list[str], start: bool):
    """Fragments of YAML in any order, with a right beginning or without."""
    path = tmp_path / "exp.yaml"
    path.write_text(
        ("model: {type: MLP}\ntraining: {epochs: 1}\n" if start else "") + "".join(pieces), encoding="utf-8"
    )
    plans_or_says(path, [])


@quickly
@given(content=st.binary(max_size=60))
def test_any_bytes(tmp_path: Path, content: bytes):
    """Files that are no text."""
    path = tmp_path / "exp.yaml"
    path.write_bytes(content)
    plans_or_says(path, [])


@pytest.mark.parametrize(
    "value", [{1: 2}, {None: {}}, {("a",): 1}, {"seed": {1, 2}}, {"seed": object()}, {"seed": b"1"}]
)
def test_a_mapping_of_what_no_file_can_hold(value: dict[Any, Any]):
    """Python values that are not plain are refused like any wrong value."""
    with pytest.raises(fathomlab.ConfigError):
        fathomlab.load(BASE | value)


@pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), b"1", {"a": object()}])
def test_options_that_are_kept_raw_must_be_plain_too(value: Any):
    """A level of a factor and a claim's level reach the trial's identity, so they are plain values."""
    with pytest.raises(fathomlab.ConfigError):
        fathomlab.load(BASE | {"experiment": {"factors": {"training.lr": [value]}}})
    claim = {"name": "a", "factor": "lr", "levels": [1, 2], "expect": "less"}
    for change in ({"levels": [1, value]}, {"at": {"epochs": value}}):
        with pytest.raises(fathomlab.ConfigError):
            fathomlab.load(BASE | {"claims": [claim | change]})
