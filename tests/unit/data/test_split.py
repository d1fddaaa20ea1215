"""The validation split and the limited subset: exact sizes and proportions."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathomlab.data.split import stratified_split, stratified_subset

LABELS = np.repeat(np.arange(10), 600)


def test_split_has_exact_proportions() -> None:
    """A tenth of 600 is 60 per class."""
    train, validation = stratified_split(LABELS, 10.0, seed=42)
    assert np.bincount(LABELS[validation]).tolist() == [60] * 10
    assert np.bincount(LABELS[train]).tolist() == [540] * 10
    assert train.dtype == validation.dtype == np.int64


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=80),
    percent=st.floats(0, 99.9),
    seed=st.integers(0, 2**32),
)
def test_split_by_largest_remainder(labels: list[int], percent: float, seed: int) -> None:
    """Every index once, sorted; the size is rounded; no class is off its quota by one or more."""
    array = np.array(labels)
    train, validation = stratified_split(array, percent, seed)
    assert len(validation) == round(len(labels) * percent / 100)
    assert sorted([*train.tolist(), *validation.tolist()]) == list(range(len(labels)))
    assert train.tolist() == sorted(train.tolist())
    assert validation.tolist() == sorted(validation.tolist())
    quotas = [len(validation) * labels.count(c) / len(labels) for c in range(7)]
    taken = [int((array[validation] == c).sum()) for c in range(7)]
    assert all(abs(quota - count) < 1 for quota, count in zip(quotas, taken, strict=True))
    topped = [quota % 1 for quota, count in zip(quotas, taken, strict=True) if count > quota]
    others = [quota % 1 for quota, count in zip(quotas, taken, strict=True) if count < quota]
    assert not topped or not others or min(topped) > max(others) - 1e-9


def test_split_depends_only_on_the_seed() -> None:
    """Pinned bytes for one seed detect a NumPy version with another random stream."""
    _, validation = stratified_split(LABELS, 10.0, seed=42)
    _, other = stratified_split(LABELS, 10.0, seed=43)
    assert validation.tolist() == stratified_split(LABELS, 10.0, seed=42)[1].tolist()
    assert validation.tolist() != other.tolist()
    assert hashlib.sha256(validation.astype("<i8").tobytes()).hexdigest()[:16] == "577801cfd4a9c512"


def test_limit_has_exact_proportions() -> None:
    """100 of 6,000 are 10 per class; no limit or a larger one takes all."""
    index = stratified_subset(LABELS, 100)
    assert np.bincount(LABELS[index]).tolist() == [10] * 10
    assert index.tolist() == sorted(set(index.tolist()))
    assert len(stratified_subset(LABELS, None)) == len(stratified_subset(LABELS, 10**6)) == 6000
    assert set(index.tolist()) < set(stratified_subset(LABELS, 200).tolist())


@pytest.mark.parametrize("percent", [-1.0, 100.0, float("nan")])
def test_split_rejects_invalid_percentages(percent: float) -> None:
    with pytest.raises(ValueError, match="percentage"):
        stratified_split(LABELS, percent, seed=0)


def test_limit_rejects_zero() -> None:
    with pytest.raises(ValueError, match="limit"):
        stratified_subset(LABELS, 0)
