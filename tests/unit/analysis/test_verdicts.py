"""Verdicts against t intervals worked out with scipy, Holm's procedure by hand, and the sentences word for word."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from fathomlab.analysis.verdicts import verdicts
from fathomlab.store.reading import Store
from fathomlab.store.writing import TrialFolder, write_experiment

SIDES = ("true", "false")
FACTOR = "model.params.residual"


def claim(**changes: Any) -> dict[str, Any]:
    """A claim that shortcuts help."""
    return {"name": "shortcuts help", "factor": "residual", "levels": [True, False], "expect": "greater"} | changes


def store_of(root: Path, conditions: Sequence[tuple[Mapping[str, Any], Sequence[Any]]], claims: list[Any]) -> Any:
    """The verdicts on a store whose conditions have these test accuracies, seed by seed."""
    written = []
    for number, (factors, values) in enumerate(conditions):
        role = factors.get("role", "supervised")
        trials = []
        for seed, value in enumerate(values):
            name = f"{number:032x}{seed:032x}"
            folder = TrialFolder(root, name, {"seed": seed})
            folder.write("provenance.json", {"git": {}})
            status = "finished" if isinstance(value, float) else str(value)
            metrics = {"test/accuracy": value, "train/loss": value} if isinstance(value, float) else {}
            folder.finish(status, None, metrics, {"parameters": 1, "epochs": 1, "steps": 1, "seconds": 0.1})
            trials.append({"seed": seed, "trial": name})
        own = {key: level for key, level in factors.items() if key != "role"}
        written.append({"label": str(number), "role": role, "factors": own, "depth": None, "trials": trials})
    write_experiment(root, "e", {"conditions": written, "claims": claims})
    store = Store(root)
    return verdicts(store, store.experiment("e"))


def judge(root: Path, differences: Sequence[float], **changes: Any) -> dict[str, Any]:
    """The verdict where the plain nets have 0.5 and the residual ones so much more."""
    plain = [0.5 for _ in differences]
    residual = [0.5 + difference for difference in differences]
    conditions = [({FACTOR: True}, residual), ({FACTOR: False}, plain)]
    (verdict,) = store_of(root, conditions, [claim(**changes)])
    return verdict


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
    tmp_path: Path, differences: list[float], changes: dict[str, Any], expected: str
):
    """The 95 % interval beyond what matters supports, short of it refutes; no difference needs the 90 % one inside."""
    found = judge(tmp_path, differences, **changes)
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
def test_the_border_is_where_the_interval_ends(tmp_path: Path, factor: float):
    """A hair on either side of the interval's end decides."""
    low, _ = interval([0.05, 0.06, 0.07])
    found = judge(tmp_path, [0.05, 0.06, 0.07], matters=low * factor)
    assert found["verdict"] == ("supported" if factor < 1 else "undecided")


def test_the_interval_of_no_difference_is_the_narrower_one(tmp_path: Path):
    """Between the ends of the 90 % and the 95 % interval, TOST supports what the 95 % interval would not."""
    differences = [0.01, -0.01, 0.02, 0.0]
    ends = interval(differences, 0.9)[1], interval(differences)[1]
    assert judge(tmp_path / "a", differences, expect="equal", matters=sum(ends) / 2)["verdict"] == "supported"
    assert judge(tmp_path / "b", differences, expect="equal", matters=ends[0] * 0.999)["verdict"] == "undecided"


def test_pairs_are_made_within_seeds(tmp_path: Path):
    """Seeds differ by far more than the conditions; only the pairing shows the effect."""
    base = [0.1, 0.5, 0.9]
    residual = [value + step for value, step in zip(base, (0.010, 0.011, 0.012), strict=True)]
    (found,) = store_of(tmp_path, [({FACTOR: True}, residual), ({FACTOR: False}, base)], [claim()])
    assert found["verdict"] == "supported"
    assert (found["low"], found["high"]) == tuple(map(pytest.approx, interval([0.010, 0.011, 0.012])))


@pytest.mark.parametrize(
    ("differences", "changes", "sentence"),
    [
        (
            [0.05, 0.06, 0.07],
            {},
            "shortcuts help: the difference is +6.00 points, 95 % interval +3.52 points to +8.48 points, 3 paired seeds.",
        ),
        (
            [-0.05, -0.06, -0.07],
            {},
            "shortcuts help: the difference is -6.00 points, 95 % interval -8.48 points to -3.52 points, 3 paired seeds.",
        ),
        ([0.05], {}, "shortcuts help: one seed shows +5.00 points and allows no interval."),
        ([], {}, "shortcuts help: no seed has both levels yet."),
        (
            [0.25, 0.5],
            {"metric": "train/loss"},
            "shortcuts help: the difference is +0.375 nats, 95 % interval -1.213 nats to +1.963 nats, 2 paired seeds; "
            "about 39 more seeds would decide.",
        ),
        (
            [0.011, -0.009],
            {},
            "shortcuts help: the difference is +0.10 points, 95 % interval -12.61 points to +12.81 points, 2 paired seeds; "
            "over 1,000 seeds would be needed.",
        ),
    ],
)
def test_the_sentence(tmp_path: Path, differences: list[float], changes: dict[str, Any], sentence: str):
    """The claim, effect, interval, seeds, and about how many more would decide."""
    assert judge(tmp_path, differences, **changes)["sentence"] == sentence


def test_how_many_more_seeds(tmp_path: Path):
    """((t(0.975, n - 1) + 0.84) sd / distance)^2 - n, worked out here."""
    differences = [0.03, 0.01, 0.05, -0.01]
    mean, deviation = 0.02, stats.tstd(differences)
    needed = math.ceil(((stats.t.ppf(0.975, 3) + 0.84) * deviation / mean) ** 2)
    found = judge(tmp_path, differences)
    assert found["verdict"] == "undecided"
    assert found["sentence"].endswith(f"4 paired seeds; about {needed - 4} more seeds would decide.")


@pytest.mark.parametrize("lost", ["failed", "diverged"])
def test_a_trial_without_a_result_takes_its_pair_with_it(tmp_path: Path, lost: str):
    """Failures are left out of the contrast, with the seed's other side."""
    conditions = [({FACTOR: True}, [0.55, lost, 0.56, 0.57]), ({FACTOR: False}, [0.5, 0.1, 0.5, 0.5])]
    (found,) = store_of(tmp_path, conditions, [claim()])
    assert found["n"] == 3
    assert found["effect"] == pytest.approx(0.06)


def test_only_seeds_of_both_sides_count(tmp_path: Path):
    """A seed that one side lacks says nothing about the difference."""
    conditions = [({FACTOR: True}, [0.55, 0.56]), ({FACTOR: False}, [0.5, 0.5, 0.9, 0.9])]
    (found,) = store_of(tmp_path, conditions, [claim()])
    assert (found["n"], found["effect"]) == (2, pytest.approx(0.055))


def test_what_the_claim_leaves_open_is_averaged_and_what_it_fixes_is_not(tmp_path: Path):
    """`at` takes one depth; without it the mean over the depths is compared within each seed."""
    depth = "model.params.hidden_layers_num"
    conditions = [
        ({depth: 5, FACTOR: True}, [0.50, 0.52]),
        ({depth: 5, FACTOR: False}, [0.50, 0.50]),
        ({depth: 40, FACTOR: True}, [0.90, 0.80]),
        ({depth: 40, FACTOR: False}, [0.10, 0.10]),
    ]
    whole, shallow, none = store_of(
        tmp_path,
        conditions,
        [claim(), claim(at={"hidden_layers_num": 5}), claim(at={"hidden_layers_num": 7})],
    )
    assert whole["effect"] == pytest.approx((0.8 + 0.72) / 4)
    assert shallow["effect"] == pytest.approx(0.01)
    assert (none["n"], none["effect"]) == (0, None)


def test_roles_and_list_levels_are_compared_too(tmp_path: Path):
    """Distilled against baseline over all alphas, and depths that are lists of numbers."""
    layers, alpha = "student_model.params.layers", "distillation.alpha"
    conditions = [
        ({"role": "teacher"}, [0.9, 0.9]),
        ({"role": "baseline", layers: [1, 1, 1, 1]}, [0.5, 0.5]),
        ({"role": "distilled", layers: [1, 1, 1, 1], alpha: 0.7}, [0.51, 0.53]),
        ({"role": "distilled", layers: [1, 1, 1, 1], alpha: 0.9}, [0.53, 0.57]),
    ]
    roles = claim(factor="role", levels=["distilled", "baseline"])
    alphas = claim(factor="alpha", levels=[0.9, 0.7], at={"layers": [1, 1, 1, 1]})
    over, between = store_of(tmp_path, conditions, [roles, alphas])
    assert over["effect"] == pytest.approx((0.02 + 0.05) / 2)
    assert between["effect"] == pytest.approx((0.02 + 0.04) / 2)


def by_claim(root: Path, shifts: Sequence[float]) -> list[str]:
    """Verdicts on one claim a depth, where the effects are these with equal spread."""
    depth = "model.params.hidden_layers_num"
    conditions: list[Any] = []
    claims = []
    for number, shift in enumerate(shifts):
        residual = [0.5 + shift + noise for noise in (-0.01, 0.0, 0.01, -0.005, 0.005)]
        conditions += [({depth: number, FACTOR: True}, residual), ({depth: number, FACTOR: False}, [0.5] * 5)]
        claims.append(claim(at={"hidden_layers_num": number}))
    return [verdict["verdict"] for verdict in store_of(root, conditions, claims)]


def test_holm_decides_the_claims_from_the_surest_down(tmp_path: Path):
    """A p between 0.0125 and 0.025 is enough alone or after a surer one, and not beside one that fails."""
    noise = (-0.01, 0.0, 0.01, -0.005, 0.005)
    error = stats.sem(noise)
    sure, middle, weak = (float(stats.t.isf(p, 4)) * error for p in (0.001, 0.018, 0.3))
    assert by_claim(tmp_path / "a", [middle]) == ["supported"]
    assert by_claim(tmp_path / "b", [middle, sure]) == ["supported", "supported"]
    assert by_claim(tmp_path / "c", [middle, weak]) == ["undecided", "undecided"]
    assert by_claim(tmp_path / "d", [weak, sure, middle]) == ["undecided", "supported", "undecided"]


def test_holm_counts_refutations_too(tmp_path: Path):
    """An effect the other way is refuted at the level that the procedure allows, whatever stands beside it."""
    assert by_claim(tmp_path / "a", [-0.2, 0.2]) == ["refuted", "supported"]
    assert by_claim(tmp_path / "b", [-0.2, -0.2]) == ["refuted", "refuted"]


def test_equal_differences_decide_at_once(tmp_path: Path):
    """No spread is an interval of no width, not a division by zero."""
    assert judge(tmp_path / "a", [0.25, 0.25])["verdict"] == "supported"
    found = judge(tmp_path / "b", [0.25, 0.25], matters=0.25)
    assert found["verdict"] == "undecided"
    assert found["sentence"].endswith("; no number of seeds decides an effect of exactly the size that matters.")


def test_no_claims_no_verdicts(tmp_path: Path):
    """And nothing raised."""
    assert store_of(tmp_path, [({FACTOR: True}, [0.5])], []) == []
