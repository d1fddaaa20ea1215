"""Divergence is an outcome of its condition: what it counts as, and which verdicts it forbids."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fathomlab.analysis.contrasts import Pair
from fathomlab.analysis.extension import plan_extension
from fathomlab.analysis.sequential import Look
from fathomlab.analysis.verdicts import Verdict
from fathomlab.analysis.wording import finding, notes

FACTOR, DEPTH = "training.lr", "model.params.hidden_layers_num"
RATES = [0.1, 50.0]


def judged(build: SimpleNamespace, first: Sequence[Any], second: Sequence[Any], **changes: Any) -> Verdict:
    """The verdict on a claim about two learning rates."""
    conditions = [({FACTOR: rate}, values) for rate, values in zip(RATES, (first, second), strict=True)]
    (verdict,) = build.judged(conditions, [build.claim(**{"factor": "lr", "levels": RATES} | changes)])
    return verdict


def test_diverged_seed_counts_as_chance_accuracy(build: SimpleNamespace):
    """MNIST has ten classes: 0.9 against 0.1 in the diverged seeds, and every seed counts."""
    verdict = judged(build, [0.9] * 6, ["diverged", 0.9, "diverged", "diverged", 0.9, "diverged"])
    assert verdict.n == 6
    assert verdict.effect.mean == pytest.approx(4 * 0.8 / 6)
    assert verdict.contrast.pairs[0] == Pair(0, 0.9, 0.1, 0.8, diverged=True)
    assert [value.diverged for value in verdict.contrast.pairs] == [True, False, True, True, False, True]
    arm = verdict.contrast.arms[1]
    assert (arm.level, arm.diverged, len(arm.seeds)) == ("lr=50", (0, 2, 3, 5), 6)
    assert "4 of 6 seeds diverged at lr=50" in finding(verdict)
    assert "10%" in finding(verdict)


def test_equality_is_not_supported_by_finished_seeds_only(build: SimpleNamespace):
    """Equal wherever both finished: without the rule, the claim would be supported."""
    second: list[Any] = ["diverged", *[0.9001, 0.8999] * 10]
    assert judged(build, [0.9] * 20, second[1:], expect="equal", matters=0.02).decision == "supported"
    verdict = judged(build, [0.9] * 21, second, expect="equal", matters=0.2)
    assert (verdict.decision, verdict.tests.p, verdict.advice.more_seeds) == ("undecided", 1.0, None)
    assert "more seed" not in finding(verdict)
    refuted = judged(build, [0.9] * 20, ["diverged"] * 12 + [0.9] * 8, expect="equal", matters=0.02)
    assert refuted.decision == "refuted"
    assert "larger than the 2.00 points" in finding(refuted)


def test_equality_with_a_reference_is_not_supported(build: SimpleNamespace):
    """A level whose seeds diverge does not equal chance accuracy."""
    values = ["diverged", *[0.1] * 9]
    (verdict,) = build.judged(
        [({FACTOR: 50.0}, values)],
        [build.claim(factor="lr", levels=[50.0], reference=0.1, expect="equal", matters=0.05)],
    )
    assert verdict.decision == "undecided"


@pytest.mark.parametrize("expect", ["greater", "less", "equal"])
@pytest.mark.parametrize("value", ["diverged", {"test/accuracy": 0.9, "train/loss": None}])
def test_loss_claim_stays_undecided_if_a_seed_diverged(build: SimpleNamespace, expect: str, value: Any):
    """A loss has no value at divergence; a finished trial whose loss overflowed is no better."""
    first = [{"test/accuracy": 0.9, "train/loss": 0.5 + 0.001 * seed} for seed in range(8)]
    second = [*({"test/accuracy": 0.9, "train/loss": 0.1 + 0.001 * seed} for seed in range(7)), value]
    verdict = judged(build, first, second, metric="train/loss", expect=expect, matters=0.01)
    assert (verdict.decision, verdict.tests.p, verdict.tests.p_against, verdict.advice.more_seeds) == (
        "undecided",
        1.0,
        1.0,
        None,
    )
    assert verdict.n == 7
    assert "1 of 8 seeds diverged" in finding(verdict)
    without = judged(build, first, [*second[:7], first[7]], metric="train/loss", matters=0.01)
    assert without.decision != "undecided"


def test_trend_stays_undecided_if_a_seed_diverged(build: SimpleNamespace):
    """The slope over the remaining seeds is shown and decides nothing."""
    levels = [[0.9, 0.91, 0.9, 0.91], [0.8, 0.81, 0.8, 0.81], [0.7, 0.71, 0.7, "diverged"]]
    conditions = [({DEPTH: depth}, values) for depth, values in zip((5, 10, 20), levels, strict=True)]
    claim = build.claim(factor="hidden_layers_num", levels=[5, 10, 20], kind="trend", expect="less")
    (verdict,) = build.judged(conditions, [claim])
    assert (verdict.decision, verdict.n, verdict.advice.more_seeds) == ("undecided", 3, None)
    assert verdict.effect.mean == pytest.approx(-0.1)


def test_all_seeds_diverged_adds_no_seeds(build: SimpleNamespace):
    """Six of six at one level: chance against 0.9 is as clear as can be. At both levels there is no difference."""
    verdict = judged(build, [0.9, 0.91, 0.9, 0.89, 0.9, 0.92], ["diverged"] * 6, matters=0.02)
    assert (verdict.decision, verdict.n) == ("supported", 6)
    both = judged(build, ["diverged"] * 6, ["diverged"] * 6, metric="train/loss")
    assert (both.decision, both.n, both.advice.more_seeds) == ("undecided", 0, None)
    assert "6 of 6 seeds diverged at lr=0.1" in finding(both)
    step = plan_extension([both], 6, [Look(6, 30)], 30)
    assert step.seeds == 0
    assert "diverged" in step.reason


def test_success_counts_diverged_seed_as_failure(build: SimpleNamespace):
    """And leaves out a failed trial with its whole seed."""
    second = [0.1, 0.1, 0.1, 0.95, "diverged", "failed"]
    verdict = judged(build, [0.95] * 6, second, kind="success", threshold=0.9)
    assert [(side.successes, side.n) for side in verdict.success] == [(6, 6), (1, 5)]
    assert verdict.contrast.pairs[4] == Pair(4, 0.95, None, 1.0, diverged=True)
    assert "1 of 6 seeds diverged at lr=50" in finding(verdict)
    assert [note for note in notes(verdict) if "seed 5" in note]
    assert "failure" in finding(verdict)


def test_equal_success_fractions_are_not_supported(build: SimpleNamespace):
    """Never at both levels is no equality if the reason is divergence."""
    verdict = judged(
        build, [0.1] * 40, [*[0.1] * 39, "diverged"], kind="success", threshold=0.9, expect="equal", matters=0.5
    )
    assert verdict.decision == "undecided"
    finished = judged(build, [0.1] * 40, [0.1] * 40, kind="success", threshold=0.9, expect="equal", matters=0.5)
    assert finished.decision == "supported"


def test_mean_over_conditions_uses_chance_for_a_diverged_one(build: SimpleNamespace):
    """The claim averages two depths; one diverged at one of them."""
    conditions = [
        ({FACTOR: 0.1, DEPTH: 5}, [0.9, 0.9]),
        ({FACTOR: 0.1, DEPTH: 40}, [0.9, 0.9]),
        ({FACTOR: 50.0, DEPTH: 5}, [0.7, 0.7]),
        ({FACTOR: 50.0, DEPTH: 40}, ["diverged", 0.7]),
    ]
    (verdict,) = build.judged(conditions, [build.claim(factor="lr", levels=RATES)])
    assert [value.second for value in verdict.contrast.pairs] == pytest.approx([0.4, 0.7])


def test_unknown_dataset_with_divergence_stays_undecided(build: SimpleNamespace):
    """A dataset that this release does not know has no chance accuracy here."""
    unknown = {"data": {"name": "their-images"}}
    first = [build.trial("x", 0.9 + 0.001 * seed, unknown) for seed in range(8)]
    second = [build.trial("x", "diverged" if seed == 0 else 0.1, unknown) for seed in range(8)]
    verdict = judged(build, first, second)
    assert (verdict.decision, verdict.n) == ("undecided", 7)


def test_image_test_excludes_diverged_pairs(build: SimpleNamespace, tmp_path: Path):
    """The image-by-image comparison has no predictions of a diverged trial."""
    right = [True, True, False, True]
    first = [build.images(tmp_path / f"a{seed}", build.trial("x", 0.75), right) for seed in range(3)]
    second: list[Any] = [
        build.images(tmp_path / f"b{seed}", build.trial("x", 0.25), [not r for r in right]) for seed in range(2)
    ]
    verdict = judged(build, first, [*second, "diverged"])
    assert (verdict.images.seeds, verdict.images.excluded) == (2, (2,))
    assert [note for note in notes(verdict) if "(2)" in note]
