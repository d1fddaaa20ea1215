"""What a gain is made of: controls, shares, parts, and the check of the plumbing."""

from pathlib import Path

import pytest

from fathomlab.analysis.breakdown import breakdowns, decide
from fathomlab.analysis.pairing import Paired
from fathomlab.analysis.statistics import ratio_interval
from fathomlab.analysis.study import Condition
from tests.helpers.distillation import KD, Net, study_of, suite


def label(condition: Condition) -> str:
    """The label of a condition."""
    return condition.record.label


def test_controls_are_those_of_the_student():
    """In the order in which they keep more of the teacher; a mistake has no breakdown and is no control."""
    (item,) = breakdowns(suite())
    assert label(item.student.condition) == "distilled"
    kinds = ["label_smoothing", "shuffled", "class_mean", "within_class", "self", "longer", "student", "teacher"]
    assert [step.kind for step in item.steps] == kinds
    assert [label(step.condition) for step in item.steps if step.kind in ("self", "longer")] == ["self", "longer"]
    assert all(label(step.condition) != "no_t2" for step in item.steps)


def test_shares_and_parts_are_paired():
    """By hand, from the accuracies of the trials."""
    study = suite()
    values = {label(item): item.outcomes("test/accuracy") for item in study.conditions}
    (item,) = breakdowns(study)

    def minus(first: str, second: str) -> list[float]:
        return [values[first][seed] - values[second][seed] for seed in range(5)]

    step = item.step("class_mean")
    assert step is not None
    assert step.share is not None
    assert step.share == ratio_interval(minus("class_mean", "baseline"), minus("distilled", "baseline"))
    parts = {part.name: list(part.difference.differences.values()) for part in item.parts}
    assert parts == {
        "softness": pytest.approx(minus("label_smoothing", "baseline")),
        "class structure": pytest.approx(minus("class_mean", "label_smoothing")),
        "single images": pytest.approx(minus("distilled", "within_class")),
    }
    assert [part.decision for part in item.parts] == ["supported"] * 3


def test_targets_of_another_objective_are_no_control():
    """A placebo with another temperature, of another teacher, or with an emulated mistake."""
    flat = (0.8, 0.81)
    placebo = {"placebo": "shuffled"}
    nets = [
        Net("teacher", "teacher", (0.9, 0.91), width=64),
        Net("other", "other", (0.9, 0.91), width=32),
        Net("baseline", "baseline", flat),
        Net("student", "distilled", (0.85, 0.86), teacher="teacher"),
        Net("hot", "distilled", flat, teacher="teacher", section={**KD, **placebo, "temperature": 9.0}),
        Net("elsewhere", "distilled", flat, teacher="other", section={**KD, **placebo}),
        Net("wrong", "distilled", flat, teacher="teacher", section={**KD, **placebo}, emulate=["no_t2"]),
    ]
    assert breakdowns(study_of(None, nets)) == ()
    results = breakdowns(
        study_of(None, [*nets, Net("right", "distilled", flat, teacher="teacher", section={**KD, **placebo})])
    )
    assert [[label(step.condition) for step in item.steps] for item in results] == [["right", "student", "teacher"]]


@pytest.mark.parametrize(
    ("values", "decisions"),
    [
        ([(1.0, 1.1, 0.9)], ("supported",)),
        ([(-1.0, -1.1, -0.9)], ("refuted",)),
        ([(1.0, -1.0, 0.5)], ("undecided",)),
        ([(1.0,)], ("undecided",)),
        ([()], ("undecided",)),
        ([(1.0, 1.7, 0.9)], ("supported",)),
        ([(1.0, 1.7, 0.9), (1.0, -1.0, 0.5), (0.1, -0.2, 0.1)], ("undecided",) * 3),
    ],
)
def test_parts_are_decided_after_holm(values: list[tuple[float, ...]], decisions: tuple[str, ...]):
    """One-sided p is 0.023 alone, which is below 2.5% but not below a third of it."""
    assert decide([Paired(dict(enumerate(item))) for item in values]) == decisions


def shuffled_suite(root: Path, wrong: range, seeds: int = 3, placebo: str = "shuffled") -> bool:
    """Whether a placebo with these wrong images is suspicious; teacher and baseline get other images wrong."""
    level, section = 1 - len(wrong) / 200, {**KD, "placebo": placebo}
    nets = [
        Net("teacher", "teacher", [0.9] * seeds, width=64, wrong=[range(20)] * seeds),
        Net("baseline", "baseline", [0.8] * seeds, wrong=[range(100, 140 + seed) for seed in range(seeds)]),
        Net("student", "distilled", [0.85] * seeds, teacher="teacher"),
        Net("placebo", "distilled", [level] * seeds, teacher="teacher", section=section, wrong=[wrong] * seeds),
    ]
    (item,) = breakdowns(study_of(root, nets))
    return item.is_suspicious


def test_shuffled_teacher_must_not_raise_agreement(tmp_path: Path):
    """The baseline agrees on 140 of 200 images."""
    cases = {"more": range(20), "less": range(100, 160), "one": range(20), "slightly": range(100, 137)}
    results = {
        name: shuffled_suite(tmp_path / name, wrong, 1 if name in ("one", "slightly") else 3)
        for name, wrong in cases.items()
    }
    assert results == {"more": True, "less": False, "one": True, "slightly": False}
    assert not shuffled_suite(tmp_path / "other", range(20), placebo="class_mean")


def test_longer_baseline_is_recognized_by_its_operations():
    """MLP 784-w-w-w-10: the teacher's training costs as much as 27 epochs of the student."""
    big, small = (784 * w + 2 * w * w + 10 * w for w in (64, 16))
    equal = 4 + round(6 * big / small)
    kinds = {}
    for epochs in (equal - 2, equal, equal + 2):
        nets = [
            Net("teacher", "teacher", (0.9, 0.9), width=64, epochs=6),
            Net("baseline", "baseline", (0.8, 0.8)),
            Net("long", "long", (0.8, 0.81), epochs=epochs),
            Net("student", "distilled", (0.85, 0.86), teacher="teacher"),
        ]
        (item,) = breakdowns(study_of(None, nets))
        kinds[epochs] = item.steps[0].kind
    assert kinds == {equal - 2: "longer", equal: "equal_compute", equal + 2: "longer"}
