"""The predicted time of a plan."""

import pytest

import fathomlab
from fathomlab.prepare import cost


def test_native_networks_are_predicted_at_their_own_rate() -> None:
    """Operations over the rate of the backend that trains each network, divided by the workers."""
    model = {"type": "MLP", "params": {"hidden_layers_num": 40}}
    content = {"data": {"name": "mnist"}, "model": model, "training": {"epochs": 50}, "experiment": {"seeds": 4}}
    trials = fathomlab.load(content).trials
    work = sum(map(cost.flops, trials))
    reference, native = (cost.estimate(trials, None, 2, chosen) for chosen in ((), {trial.hash for trial in trials}))
    assert reference.seconds == pytest.approx(work / cost.EAGER_RATE / 2, abs=0.05)
    assert native.seconds == pytest.approx(work / cost.NATIVE_RATE / 2, abs=0.05)
    mixed = cost.estimate(trials, None, 2, {trials[0].hash})
    assert mixed.seconds == pytest.approx((3 * reference.seconds + native.seconds) / 4, abs=0.1)
    measured = [cost.estimate(trials, 1e10, 2, chosen).seconds for chosen in ((), {trials[0].hash})]
    assert measured == [pytest.approx(work / 1e10 / 2, abs=0.05)] * 2  # a measured rate holds for all
