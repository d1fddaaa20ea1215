"""Divergence is an outcome of its condition: what it counts as, and which verdicts it forbids."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fathomlab.analysis.sequential import extension

FACTOR, DEPTH = "training.lr", "model.params.hidden_layers_num"
RATES = [0.1, 50.0]


def judged(made: SimpleNamespace, first: Sequence[Any], second: Sequence[Any], **changes: Any) -> dict[str, Any]:
    """The verdict on a claim about two learning rates."""
    conditions = [({FACTOR: rate}, values) for rate, values in zip(RATES, (first, second), strict=True)]
    (found,) = made.judged(conditions, [made.claim(**{"factor": "lr", "levels": RATES} | changes)])
    return found


def test_a_diverged_seed_counts_as_chance_accuracy(made: SimpleNamespace):
    """MNIST has ten classes: 0.9 against 0.1 in the diverged seeds, and every seed counts."""
    found = judged(made, [0.9] * 6, ["diverged", 0.9, "diverged", "diverged", 0.9, "diverged"])
    assert found["n"] == 6
    assert found["effect"] == pytest.approx(4 * 0.8 / 6)
    assert found["values"][0] == {"seed": 0, "first": 0.9, "second": 0.1, "difference": 0.8, "diverged": True}
    assert [value["diverged"] for value in found["values"]] == [True, False, True, True, False, True]
    assert found["diverged"][1] == {"level": "lr=50", "diverged": 4, "n": 6, "seeds": [0, 2, 3, 5]}
    assert "4 of 6 seeds diverged at lr=50" in found["finding"]
    assert "10%" in found["finding"]


def test_survivors_alone_never_support_equality(made: SimpleNamespace):
    """Equal wherever both finished: without the rule, the claim would be supported."""
    second: list[Any] = ["diverged", *[0.9001, 0.8999] * 10]
    assert judged(made, [0.9] * 20, second[1:], expect="equal", matters=0.02)["verdict"] == "supported"
    found = judged(made, [0.9] * 21, second, expect="equal", matters=0.2)
    assert (found["verdict"], found["p"], found["more_seeds"]) == ("undecided", 1.0, None)
    assert judged(made, [0.9] * 20, ["diverged"] * 12 + [0.9] * 8, expect="equal", matters=0.02)["verdict"] == "refuted"


def test_equality_with_a_reference_is_not_supported(made: SimpleNamespace):
    """A level whose seeds diverge does not equal chance accuracy."""
    values = ["diverged", *[0.1] * 9]
    (found,) = made.judged(
        [({FACTOR: 50.0}, values)],
        [made.claim(factor="lr", levels=[50.0], reference=0.1, expect="equal", matters=0.05)],
    )
    assert found["verdict"] == "undecided"


@pytest.mark.parametrize("expect", ["greater", "less", "equal"])
@pytest.mark.parametrize("value", ["diverged", {"test/accuracy": 0.9, "train/loss": None}])
def test_losses_stay_undecided(made: SimpleNamespace, expect: str, value: Any):
    """A loss has no value at divergence; a finished trial whose loss overflowed is no better."""
    first = [{"test/accuracy": 0.9, "train/loss": 0.5 + 0.001 * seed} for seed in range(8)]
    second = [*({"test/accuracy": 0.9, "train/loss": 0.1 + 0.001 * seed} for seed in range(7)), value]
    found = judged(made, first, second, metric="train/loss", expect=expect, matters=0.01)
    assert (found["verdict"], found["p"], found["p_against"], found["more_seeds"]) == ("undecided", 1.0, 1.0, None)
    assert found["n"] == 7
    assert "1 of 8 seeds diverged" in found["finding"]
    without = judged(made, first, [*second[:7], first[7]], metric="train/loss", matters=0.01)
    assert without["verdict"] != "undecided"


def test_trends_stay_undecided(made: SimpleNamespace):
    """The slope over the remaining seeds is shown and decides nothing."""
    levels = [[0.9, 0.91, 0.9, 0.91], [0.8, 0.81, 0.8, 0.81], [0.7, 0.71, 0.7, "diverged"]]
    conditions = [({DEPTH: depth}, values) for depth, values in zip((5, 10, 20), levels, strict=True)]
    claim = made.claim(factor="hidden_layers_num", levels=[5, 10, 20], kind="trend", expect="less")
    (found,) = made.judged(conditions, [claim])
    assert (found["verdict"], found["n"], found["more_seeds"]) == ("undecided", 3, None)
    assert found["effect"] == pytest.approx(-0.1)


def test_all_seeds_diverged_is_decided_and_buys_nothing(made: SimpleNamespace):
    """Six of six at one level: chance against 0.9 is as clear as can be. At both levels there is no difference."""
    found = judged(made, [0.9, 0.91, 0.9, 0.89, 0.9, 0.92], ["diverged"] * 6, matters=0.02)
    assert (found["verdict"], found["n"]) == ("supported", 6)
    both = judged(made, ["diverged"] * 6, ["diverged"] * 6, metric="train/loss")
    assert (both["verdict"], both["n"], both["more_seeds"]) == ("undecided", 0, None)
    assert "6 of 6 seeds diverged at lr=0.1" in both["finding"]
    step = extension([both], 6, [{"n": 6, "of": 30}], 30)
    assert step.seeds == 0
    assert "diverged" in step.reason


def test_success_counts_a_diverged_seed_as_a_failure(made: SimpleNamespace):
    """And leaves out a failed trial with its whole seed."""
    second = [0.1, 0.1, 0.1, 0.95, "diverged", "failed"]
    found = judged(made, [0.95] * 6, second, kind="success", threshold=0.9)
    assert [(side["successes"], side["n"]) for side in found["success"]] == [(6, 6), (1, 5)]
    assert found["values"][4] == {"seed": 4, "first": 0.95, "second": None, "difference": 1.0, "diverged": True}
    assert "1 of 6 seeds diverged at lr=50" in found["finding"]
    assert [note for note in found["notes"] if "seed 5" in note]
    assert "failure" in found["finding"]


def test_equal_success_fractions_are_not_supported(made: SimpleNamespace):
    """Never at both levels is no equality if the reason is divergence."""
    found = judged(
        made, [0.1] * 40, [*[0.1] * 39, "diverged"], kind="success", threshold=0.9, expect="equal", matters=0.5
    )
    assert found["verdict"] == "undecided"
    finished = judged(made, [0.1] * 40, [0.1] * 40, kind="success", threshold=0.9, expect="equal", matters=0.5)
    assert finished["verdict"] == "supported"


def test_a_mean_over_conditions_takes_chance_for_one_of_them(made: SimpleNamespace):
    """The claim averages two depths; one diverged at one of them."""
    conditions = [
        ({FACTOR: 0.1, DEPTH: 5}, [0.9, 0.9]),
        ({FACTOR: 0.1, DEPTH: 40}, [0.9, 0.9]),
        ({FACTOR: 50.0, DEPTH: 5}, [0.7, 0.7]),
        ({FACTOR: 50.0, DEPTH: 40}, ["diverged", 0.7]),
    ]
    (found,) = made.judged(conditions, [made.claim(factor="lr", levels=RATES)])
    assert [value["second"] for value in found["values"]] == pytest.approx([0.4, 0.7])


def test_without_known_classes_the_claim_stays_undecided(made: SimpleNamespace):
    """A dataset that this release does not know has no chance accuracy here."""
    unknown = {"data": {"name": "their-images"}}
    first = [made.trial("x", 0.9 + 0.001 * seed, unknown) for seed in range(8)]
    second = [made.trial("x", "diverged" if seed == 0 else 0.1, unknown) for seed in range(8)]
    found = judged(made, first, second)
    assert (found["verdict"], found["n"]) == ("undecided", 7)


def test_images_exclude_diverged_pairs_and_say_so(made: SimpleNamespace, tmp_path: Path):
    """The image-by-image comparison has no predictions of a diverged trial."""
    right = [True, True, False, True]
    first = [made.images(tmp_path / f"a{seed}", made.trial("x", 0.75), right) for seed in range(3)]
    second: list[Any] = [
        made.images(tmp_path / f"b{seed}", made.trial("x", 0.25), [not r for r in right]) for seed in range(2)
    ]
    found = judged(made, first, [*second, "diverged"])
    assert (found["mcnemar"]["seeds"], found["mcnemar"]["excluded"]) == (2, [2])
    assert [note for note in found["notes"] if "(2)" in note]
