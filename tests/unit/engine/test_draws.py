"""No random number is drawn twice: order, flips, crops, dropout, split, and initial values."""

import itertools
from contextlib import ExitStack
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from fathomlab.data import augment
from fathomlab.engine.training import PackTrainer
from tests.helpers.draws import RATE, train_two


def disagreement(agree: np.ndarray, expected: float) -> float:
    """How many standard errors the share of places that agree is away from what chance gives."""
    return abs(float(agree.mean()) - expected) / float(np.sqrt(expected * (1 - expected) / agree.size))


def test_training_draws_no_number_twice():
    """2 epochs x 2 replicas x order, flip, crop, dropout, split, initial values: about 410,000 numbers of 64 bits.

    The chance that fair draws repeat any is below 1e-8, and below 1e-7 that any of 18 shares lies beyond six standard errors.
    """
    drawn = train_two()
    cells = 2 * 2 * 1600
    sizes = {purpose: sum(item.size for item in arrays) for purpose, arrays in drawn.bits.items()}
    assert sizes["order"] == sizes["flip"] == sizes["crop"] == cells
    assert sizes["split"] == 2 * 2000
    assert sizes["dropout"] >= 20 * cells
    assert sizes["initial"] > 2 * 12 * 20
    assert drawn.chance() < 1e-8
    assert drawn.repeats() == (0, 0)
    assert len(set(drawn.streams.values())) == len(drawn.streams) > 12
    streams: dict[str, list[np.ndarray]] = {}
    for purpose in ("order", "flip", "crop", "dropout"):
        arrays, half = drawn.bits[purpose], len(drawn.bits[purpose]) // 2
        epochs = [np.concatenate([item.reshape(2, -1) for item in part], 1) for part in (arrays[:half], arrays[half:])]
        streams[purpose] = [row for epoch in epochs for row in epoch]
    for one, two in itertools.combinations(streams["order"], 2):
        assert int((one.argsort() == two.argsort()).sum()) <= 12  # Poisson(1): beyond with 6e-11
    for one, two in itertools.combinations(streams["flip"], 2):
        assert disagreement((one < 0) == (two < 0), 0.5) < 6
    for one, two in itertools.combinations(streams["crop"], 2):
        pairs = [augment._offsets(torch.from_numpy(item)) for item in (one, two)]
        assert disagreement(((pairs[0][0] == pairs[1][0]) & (pairs[0][1] == pairs[1][1])).numpy(), 1 / 81) < 6
    for one, two in itertools.combinations(streams["dropout"], 2):
        saved = [(item.view("u8") >> np.uint64(40)) * 2.0**-24 >= RATE for item in (one, two)]
        assert disagreement(saved[0] == saved[1], RATE**2 + (1 - RATE) ** 2) < 6


@pytest.mark.parametrize("fault", ["purposes", "epochs", "replicas"])
def test_repeated_draws_are_detected(fault: str):
    """The control: flips and crops of one stream, epochs of one stream, replicas of one seed."""
    keys = PackTrainer.keys

    def forgetful(pack: PackTrainer, purpose: str, *_: int) -> Any:
        return keys(pack, purpose)

    with ExitStack() as stack:
        if fault == "purposes":
            stack.enter_context(mock.patch.object(augment, "CROP", augment.FLIP))
        if fault == "epochs":
            stack.enter_context(mock.patch.object(PackTrainer, "keys", forgetful))
        drawn = train_two((42, 42) if fault == "replicas" else (42, 43))
    assert drawn.repeats()[0] >= 2 * 1600
    assert (drawn.repeats()[1] > 0) == (fault == "replicas")
