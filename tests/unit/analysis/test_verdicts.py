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
def test_a_verdict_follows_from_the_interval(
    made: SimpleNamespace, differences: list[float], changes: dict[str, Any], expected: str
):
    """The 95 % interval beyond what matters supports, short of it refutes; no difference needs the 90 % one inside."""
    found = made.judge(differences, **changes)
    low, high = interval(differences)
    assert found["effect"] == pytest.approx(sum(differences) / len(differences))
    assert (found["low"], found["high"]) == (pytest.approx(low), pytest.approx(high))
    assert found["n"] == len(differences)
    matters = changes.get("matters", 0.0)
    if changes["expect"] == "equal":
        narrow = interval(differences, 0.9)
        by_hand = "supported" if -matters < narrow[0] and narrow[1] < matters else "undecided"
        by_hand = "refuted" if low > matters or high < -matters else by_hand
    else:
        low, high = (low, high) if changes["expect"] == "greater" else (-high, -low)
        by_hand = "supported" if low > matters else "refuted" if high < matters else "undecided"
    assert found["verdict"] == by_hand == expected


@pytest.mark.parametrize("factor", [1 - 1e-6, 1 + 1e-6])
def test_the_border_is_where_the_interval_ends(made: SimpleNamespace, factor: float):
    """A hair on either side of the interval's end decides."""
    low, _ = interval([0.05, 0.06, 0.07])
    found = made.judge([0.05, 0.06, 0.07], matters=low * factor)
    assert found["verdict"] == ("supported" if factor < 1 else "undecided")


def test_the_interval_of_no_difference_is_the_narrower_one(made: SimpleNamespace):
    """Between the ends of the 90 % and the 95 % interval, TOST supports what the 95 % interval would not."""
    differences = [0.01, -0.01, 0.02, 0.0]
    ends = interval(differences, 0.9)[1], interval(differences)[1]
    assert made.judge(differences, expect="equal", matters=sum(ends) / 2)["verdict"] == "supported"
    assert made.judge(differences, expect="equal", matters=ends[0] * 0.999)["verdict"] == "undecided"


def test_pairs_are_made_within_seeds(made: SimpleNamespace):
    """Seeds differ by far more than the conditions; only the pairing shows the effect."""
    base = [0.1, 0.5, 0.9]
    residual = [value + step for value, step in zip(base, (0.010, 0.011, 0.012), strict=True)]
    (found,) = made.judged([({FACTOR: True}, residual), ({FACTOR: False}, base)], [made.claim()])
    assert found["verdict"] == "supported"
    assert (found["low"], found["high"]) == tuple(map(pytest.approx, interval([0.010, 0.011, 0.012])))


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
    made: SimpleNamespace, differences: list[float], changes: dict[str, Any], parts: list[str]
):
    """The numbers and directions that the plain sentence must hold; statistical terms are for the details."""
    found = made.judge(differences, **changes)
    assert [part for part in parts if part not in found["finding"]] == []
    assert found["sentence"] == f"shortcuts help: {found['finding']}"
    assert not re.search(r"sign-flip|Holm|TOST|McNemar|Wilson|p =", found["finding"])


def test_how_many_more_seeds(made: SimpleNamespace):
    """The first n at which (t(0.975, n - 1) + 0.84) sd / sqrt(n) is the distance to the border, found here by trying."""
    differences = [0.03, 0.01, 0.05, -0.01]
    mean, deviation = 0.02, float(stats.tstd(differences))
    needed = next(n for n in range(5, 99) if (stats.t.ppf(0.975, n - 1) + 0.84) * deviation / math.sqrt(n) <= mean)
    found = made.judge(differences)
    assert found["verdict"] == "undecided"
    assert found["more_seeds"] == needed - 4 > 0
    assert f"About {needed - 4} more seeds" in found["finding"]
    assert found["mde"] == pytest.approx((stats.t.ppf(0.975, 3) + 0.84) * deviation / 2)


def test_failed_trials_are_excluded_with_their_pair(made: SimpleNamespace):
    """A failure is no outcome of the condition."""
    conditions = [({FACTOR: True}, [0.55, "failed", 0.56, 0.57]), ({FACTOR: False}, [0.5, 0.1, 0.5, 0.5])]
    (found,) = made.judged(conditions, [made.claim()])
    assert found["n"] == 3
    assert found["effect"] == pytest.approx(0.06)
    assert any("residual=true" in note and "seed 1" in note for note in found["notes"])


def test_only_seeds_of_both_sides_count(made: SimpleNamespace):
    """A seed that one side lacks says nothing about the difference."""
    conditions = [({FACTOR: True}, [0.55, 0.56]), ({FACTOR: False}, [0.5, 0.5, 0.9, 0.9])]
    (found,) = made.judged(conditions, [made.claim()])
    assert (found["n"], found["effect"]) == (2, pytest.approx(0.055))


def test_what_the_claim_leaves_open_is_averaged_and_what_it_fixes_is_not(made: SimpleNamespace):
    """`at` takes one depth; without it the mean over the depths is compared within each seed."""
    conditions = [
        ({DEPTH: 5, FACTOR: True}, [0.50, 0.52]),
        ({DEPTH: 5, FACTOR: False}, [0.50, 0.50]),
        ({DEPTH: 40, FACTOR: True}, [0.90, 0.80]),
        ({DEPTH: 40, FACTOR: False}, [0.10, 0.10]),
    ]
    whole, shallow, none = made.judged(
        conditions,
        [made.claim(), made.claim(at={"hidden_layers_num": 5}), made.claim(at={"hidden_layers_num": 7})],
    )
    assert whole["effect"] == pytest.approx((0.8 + 0.72) / 4)
    assert shallow["effect"] == pytest.approx(0.01)
    assert (none["n"], none["effect"]) == (0, None)


def test_roles_and_list_levels_are_compared_too(made: SimpleNamespace):
    """Distilled against baseline over all alphas, and depths that are lists of numbers."""
    layers, alpha = "student_model.params.layers", "distillation.alpha"
    conditions = [
        ({"role": "teacher"}, [0.9, 0.9]),
        ({"role": "baseline", layers: [1, 1, 1, 1]}, [0.5, 0.5]),
        ({"role": "distilled", layers: [1, 1, 1, 1], alpha: 0.7}, [0.51, 0.53]),
        ({"role": "distilled", layers: [1, 1, 1, 1], alpha: 0.9}, [0.53, 0.57]),
    ]
    roles = made.claim(factor="role", levels=["distilled", "baseline"])
    alphas = made.claim(factor="alpha", levels=[0.9, 0.7], at={"layers": [1, 1, 1, 1]})
    over, between = made.judged(conditions, [roles, alphas])
    assert over["effect"] == pytest.approx((0.02 + 0.05) / 2)
    assert between["effect"] == pytest.approx((0.02 + 0.04) / 2)


def by_claim(made: SimpleNamespace, shifts: Sequence[float]) -> list[str]:
    """Verdicts on one claim a depth, where the effects are these with equal spread."""
    conditions: list[Any] = []
    claims = []
    for number, shift in enumerate(shifts):
        residual = [0.5 + shift + noise for noise in (-0.01, 0.0, 0.01, -0.005, 0.005)]
        conditions += [({DEPTH: number, FACTOR: True}, residual), ({DEPTH: number, FACTOR: False}, [0.5] * 5)]
        claims.append(made.claim(at={"hidden_layers_num": number}))
    return [verdict["verdict"] for verdict in made.judged(conditions, claims)]


def test_holm_decides_the_claims_from_the_surest_down(made: SimpleNamespace):
    """A p between 0.0125 and 0.025 is enough alone or after a surer one, and not beside one that fails."""
    noise = (-0.01, 0.0, 0.01, -0.005, 0.005)
    error = stats.sem(noise)
    sure, middle, weak = (float(stats.t.isf(p, 4)) * error for p in (0.001, 0.018, 0.3))
    assert by_claim(made, [middle]) == ["supported"]
    assert by_claim(made, [middle, sure]) == ["supported", "supported"]
    assert by_claim(made, [middle, weak]) == ["undecided", "undecided"]
    assert by_claim(made, [weak, sure, middle]) == ["undecided", "supported", "undecided"]


def test_holm_counts_refutations_too(made: SimpleNamespace):
    """An effect the other way is refuted at the level that the procedure allows, whatever stands beside it."""
    assert by_claim(made, [-0.2, 0.2]) == ["refuted", "supported"]
    assert by_claim(made, [-0.2, -0.2]) == ["refuted", "refuted"]


def test_without_spread_the_sign_test_decides(made: SimpleNamespace):
    """Equal differences give an interval of no width, which says nothing; 1/2^n does: below 2.5 % from six seeds on."""
    five, six = made.judge([0.25] * 5), made.judge([0.25] * 6)
    assert (five["verdict"], five["p"], five["more_seeds"]) == ("undecided", 1 / 32, 1)
    assert (six["verdict"], six["p"], six["low"], six["high"]) == ("supported", 1 / 64, 0.25, 0.25)
    assert six["rho"] is None
    assert any("1/2^6" in detail for detail in six["details"])
    border = made.judge([0.25] * 6, matters=0.25)
    assert border["verdict"] == "undecided"
    assert (border["more_seeds"], border["p"]) == (None, 1.0)
    assert "threshold" in border["finding"]


def test_float32_rounding_is_no_effect(made: SimpleNamespace):
    """0.1135 in float32 is not 0.1135 in float64, and a net that always scores it is no worse than that."""
    exactly = float(np.float32(0.1135))
    about = {"levels": [False], "reference": 0.1135}
    conditions = [({FACTOR: False}, [exactly] * 8)]
    less, equal = made.judged(
        conditions, [made.claim(expect="less", **about), made.claim(expect="equal", matters=0.001, **about)]
    )
    assert (less["verdict"], equal["verdict"]) == ("undecided", "supported")
    assert "11.35%" in equal["finding"]


def test_no_claims_no_verdicts(made: SimpleNamespace):
    """And nothing raised."""
    assert made.judged([({FACTOR: True}, [0.5])], []) == []


LAYERS = "model.params.layers"


def test_a_trend_is_the_slope_per_doubling_within_each_seed(made: SimpleNamespace):
    """0.01 lost at every doubling, seeds 0.1 apart: the slope against numpy's polyfit, seed by seed."""
    noise = [[0.0, 0.001, -0.001], [0.002, 0.0, 0.0], [-0.001, 0.0, 0.002], [0.0, 0.0, 0.001]]
    depths = [5, 10, 40]
    accuracies = [
        [0.9 - 0.01 * math.log2(depth) - 0.1 * seed + noise[seed][place] for seed in range(4)]
        for place, depth in enumerate(depths)
    ]
    conditions = [({DEPTH: depth}, values) for depth, values in zip(depths, accuracies, strict=True)]
    asked = made.claim(factor="hidden_layers_num", levels=depths, kind="trend", expect="less", matters=0.001)
    (found,) = made.judged(conditions, [asked])
    slopes = [float(np.polyfit(np.log2(depths), column, 1)[0]) for column in np.array(accuracies).T]
    assert [value["difference"] for value in found["values"]] == pytest.approx(slopes)
    assert (found["low"], found["high"]) == tuple(map(pytest.approx, interval(slopes)))
    assert (found["verdict"], found["n"]) == ("supported", 4)
    assert re.search(r"falls by 0\.9\d points per doubling of depth", found["finding"])
    assert found["mcnemar"] is None


def test_a_trend_over_lists_goes_by_the_depth_of_their_conditions(made: SimpleNamespace):
    """Blocks 1-1-1-1 and so on stand at depths 8, 16, 32."""
    blocks, depths = [[1] * 4, [2] * 4, [4] * 4], [8, 16, 32]
    values = [[0.8, 0.81], [0.7, 0.72], [0.6, 0.61]]
    conditions = [({LAYERS: b, "depth": d}, v) for b, d, v in zip(blocks, depths, values, strict=True)]
    (found,) = made.judged(conditions, [made.claim(factor="layers", levels=blocks, kind="trend", expect="less")])
    assert [value["difference"] for value in found["values"]] == pytest.approx([-0.1, -0.1])
    flat = [({LAYERS: b, "depth": None}, v) for b, v in zip(blocks, values, strict=True)]
    (none,) = made.judged(flat, [made.claim(factor="layers", levels=blocks, kind="trend", expect="less")])
    assert (none["verdict"], none["n"]) == ("undecided", 0)
    assert "two levels have the same depth" in none["finding"].lower()


def success(made: SimpleNamespace, first: Sequence[Any], second: Sequence[Any], **changes: Any) -> dict[str, Any]:
    """The verdict on successes above 90 % at two levels."""
    conditions = [({FACTOR: True}, first), ({FACTOR: False}, second)]
    (found,) = made.judged(conditions, [made.claim(**{"kind": "success", "threshold": 0.9} | changes)])
    return found


def test_six_of_six_against_none(made: SimpleNamespace):
    """Fractions with Wilson's intervals, Newcombe's for the difference, Barnard's p, and McNemar's test over the seeds."""
    found = success(made, [0.95] * 6, [0.1135] * 6)
    assert (found["verdict"], found["effect"], found["n"]) == ("supported", 1.0, 6)
    assert found["p"] == pytest.approx(1 / 4**6)
    assert found["signflip_p"] == pytest.approx(2 / 2**6)
    assert [(side["successes"], side["n"]) for side in found["success"]] == [(6, 6), (0, 6)]
    assert found["success"][0]["low"] == pytest.approx(6 / (6 + 1.959964**2), rel=1e-6)
    assert "6 of 6 seeds exceed 90%" in found["finding"]
    assert "0 of 6 for plain networks" in found["finding"]


def test_one_level_against_a_fraction(made: SimpleNamespace):
    """8 of 8 above the threshold where half is claimed to be exceeded: the exact binomial p, 1/2^8."""
    about = {"levels": [True], "kind": "success", "threshold": 0.9, "reference": 0.5}
    (found,) = made.judged([({FACTOR: True}, [0.95] * 8)], [made.claim(**about)])
    assert (found["verdict"], found["effect"], found["p"]) == ("supported", 0.5, pytest.approx(1 / 2**8))
    assert found["signflip_p"] is None
    (few,) = made.judged([({FACTOR: True}, [0.95] * 5)], [made.claim(**about)])
    assert (few["verdict"], few["p"]) == ("undecided", pytest.approx(1 / 32))
    below = about | {"reference": 0.8, "expect": "less"}
    (rare,) = made.judged([({FACTOR: True}, [0.95, *[0.1] * 7])], [made.claim(**below)])
    expected = stats.binomtest(1, 8, 0.8, alternative="less").pvalue
    assert (rare["verdict"], rare["p"]) == ("supported", pytest.approx(expected))


def test_one_level_against_a_number(made: SimpleNamespace):
    """The one-sample t test against the reference."""
    values = [0.951, 0.953, 0.949, 0.952]
    about = {"levels": [True], "reference": 0.94, "matters": 0.005}
    (found,) = made.judged([({FACTOR: True}, values)], [made.claim(**about)])
    expected = stats.ttest_1samp(values, 0.945, alternative="greater").pvalue
    assert (found["verdict"], found["p"]) == ("supported", pytest.approx(expected))
    assert found["rho"] is None
    assert [value["second"] for value in found["values"]] == [None] * 4


def test_details_say_when_the_check_needs_more_seeds(made: SimpleNamespace):
    """Five seeds cannot give a sign-flip p below 0.0625; over three claims seven are needed (Holm's floor)."""
    one = made.judge([0.05, 0.06, 0.07, 0.05, 0.06])
    assert (one["signflip_p"], one["signflip_floor"]) == (2 / 32, 2 / 32)
    assert any("6 are needed, there are 5" in detail for detail in one["details"])
    assert not any("needed" in detail for detail in made.judge([0.05, 0.06, 0.07, 0.05, 0.06, 0.08])["details"])
    conditions = [({FACTOR: True}, [0.6 + 0.01 * seed for seed in range(6)]), ({FACTOR: False}, [0.5] * 6)]
    three = made.judged(conditions, [made.claim(name=name) for name in "abc"])
    assert all(any("7 are needed" in detail for detail in verdict["details"]) for verdict in three)


def test_advised_seeds_also_allow_the_check(made: SimpleNamespace):
    """One advice: two seeds that the t test would need are raised to the six of the distribution-free check."""
    found = made.judge([0.011, 0.019, 0.015], matters=0.005, expect="less")
    assert found["verdict"] == "refuted"
    close = made.judge([0.03, 0.05], matters=0.005)
    assert (close["verdict"], close["more_seeds"]) == ("undecided", 4)


def test_p_values_and_the_level_of_the_decision(made: SimpleNamespace):
    """The p against what matters from scipy, Holm's multiplication, and the level printed in the sentence."""
    differences = [0.05, 0.06, 0.07, 0.055]
    single = made.judge(differences, matters=0.02)
    expected = stats.ttest_1samp(differences, 0.02, alternative="greater").pvalue
    assert single["p"] == single["p_holm"] == pytest.approx(expected)
    assert single["p_against"] == pytest.approx(1 - expected)
    assert single["decided_at"] == 5.0
    first = [0.5 + difference for difference in differences]
    conditions = [({FACTOR: True}, first), ({FACTOR: False}, [0.5] * 4)]
    strong, weak = made.judged(conditions, [made.claim(matters=0.02), made.claim(matters=0.05)])
    assert strong["p_holm"] == pytest.approx(2 * expected)
    assert (strong["decided_at"], weak["decided_at"]) == (2.5, 5.0)
    assert any("2.5%" in detail and "2 claims" in detail for detail in strong["details"])
    equal = made.judge([0.001, -0.002, 0.001, 0.0], expect="equal", matters=0.01)
    by_hand = stats.ttest_1samp([0.001, -0.002, 0.001, 0.0], 0.01, alternative="less").pvalue
    other = stats.ttest_1samp([0.001, -0.002, 0.001, 0.0], -0.01, alternative="greater").pvalue
    assert equal["p"] == equal["p_holm"] == pytest.approx(max(by_hand, other))


def test_the_correlation_of_the_levels_over_seeds(made: SimpleNamespace):
    """Pearson's, as numpy has it; none where a side has no spread."""
    first, second = [0.9, 0.8, 0.7, 0.75], [0.5, 0.45, 0.3, 0.4]
    (found,) = made.judged([({FACTOR: True}, first), ({FACTOR: False}, second)], [made.claim()])
    assert found["rho"] == pytest.approx(np.corrcoef(first, second)[0, 1])
    assert made.judge([0.1, 0.2, 0.3])["rho"] is None


def test_finding_explains_the_verdict(made: SimpleNamespace):
    """Refuted because small or opposite, undecided because only the size is open."""
    assert "10.0 points that would matter" in made.judge([0.05, 0.06, 0.07], matters=0.1)["finding"]
    assert "opposite" in made.judge([0.05, 0.06, 0.07], expect="less")["finding"]
    assert "direction is clear" in made.judge([0.05, 0.06, 0.07], matters=0.05)["finding"]
    equal = made.judge([0.05, 0.06, 0.07], expect="equal", matters=0.01)
    assert "larger than the 1.00 points" in equal["finding"]


def test_bootstrap_appears_from_twenty_seeds_on(made: SimpleNamespace):
    """Two details, for the mean and the interquartile mean; none at 19."""
    differences = [0.01 * math.sin(seed) + 0.02 for seed in range(20)]
    bootstraps = [detail for detail in made.judge(differences)["details"] if "bootstrap" in detail]
    assert len(bootstraps) == 2
    assert "interquartile" in bootstraps[1]
    assert not any("bootstrap" in detail for detail in made.judge(differences[:19])["details"])


def test_late_claims_are_exploratory(made: SimpleNamespace):
    """As the record says."""
    conditions = [({FACTOR: True}, [0.5]), ({FACTOR: False}, [0.5])]
    assert [made.judged(conditions, [made.claim()], claims_late=late)[0]["exploratory"] for late in (True, False)] == [
        True,
        False,
    ]


def test_mcnemar_over_seeds_on_the_same_images(made: SimpleNamespace, tmp_path: Path):
    """b - c is the difference of correct answers; with one seed it is McNemar's exact test."""
    rng = np.random.default_rng(1)
    sides = []
    for number, chance in enumerate((0.9, 0.8)):
        trials = []
        for seed in range(3):
            correct = rng.random(400) < chance
            record = made.trial("x", float(correct.mean()))
            trials.append(made.images(tmp_path / f"{number}{seed}", record, correct))
        sides.append(trials)
    (found,) = made.judged([({FACTOR: True}, sides[0]), ({FACTOR: False}, sides[1])], [made.claim()])
    images = found["mcnemar"]
    assert (images["b"] - images["c"]) / 1200 == pytest.approx(found["effect"])
    assert images["seeds"] == 3
    assert images["p"] < 1e-4
    (one,) = made.judged([({FACTOR: True}, sides[0][:1]), ({FACTOR: False}, sides[1][:1])], [made.claim()])
    b, c = one["mcnemar"]["b"], one["mcnemar"]["c"]
    assert one["mcnemar"]["p"] == pytest.approx(stats.binomtest(b, b + c).pvalue)
    assert one["mcnemar"]["each"] == [{"seed": 0, "b": b, "c": c, "p": pytest.approx(one["mcnemar"]["p"])}]


def test_a_look_takes_its_own_level(made: SimpleNamespace):
    """At 5 of 20 seeds an O'Brien-Fleming boundary asks for far more than 2.5 %."""
    differences = [0.05, 0.06, 0.04, 0.055, 0.03]
    first = [0.5 + difference for difference in differences]
    conditions = [({FACTOR: True}, first), ({FACTOR: False}, [0.5] * 5)]
    (alone,) = made.judged(conditions, [made.claim()])
    (looked,) = made.judged(conditions, [made.claim()], looks=({"n": 5, "of": 20},))
    assert (alone["verdict"], looked["verdict"]) == ("supported", "undecided")
    assert looked["decided_at"] == pytest.approx(200 * 0.87 * 2 * stats.norm.sf(stats.norm.isf(0.0125) * 2), rel=1e-6)
    assert any("interim analysis 1" in detail for detail in looked["details"])
    weak = [0.5 + difference for difference in (0.05, -0.02, 0.04, -0.01, 0.03)]
    conditions = [({FACTOR: True}, weak), ({FACTOR: False}, [0.5] * 5)]
    plain, early = (made.judged(conditions, [made.claim()], looks=looks)[0] for looks in ((), ({"n": 5, "of": 20},)))
    assert plain["more_seeds"] == early["more_seeds"] > 0  # planned for the later looks, whose levels are larger


def test_verdicts_are_plain_data(made: SimpleNamespace):
    """JSON can hold them, whatever happened to the trials."""
    conditions = [({FACTOR: True}, [0.95, "diverged"]), ({FACTOR: False}, ["failed", "running"])]
    claims = [made.claim(), made.claim(kind="success", threshold=0.9), made.claim(levels=[True], reference=0.5)]
    for verdict in made.judged(conditions, claims):
        json.dumps(verdict, allow_nan=False)
