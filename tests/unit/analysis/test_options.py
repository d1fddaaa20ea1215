"""The options of a stored trial, whatever the store contains."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fathomlab.analysis.options import network, number, option, options
from fathomlab.models.mlp import MLP
from fathomlab.store.reading import Store
from fathomlab.store.records import TrialRecord


@pytest.fixture
def record(tmp_path: Path) -> TrialRecord:
    return Store(tmp_path).trial("ab" * 32)


def test_option_follows_a_dotted_key(record: TrialRecord) -> None:
    trial = replace(record, content={"data": {"name": "mnist", "limit": None}, "seed": 3})
    assert (option(trial, "data.name"), option(trial, "data.name.first"), option(trial, "x.y")) == ("mnist", None, None)
    assert options(trial) == {"data.name": "mnist", "data.limit": None, "seed": 3}
    assert options(record) == {}


@pytest.mark.parametrize("value", [None, "5", True, float("inf"), float("nan"), [5], {"a": 5}], ids=str)
def test_number_accepts_finite_numbers_only(record: TrialRecord, value: Any) -> None:
    assert number(replace(record, content={"a": {"b": value}}), "a.b") is None
    assert number(replace(record, content={"a": {"b": 5}}), "a.b") == 5


def test_options_of_endless_nesting_are_empty(record: TrialRecord) -> None:
    nested: dict[str, Any] = {}
    for _ in range(100_000):
        nested = {"a": nested}
    trial = replace(record, content={"model": nested})
    assert options(trial) == {}
    assert network(trial) is None


def test_network_reads_older_and_unknown_models(record: TrialRecord) -> None:
    """Options that an older record lacks have their defaults. Unknown options and types are no model of this version."""
    older = network(replace(record, content={"model": {"type": "MLP", "params": {"hidden_layers_num": 10}}}))
    assert older is not None
    assert older.component == MLP(hidden_layers_num=10).canonical()
    for model in ({"type": "MLP", "params": {"new": 1}}, {"type": "Transformer"}, {}, None, "MLP"):
        assert network(replace(record, content={"model": model})) is None
