"""Experiments whose networks diverge, from the file to the verdict."""

from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab import api
from fathomlab.analysis.verdicts import Verdict
from fathomlab.analysis.wording import finding
from fathomlab.execute.experiment import RunOptions, run_experiment
from fathomlab.execute.signals import StopRequest
from fathomlab.store.reading import Store


def experiment(rates: list[float], seeds: int, claims: list[dict[str, Any]], epochs: int) -> dict[str, Any]:
    """Small MLPs trained by SGD with these learning rates."""
    return {
        "seed": 1,
        "data": {"name": "mnist-sample", "batch_size": 128, "limit": 1000},
        "model": {
            "type": "MLP",
            "params": {"input_size": 784, "layers_dim": 16, "class_num": 10, "hidden_layers_num": 2},
        },
        "training": {"epochs": epochs, "optimizer": "SGD"},
        "experiment": {"factors": {"training.lr": rates}, "seeds": seeds},
        "claims": claims,
    }


def judged(conf: dict[str, Any], runs: Path) -> tuple[tuple[Verdict, ...], list[str]]:
    """Verdicts, and the status of each trial."""
    plan = fathomlab.load(conf)
    run_experiment(plan, runs, RunOptions("cpu", 1), lambda event: None, StopRequest())
    return api.verify(plan, runs)[0], [Store(runs).trial(trial.hash).status for trial in plan.trials]


def diverged(verdict: Verdict) -> dict[str, int]:
    """Number of diverged seeds per level."""
    return {arm.level: len(arm.diverged) for arm in verdict.contrast.arms}


def test_survivors_do_not_make_two_rates_equal(tmp_path: Path):
    """Most networks at rate 50 diverge, the others are as good as chance."""
    claim = {"name": "same", "factor": "lr", "levels": [3.0, 50.0], "expect": "equal", "matters": 0.02}
    (verdict,), statuses = judged(experiment([3.0, 50.0], 20, [claim], 3), tmp_path)
    assert diverged(verdict)["lr=50"] == statuses[20:].count("diverged") > 0
    assert verdict.n == 20
    assert verdict.decision != "supported"


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory) -> tuple[Verdict, ...]:
    """Verdicts where every seed of one level diverges."""
    levels = [0.5, 1.0e12]
    claims: list[dict[str, Any]] = [
        {"name": "a", "factor": "lr", "levels": [1.0e12], "kind": "success", "threshold": 0.5, "reference": 0.5}
        | {"expect": "less", "matters": 0.1},
        {"name": "b", "factor": "lr", "levels": levels, "expect": "less", "matters": 0.02},
        {"name": "c", "factor": "lr", "levels": levels, "metric": "test/loss", "expect": "less", "matters": 0.02},
        {"name": "d", "factor": "lr", "levels": levels, "metric": "best/val/accuracy", "expect": "less"},
        {"name": "e", "factor": "lr", "levels": [1.0e12], "reference": 0.1, "expect": "equal", "matters": 0.2},
    ]
    verdicts, _ = judged(experiment(levels, 6, claims, 5), tmp_path_factory.mktemp("huge"))
    return verdicts


def test_every_seed_counts_when_all_diverge(huge: tuple[Verdict, ...]):
    """All six seeds diverged at the huge rate, in every claim."""
    for verdict in huge:
        assert diverged(verdict)["lr=1e+12"] == 6
        assert "6 of 6 seeds diverged at lr=1e+12" in finding(verdict)


def test_accuracy_claims_use_chance_when_all_diverge(huge: tuple[Verdict, ...]):
    """Six seeds with an effect, decided without more seeds."""
    success, means, _, best, reference = huge
    assert success.success[0].successes == 0
    assert (means.n, best.n) == (6, 6)
    assert [pair.second for pair in means.contrast.pairs] == pytest.approx([0.1] * 6)
    assert means.effect is not None
    assert means.effect.mean > 0
    assert means.tests.p_against < 0.025
    assert (reference.decision, reference.advice.more_seeds) == ("undecided", None)


def test_loss_claims_stay_open_when_all_diverge(huge: tuple[Verdict, ...]):
    """A loss has no chance value, and no seeds are bought for it."""
    assert (huge[2].decision, huge[2].n, huge[2].advice.more_seeds) == ("undecided", 0, None)
