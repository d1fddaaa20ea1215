"""Verdicts against t intervals from scipy, Holm's procedure by hand, and the numbers in the sentences."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from fathomlab.analysis.as_json import verdict_json
from fathomlab.analysis.verdicts import Verdict
from fathomlab.analysis.wording import details, finding, notes, sentence

FACTOR, DEPTH = "model.params.residual", "model.params.hidden_layers_num"


def interval(differences: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Student's t interval of the mean."""
    error = stats.sem(differences)
    low, high = stats.t.interval(level, len(differences) - 1, loc=sum(differences) / len(differences), scale=error)
    return float(low), float(high)


CASES = [
    ([0.05, 0.06, 0.07], {"expect": "greater"}, "supported"),
    ([0.05, 0.06, 0.07], {"expect": "greater", "matters": 0.02}, "supported"),
    ([0.05, 0.06, 0.07], {"expect": "greater", "matters": 0.05}, "undecided"),
    ([0.05, 0.06, 0.07], {"expect": "greater", "matters": 0.1}, "refuted"),
    ([0.05, 0.06, 0.07], {"expect": "less"}, "refuted"),
    ([-0.05, -0.06, -0.07], {"expect": "less"}, "supported"),
    ([-0.05, -0.06, -0.07], {"expect": "less", "matters": 0.05}, "undecided"),
    ([-0.05, -0.06, -0.07], {"expect": "greater"}, "refuted"),
    ([0.05, -0.06, 0.07], {"expect": "greater"}, "undecided"),
    ([0.001, -0.002, 0.001, 0.0], {"expect": "equal", "matters": 0.01}, "supported"),
    ([0.001, -0.002, 0.001, 0.0], {"expect": "equal", "matters": 0.001}, "undecided"),
    ([0.05, 0.06, 0.07], {"expect": "equal", "matters": 0.01}, "refuted"),
    ([-0.05, -0.06, -0.07], {"expect": "equal", "matters": 0.01}, "refuted"),
]


@pytest.mark.parametrize(("differences", "changes", "expected"), CASES)
def test_judge_decides_from_the_interval(
    build: SimpleNamespace, differences: list[float], changes: dict[str, Any], expected: str
):
    """The 95 % interval beyond what matters supports, short of it refutes; no difference needs the 90 % one inside."""
    verdict = build.judge(differences, **changes)
    low, high = interval(differences)
    assert verdict.effect.mean == pytest.approx(sum(differences) / len(differences))
    assert (verdict.effect.low, verdict.effect.high) == (pytest.approx(low), pytest.approx(high))
    assert verdict.n == len(differences)
    matters = changes.get("matters", 0.0)
    if changes["expect"] == "equal":
        narrow = interval(differences, 0.9)
        by_hand = "supported" if -matters < narrow[0] and narrow[1] < matters else "undecided"
        by_hand = "refuted" if low > matters or high < -matters else by_hand
    else:
        low, high = (low, high) if changes["expect"] == "greater" else (-high, -low)
        by_hand = "supported" if low > matters else "refuted" if high < matters else "undecided"
    assert verdict.decision == by_hand == expected


@pytest.mark.parametrize("factor", [1 - 1e-6, 1 + 1e-6])
def test_judge_threshold_is_the_end_of_the_interval(build: SimpleNamespace, factor: float):
    """A hair on either side of the interval's end decides."""
    low, _ = interval([0.05, 0.06, 0.07])
    verdict = build.judge([0.05, 0.06, 0.07], matters=low * factor)
    assert verdict.decision == ("supported" if factor < 1 else "undecided")


def test_judge_equal_uses_the_90_percent_interval(build: SimpleNamespace):
    """Between the ends of the 90 % and the 95 % interval, TOST supports what the 95 % interval would not."""
    differences = [0.01, -0.01, 0.02, 0.0]
    ends = interval(differences, 0.9)[1], interval(differences)[1]
    assert build.judge(differences, expect="equal", matters=sum(ends) / 2).decision == "supported"
    assert build.judge(differences, expect="equal", matters=ends[0] * 0.999).decision == "undecided"


def test_contrast_pairs_within_seeds(build: SimpleNamespace):
    """Seeds differ by far more than the conditions; only the pairing shows the effect."""
    base = [0.1, 0.5, 0.9]
    residual = [value + step for value, step in zip(base, (0.010, 0.011, 0.012), strict=True)]
    (verdict,) = build.judged([({FACTOR: True}, residual), ({FACTOR: False}, base)], [build.claim()])
    assert verdict.decision == "supported"
    assert (verdict.effect.low, verdict.effect.high) == tuple(map(pytest.approx, interval([0.010, 0.011, 0.012])))


@pytest.mark.parametrize(
    ("differences", "changes", "parts"),
    [
        ([0.05, 0.06, 0.07], {}, ["6.00 points higher", "3.52 to 8.48 points", "3 seeds", "residual", "plain"]),
        ([-0.05, -0.06, -0.07], {}, ["6.00 points lower", "3.52 to 8.48 points", "opposite"]),
        ([0.05], {}, ["one seed", "+5.00 points"]),
        ([], {}, ["No seed"]),
        ([0.25, 0.5], {"metric": "train/loss"}, ["Training loss", "0.375 nats", "\u22121.213 to +1.963 nats"]),
        ([0.011, -0.009], {}, ["\u221212.61 to +12.81 points", "1,000 seeds"]),
        ([0.0, 0.0, 0.0], {}, ["the same"]),
        ([0.2, 0.3, 0.4], {}, ["30.0 points", "5.16 to 54.8 points"]),
    ],
)
def test_finding_names_effect_interval_and_seeds(
    build: SimpleNamespace, differences: list[float], changes: dict[str, Any], parts: list[str]
):
    """The numbers and directions that the plain sentence must hold; statistical terms are for the details."""
    verdict = build.judge(differences, **changes)
    assert [part for part in parts if part not in finding(verdict)] == []
    assert sentence(verdict) == f"shortcuts help: {finding(verdict)}"
    assert not re.search(r"sign-flip|Holm|TOST|McNemar|Wilson|p =", finding(verdict))


def test_judge_estimates_more_seeds(build: SimpleNamespace):
    """The first n at which (t(0.975, n - 1) + 0.84) sd / sqrt(n) is the distance to the border, found here by trying."""
    differences = [0.03, 0.01, 0.05, -0.01]
    mean, deviation = 0.02, float(stats.tstd(differences))
    needed = next(n for n in range(5, 99) if (stats.t.ppf(0.975, n - 1) + 0.84) * deviation / math.sqrt(n) <= mean)
    verdict = build.judge(differences)
    assert verdict.decision == "undecided"
    assert verdict.advice.more_seeds == needed - 4 > 0
    assert f"About {needed - 4} more seeds" in finding(verdict)
    assert verdict.advice.detectable == pytest.approx((stats.t.ppf(0.975, 3) + 0.84) * deviation / 2)


def test_contrast_excludes_failed_trials_with_their_pair(build: SimpleNamespace):
    """A failure is no outcome of the condition."""
    conditions = [({FACTOR: True}, [0.55, "failed", 0.56, 0.57]), ({FACTOR: False}, [0.5, 0.1, 0.5, 0.5])]
    (verdict,) = build.judged(conditions, [build.claim()])
    assert verdict.n == 3
    assert verdict.effect.mean == pytest.approx(0.06)
    assert any("residual=true" in note and "seed 1" in note for note in notes(verdict))


def test_contrast_uses_seeds_of_both_arms_only(build: SimpleNamespace):
    """A seed that one side lacks says nothing about the difference."""
    conditions = [({FACTOR: True}, [0.55, 0.56]), ({FACTOR: False}, [0.5, 0.5, 0.9, 0.9])]
    (verdict,) = build.judged(conditions, [build.claim()])
    assert (verdict.n, verdict.effect.mean) == (2, pytest.approx(0.055))


def test_contrast_averages_factors_that_the_claim_leaves_open(build: SimpleNamespace):
    """`at` takes one depth; without it the mean over the depths is compared within each seed."""
    conditions = [
        ({DEPTH: 5, FACTOR: True}, [0.50, 0.52]),
        ({DEPTH: 5, FACTOR: False}, [0.50, 0.50]),
        ({DEPTH: 40, FACTOR: True}, [0.90, 0.80]),
        ({DEPTH: 40, FACTOR: False}, [0.10, 0.10]),
    ]
    total, shallow, none = build.judged(
        conditions,
        [build.claim(), build.claim(at={"hidden_layers_num": 5}), build.claim(at={"hidden_layers_num": 7})],
    )
    assert total.effect.mean == pytest.approx((0.8 + 0.72) / 4)
    assert shallow.effect.mean == pytest.approx(0.01)
    assert (none.n, none.effect) == (0, None)


def test_contrast_compares_roles_and_list_levels(build: SimpleNamespace):
    """Distilled against baseline over all alphas, and depths that are lists of numbers."""
    layers, alpha = "student_model.params.layers", "distillation.alpha"
    conditions = [
        ({"role": "teacher"}, [0.9, 0.9]),
        ({"role": "baseline", layers: [1, 1, 1, 1]}, [0.5, 0.5]),
        ({"role": "distilled", layers: [1, 1, 1, 1], alpha: 0.7}, [0.51, 0.53]),
        ({"role": "distilled", layers: [1, 1, 1, 1], alpha: 0.9}, [0.53, 0.57]),
    ]
    roles = build.claim(factor="role", levels=["distilled", "baseline"])
    alphas = build.claim(factor="alpha", levels=[0.9, 0.7], at={"layers": [1, 1, 1, 1]})
    over, between = build.judged(conditions, [roles, alphas])
    assert over.effect.mean == pytest.approx((0.02 + 0.05) / 2)
    assert between.effect.mean == pytest.approx((0.02 + 0.04) / 2)


def by_claim(build: SimpleNamespace, shifts: Sequence[float]) -> list[str]:
    """Verdicts on one claim a depth, where the effects are these with equal spread."""
    conditions: list[Any] = []
    claims = []
    for number, shift in enumerate(shifts):
        residual = [0.5 + shift + noise for noise in (-0.01, 0.0, 0.01, -0.005, 0.005)]
        conditions += [({DEPTH: number, FACTOR: True}, residual), ({DEPTH: number, FACTOR: False}, [0.5] * 5)]
        claims.append(build.claim(at={"hidden_layers_num": number}))
    return [verdict.decision for verdict in build.judged(conditions, claims)]


def test_judge_applies_holm_from_the_smallest_p(build: SimpleNamespace):
    """A p between 0.0125 and 0.025 is enough alone or after a surer one, and not beside one that fails."""
    noise = (-0.01, 0.0, 0.01, -0.005, 0.005)
    error = stats.sem(noise)
    sure, middle, weak = (float(stats.t.isf(p, 4)) * error for p in (0.001, 0.018, 0.3))
    assert by_claim(build, [middle]) == ["supported"]
    assert by_claim(build, [middle, sure]) == ["supported", "supported"]
    assert by_claim(build, [middle, weak]) == ["undecided", "undecided"]
    assert by_claim(build, [weak, sure, middle]) == ["undecided", "supported", "undecided"]


def test_judge_applies_holm_to_refutations(build: SimpleNamespace):
    """An effect the other way is refuted at the level that the procedure allows, whatever stands beside it."""
    assert by_claim(build, [-0.2, 0.2]) == ["refuted", "supported"]
    assert by_claim(build, [-0.2, -0.2]) == ["refuted", "refuted"]


def test_judge_uses_the_sign_test_without_spread(build: SimpleNamespace):
    """Equal differences give an interval of no width, which says nothing; 1/2^n does: below 2.5 % from six seeds on."""
    five, six = build.judge([0.25] * 5), build.judge([0.25] * 6)
    assert (five.decision, five.tests.p, five.advice.more_seeds) == ("undecided", 1 / 32, 1)
    assert (six.decision, six.tests.p, six.effect.low, six.effect.high) == ("supported", 1 / 64, 0.25, 0.25)
    assert six.tests.correlation is None
    assert any("1/2^6" in detail for detail in details(six))
    equal = build.judge([0.25] * 6, matters=0.25)
    assert equal.decision == "undecided"
    assert (equal.advice.more_seeds, equal.tests.p) == (None, 1.0)
    assert "threshold" in finding(equal)


def test_judge_ignores_float32_rounding(build: SimpleNamespace):
    """0.1135 in float32 is not 0.1135 in float64, and a net that always scores it is no worse than that."""
    exactly = float(np.float32(0.1135))
    about = {"levels": [False], "reference": 0.1135}
    conditions = [({FACTOR: False}, [exactly] * 8)]
    less, equal = build.judged(
        conditions, [build.claim(expect="less", **about), build.claim(expect="equal", matters=0.001, **about)]
    )
    assert (less.decision, equal.decision) == ("undecided", "supported")
    assert "11.35%" in finding(equal)


def test_judge_returns_nothing_without_claims(build: SimpleNamespace):
    """And nothing raised."""
    assert build.judged([({FACTOR: True}, [0.5])], []) == ()


LAYERS = "model.params.layers"


def test_trend_is_the_slope_per_doubling_per_seed(build: SimpleNamespace):
    """0.01 lost at every doubling, seeds 0.1 apart: the slope against numpy's polyfit, seed by seed."""
    noise = [[0.0, 0.001, -0.001], [0.002, 0.0, 0.0], [-0.001, 0.0, 0.002], [0.0, 0.0, 0.001]]
    depths = [5, 10, 40]
    accuracies = [
        [0.9 - 0.01 * math.log2(depth) - 0.1 * seed + noise[seed][place] for seed in range(4)]
        for place, depth in enumerate(depths)
    ]
    conditions = [({DEPTH: depth}, values) for depth, values in zip(depths, accuracies, strict=True)]
    asked = build.claim(factor="hidden_layers_num", levels=depths, kind="trend", expect="less", matters=0.001)
    (verdict,) = build.judged(conditions, [asked])
    slopes = [float(np.polyfit(np.log2(depths), column, 1)[0]) for column in np.array(accuracies).T]
    assert [value.difference for value in verdict.contrast.pairs] == pytest.approx(slopes)
    assert (verdict.effect.low, verdict.effect.high) == tuple(map(pytest.approx, interval(slopes)))
    assert (verdict.decision, verdict.n) == ("supported", 4)
    assert re.search(r"falls by 0\.9\d points per doubling of depth", finding(verdict))
    assert verdict.images is None


def test_trend_over_lists_uses_the_depth_of_conditions(build: SimpleNamespace):
    """Blocks 1-1-1-1 and so on stand at depths 8, 16, 32."""
    blocks, depths = [[1] * 4, [2] * 4, [4] * 4], [8, 16, 32]
    values = [[0.8, 0.81], [0.7, 0.72], [0.6, 0.61]]
    conditions = [({LAYERS: b, "depth": d}, v) for b, d, v in zip(blocks, depths, values, strict=True)]
    (verdict,) = build.judged(conditions, [build.claim(factor="layers", levels=blocks, kind="trend", expect="less")])
    assert [value.difference for value in verdict.contrast.pairs] == pytest.approx([-0.1, -0.1])
    flat = [({LAYERS: b, "depth": None}, v) for b, v in zip(blocks, values, strict=True)]
    (none,) = build.judged(flat, [build.claim(factor="layers", levels=blocks, kind="trend", expect="less")])
    assert (none.decision, none.n) == ("undecided", 0)
    assert "two levels have the same depth" in finding(none).lower()


def test_sentence_clips_intervals_to_possible_differences(build: SimpleNamespace):
    """Two seeds that disagree: no difference of accuracies exceeds 100 points. Losses have no such limit."""
    conditions = [({FACTOR: True}, [0.9, 0.9]), ({FACTOR: False}, [0.1, 0.85])]
    (verdict,) = build.judged(conditions, [build.claim()])
    assert verdict.effect.high > 1
    assert "\u2212100.00 to +100.00 points, clipped" in finding(verdict)
    (loss,) = build.judged(conditions, [build.claim(metric="train/loss")])
    assert "clipped" not in finding(loss)


def test_sentence_names_networks_after_other_levels(build: SimpleNamespace):
    claim = build.claim(factor="lr", levels=[0.1, 0.2], at={"residual": False, "hidden_layers_num": 40})
    depth = {"model.params.hidden_layers_num": 40, FACTOR: False}
    values = [({"training.lr": lr, **depth}, [0.5 + lr, 0.51 + lr, 0.5 + lr]) for lr in (0.1, 0.2)]
    (verdict,) = build.judged(values, [claim])
    assert " at depth 40 in plain networks " in finding(verdict)


def success(build: SimpleNamespace, first: Sequence[Any], second: Sequence[Any], **changes: Any) -> Verdict:
    """The verdict on successes above 90 % at two levels."""
    conditions = [({FACTOR: True}, first), ({FACTOR: False}, second)]
    (verdict,) = build.judged(conditions, [build.claim(**{"kind": "success", "threshold": 0.9} | changes)])
    return verdict


def test_success_compares_two_fractions(build: SimpleNamespace):
    """Fractions with Wilson's intervals, Newcombe's for the difference, Barnard's p, and McNemar's test over the seeds."""
    verdict = success(build, [0.95] * 6, [0.1135] * 6)
    assert (verdict.decision, verdict.effect.mean, verdict.n) == ("supported", 1.0, 6)
    assert verdict.tests.p == pytest.approx(1 / 4**6)
    assert verdict.tests.sign_flip.p == pytest.approx(2 / 2**6)
    assert [(side.successes, side.n) for side in verdict.success] == [(6, 6), (0, 6)]
    assert verdict.success[0].low == pytest.approx(6 / (6 + 1.959964**2), rel=1e-6)
    assert "6 of 6 seeds exceed 90%" in finding(verdict)
    assert "0 of 6 for plain networks" in finding(verdict)


def test_success_compares_a_fraction_with_a_reference(build: SimpleNamespace):
    """8 of 8 above the threshold where half is claimed to be exceeded: the exact binomial p, 1/2^8."""
    about = {"levels": [True], "kind": "success", "threshold": 0.9, "reference": 0.5}
    (verdict,) = build.judged([({FACTOR: True}, [0.95] * 8)], [build.claim(**about)])
    assert (verdict.decision, verdict.effect.mean, verdict.tests.p) == ("supported", 0.5, pytest.approx(1 / 2**8))
    assert verdict.tests.sign_flip is None
    (few,) = build.judged([({FACTOR: True}, [0.95] * 5)], [build.claim(**about)])
    assert (few.decision, few.tests.p) == ("undecided", pytest.approx(1 / 32))
    below = about | {"reference": 0.8, "expect": "less"}
    (rare,) = build.judged([({FACTOR: True}, [0.95, *[0.1] * 7])], [build.claim(**below)])
    expected = stats.binomtest(1, 8, 0.8, alternative="less").pvalue
    assert (rare.decision, rare.tests.p) == ("supported", pytest.approx(expected))


def test_difference_compares_a_mean_with_a_reference(build: SimpleNamespace):
    """The one-sample t test against the reference."""
    values = [0.951, 0.953, 0.949, 0.952]
    about = {"levels": [True], "reference": 0.94, "matters": 0.005}
    (verdict,) = build.judged([({FACTOR: True}, values)], [build.claim(**about)])
    expected = stats.ttest_1samp(values, 0.945, alternative="greater").pvalue
    assert (verdict.decision, verdict.tests.p) == ("supported", pytest.approx(expected))
    assert verdict.tests.correlation is None
    assert [value.second for value in verdict.contrast.pairs] == [None] * 4


def test_details_name_the_seeds_that_the_check_needs(build: SimpleNamespace):
    """Five seeds cannot give a sign-flip p below 0.0625; over three claims seven are needed (Holm's floor)."""
    one = build.judge([0.05, 0.06, 0.07, 0.05, 0.06])
    assert (one.tests.sign_flip.p, one.tests.sign_flip.floor) == (2 / 32, 2 / 32)
    assert any("6 are needed, there are 5" in detail for detail in details(one))
    assert not any("needed" in detail for detail in details(build.judge([0.05, 0.06, 0.07, 0.05, 0.06, 0.08])))
    conditions = [({FACTOR: True}, [0.6 + 0.01 * seed for seed in range(6)]), ({FACTOR: False}, [0.5] * 6)]
    three = build.judged(conditions, [build.claim(name=name) for name in "abc"])
    assert all(any("7 are needed" in detail for detail in details(verdict)) for verdict in three)


def test_more_seeds_also_allow_the_check(build: SimpleNamespace):
    """One advice: two seeds that the t test would need are raised to the six of the distribution-free check."""
    verdict = build.judge([0.011, 0.019, 0.015], matters=0.005, expect="less")
    assert verdict.decision == "refuted"
    close = build.judge([0.03, 0.05], matters=0.005)
    assert (close.decision, close.advice.more_seeds) == ("undecided", 4)


def test_judge_returns_p_values_and_the_level(build: SimpleNamespace):
    """The p against what matters from scipy, Holm's multiplication, and the level printed in the sentence."""
    differences = [0.05, 0.06, 0.07, 0.055]
    single = build.judge(differences, matters=0.02)
    expected = stats.ttest_1samp(differences, 0.02, alternative="greater").pvalue
    assert single.tests.p == single.tests.p_holm == pytest.approx(expected)
    assert single.tests.p_against == pytest.approx(1 - expected)
    assert single.tests.level == 0.025
    first = [0.5 + difference for difference in differences]
    conditions = [({FACTOR: True}, first), ({FACTOR: False}, [0.5] * 4)]
    strong, weak = build.judged(conditions, [build.claim(matters=0.02), build.claim(matters=0.05)])
    assert strong.tests.p_holm == pytest.approx(2 * expected)
    assert (strong.tests.level, weak.tests.level) == (0.0125, 0.025)
    assert any("2.5%" in detail and "2 claims" in detail for detail in details(strong))
    equal = build.judge([0.001, -0.002, 0.001, 0.0], expect="equal", matters=0.01)
    by_hand = stats.ttest_1samp([0.001, -0.002, 0.001, 0.0], 0.01, alternative="less").pvalue
    other = stats.ttest_1samp([0.001, -0.002, 0.001, 0.0], -0.01, alternative="greater").pvalue
    assert equal.tests.p == equal.tests.p_holm == pytest.approx(max(by_hand, other))


def test_judge_returns_the_correlation_over_seeds(build: SimpleNamespace):
    """Pearson's, as numpy has it; none where a side has no spread."""
    first, second = [0.9, 0.8, 0.7, 0.75], [0.5, 0.45, 0.3, 0.4]
    (verdict,) = build.judged([({FACTOR: True}, first), ({FACTOR: False}, second)], [build.claim()])
    assert verdict.tests.correlation == pytest.approx(np.corrcoef(first, second)[0, 1])
    assert build.judge([0.1, 0.2, 0.3]).tests.correlation is None


def test_finding_explains_the_decision(build: SimpleNamespace):
    """Refuted because small or opposite, undecided because only the size is open."""
    assert "10.0 points that would matter" in finding(build.judge([0.05, 0.06, 0.07], matters=0.1))
    assert "opposite" in finding(build.judge([0.05, 0.06, 0.07], expect="less"))
    assert "direction is clear" in finding(build.judge([0.05, 0.06, 0.07], matters=0.05))
    equal = build.judge([0.05, 0.06, 0.07], expect="equal", matters=0.01)
    assert "larger than the 1.00 points" in finding(equal)


def test_bootstrap_starts_at_twenty_seeds(build: SimpleNamespace):
    """Two details, for the mean and the interquartile mean; none at 19."""
    differences = [0.01 * math.sin(seed) + 0.02 for seed in range(20)]
    bootstraps = [detail for detail in details(build.judge(differences)) if "bootstrap" in detail]
    assert len(bootstraps) == 2
    assert "interquartile" in bootstraps[1]
    assert not any("bootstrap" in detail for detail in details(build.judge(differences[:19])))


def test_judge_marks_late_claims_as_exploratory(build: SimpleNamespace):
    """As the record says."""
    conditions = [({FACTOR: True}, [0.5]), ({FACTOR: False}, [0.5])]
    assert [build.judged(conditions, [build.claim()], claims_late=late)[0].exploratory for late in (True, False)] == [
        True,
        False,
    ]


def test_image_test_sums_over_seeds(build: SimpleNamespace, tmp_path: Path):
    """b - c is the difference of correct answers; with one seed it is McNemar's exact test."""
    rng = np.random.default_rng(1)
    sides = []
    for number, chance in enumerate((0.9, 0.8)):
        trials = []
        for seed in range(3):
            correct = rng.random(400) < chance
            record = build.trial("x", float(correct.mean()))
            trials.append(build.images(tmp_path / f"{number}{seed}", record, correct))
        sides.append(trials)
    (verdict,) = build.judged([({FACTOR: True}, sides[0]), ({FACTOR: False}, sides[1])], [build.claim()])
    images = verdict.images
    assert (images.b - images.c) / 1200 == pytest.approx(verdict.effect.mean)
    assert images.seeds == 3
    assert images.p < 1e-4
    (one,) = build.judged([({FACTOR: True}, sides[0][:1]), ({FACTOR: False}, sides[1][:1])], [build.claim()])
    b, c = one.images.b, one.images.c
    assert one.images.p == pytest.approx(stats.binomtest(b, b + c).pvalue)
    assert [(seed.seed, seed.b, seed.c) for seed in one.images.each] == [(0, b, c)]
    assert one.images.each[0].p == pytest.approx(one.images.p)


def test_judge_uses_the_level_of_the_look(build: SimpleNamespace):
    """At 5 of 20 seeds an O'Brien-Fleming boundary asks for far more than 2.5 %."""
    differences = [0.05, 0.06, 0.04, 0.055, 0.03]
    first = [0.5 + difference for difference in differences]
    conditions = [({FACTOR: True}, first), ({FACTOR: False}, [0.5] * 5)]
    (alone,) = build.judged(conditions, [build.claim()])
    (looked,) = build.judged(conditions, [build.claim()], looks=({"n": 5, "of": 20},))
    assert (alone.decision, looked.decision) == ("supported", "undecided")
    assert looked.tests.level == pytest.approx(0.87 * 2 * stats.norm.sf(stats.norm.isf(0.0125) * 2), rel=1e-6)
    assert any("interim analysis 1" in detail for detail in details(looked))
    weak = [0.5 + difference for difference in (0.05, -0.02, 0.04, -0.01, 0.03)]
    conditions = [({FACTOR: True}, weak), ({FACTOR: False}, [0.5] * 5)]
    plain, early = (build.judged(conditions, [build.claim()], looks=looks)[0] for looks in ((), ({"n": 5, "of": 20},)))
    assert (
        plain.advice.more_seeds == early.advice.more_seeds > 0
    )  # planned for the later looks, whose levels are larger


KEYS = [
    "name",
    "kind",
    "sentence",
    "finding",
    "verdict",
    "metric",
    "expect",
    "matters",
    "effect",
    "low",
    "high",
    "n",
    "sd",
    "rho",
]
KEYS += [
    "p",
    "p_against",
    "p_holm",
    "decided_at",
    "signflip_p",
    "signflip_floor",
    "mde",
    "more_seeds",
    "values",
    "diverged",
]
KEYS += ["success", "notes", "details", "mcnemar", "exploratory", "seeds_added_after_results"]


def test_verdict_json_has_the_public_keys(build: SimpleNamespace):
    """JSON has the same keys whatever happened to the trials."""
    conditions = [({FACTOR: True}, [0.95, "diverged"]), ({FACTOR: False}, ["failed", "running"])]
    claims = [build.claim(), build.claim(kind="success", threshold=0.9), build.claim(levels=[True], reference=0.5)]
    verdicts = [verdict_json(verdict) for verdict in build.judged(conditions, claims)]
    assert json.loads(json.dumps(verdicts, allow_nan=False)) == verdicts
    assert [list(verdict) for verdict in verdicts] == [KEYS] * 3
    difference, success, reference = verdicts
    assert (difference["kind"], difference["verdict"], difference["n"]) == ("difference", "undecided", 0)
    assert (difference["effect"], difference["success"], difference["decided_at"]) == (None, None, pytest.approx(5 / 3))
    counts = [(side["level"], side["successes"], side["n"]) for side in success["success"]]
    assert counts == [("residual=true", 1, 2), ("residual=false", 0, 0)]
    assert reference["values"][1] == {"seed": 1, "first": 0.1, "second": None, "difference": -0.4, "diverged": True}
    assert reference["diverged"] == [{"level": "residual=true", "diverged": 1, "n": 2, "seeds": [1]}]
