"""Gains, shares, choices, fidelity, and costs of students, against numbers by hand."""

from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from fathomlab.analysis.costs import cards, costs, training_operations
from fathomlab.analysis.distillation import choices, expected_maximum, gains, leads
from fathomlab.analysis.fidelity import fidelity
from fathomlab.analysis.pairing import students
from fathomlab.analysis.statistics import ratio_interval
from tests.helpers.distillation import KD, Net, study_of, suite

TEACHER = Net("teacher", "teacher", (0.9, 0.92, 0.94), width=64, epochs=6)
BASELINE = Net("baseline", "baseline", (0.8, 0.8, 0.8))


def student(name: str = "student", accuracies: tuple[float, ...] = (0.84, 0.86, 0.88), **also: object) -> Net:
    """A student of the teacher."""
    return Net(name, "distilled", accuracies, teacher="teacher", **also)  # type: ignore[arg-type]


def test_gain_and_share_of_the_lead_are_paired():
    study = study_of(None, [TEACHER, BASELINE, student()])
    (lead,), (gain,) = leads(study), gains(study)
    assert lead.difference.differences == pytest.approx({0: 0.1, 1: 0.12, 2: 0.14})
    assert lead.is_positive
    assert gain.gain is not None
    assert gain.gain.mean == pytest.approx(0.06)
    assert gain.share is not None
    expected = ratio_interval([0.04, 0.06, 0.08], [0.1, 0.12, 0.14])
    assert (gain.share.mean, gain.share.low, gain.share.high) == pytest.approx(
        (expected.mean, expected.low, expected.high)
    )
    assert gain.share.mean == pytest.approx(0.5)


def test_teacher_behind_in_one_seed_is_not_positive():
    study = study_of(None, [Net("teacher", "teacher", (0.9, 0.79), width=64), BASELINE, student()])
    (lead,) = leads(study)
    assert lead.difference.is_positive
    assert not lead.is_positive


def test_teachers_like_their_students_have_no_lead():
    study = study_of(None, [BASELINE, Net("twin", "twin", (0.8, 0.8, 0.8), teacher="baseline")])
    assert leads(study) == ()
    assert gains(study)[0].share is None


def test_best_is_chosen_on_validation_images():
    """The best on the test images is not the best on the validation images."""
    nets = [
        student(f"alpha={alpha}", accuracies, section={**KD, "alpha": alpha}, metrics={"val/accuracy": value})
        for alpha, accuracies, value in ((0.5, (0.85, 0.86, 0.87), 0.8), (0.9, (0.84, 0.85, 0.86), 0.9))
    ]
    study = study_of(None, [TEACHER, BASELINE, *nets])
    (choice,) = choices(study, gains(study))
    assert choice.best.student.condition.record.label == "alpha=0.9"
    assert (choice.metric, choice.inflation) == ("val/accuracy", 0.0)


def test_best_is_chosen_among_equals_only():
    """Emulated mistakes, placebos, and students with other seeds are no candidates; one student is no choice."""
    better = (0.95, 0.95, 0.95)
    nets = [
        student("a"),
        student("mistake", better, emulate=["no_t2"]),
        student("placebo", better, section={**KD, "placebo": "shuffled"}),
        student("fewer", better[:2], section={**KD, "alpha": 0.9}),
    ]
    study = study_of(None, [TEACHER, BASELINE, *nets])
    assert choices(study, gains(study)) == ()
    study = study_of(None, [TEACHER, BASELINE, *nets, student("b", (0.85, 0.86, 0.88), section={**KD, "alpha": 0.5})])
    (choice,) = choices(study, gains(study))
    assert {item.student.condition.record.label for item in choice.members} == {"a", "b"}
    assert choice.best.student.condition.record.label == "b"


def test_inflation_is_that_of_simulated_equal_students():
    """The largest of three equal students, simulated, exceeds zero by the mean of what is computed for each of them."""
    rng = np.random.default_rng(1)
    largest, computed = list[float](), list[float]()
    for _ in range(60):
        noise = rng.normal(0, 0.01, (3, 10)) + rng.normal(0, 0.05, 10)
        largest.append(float(noise.mean(1).max() - noise.mean()))
        nets = [
            student(f"s{index}", tuple(0.5 + row), section={**KD, "alpha": 0.1 * (index + 1)})
            for index, row in enumerate(noise)
        ]
        study = study_of(
            None, [Net("teacher", "teacher", [0.9] * 10, width=64), Net("baseline", "baseline", [0.5] * 10), *nets]
        )
        (choice,) = choices(study, gains(study))
        assert choice.inflation is not None
        computed.append(choice.inflation)
    assert fmean(computed) == pytest.approx(0.8463 * 0.01 / 10**0.5, rel=0.05)
    assert fmean(largest) == pytest.approx(fmean(computed), rel=0.15)


@pytest.mark.parametrize(("k", "expected"), [(1, 0.0), (2, 0.56419), (3, 0.84628), (9, 1.48501)])
def test_expected_maximum_has_published_values(k: int, expected: float):
    """Teichroew, 1956."""
    assert expected_maximum(k) == pytest.approx(expected, abs=1e-5)


def test_fidelity_counts_images(tmp_path: Path):
    """The teacher gets images 0 to 19 wrong, the baseline 0 to 39, the student 0 to 9 and 30 to 39."""
    nets = [
        Net("teacher", "teacher", (0.9,), width=64, wrong=[range(20)]),
        Net("baseline", "baseline", (0.8,), wrong=[range(40)]),
        Net(
            "student",
            "distilled",
            (0.9,),
            teacher="teacher",
            wrong=[[*range(10), *range(30, 40)]],
            outcome={"teacher_kl": 0.2, "softened_kl": 0.1},
        ),
    ]
    study = study_of(tmp_path, nets)
    (item,) = students(study)
    like = fidelity(item)
    assert like.errors == pytest.approx({0: 0.1})
    assert like.agreement == pytest.approx({0: 180 / 200})
    assert like.on_errors == pytest.approx({0: 0.5})
    assert like.baseline_agreement == pytest.approx({0: 180 / 200})
    assert like.baseline_on_errors == pytest.approx({0: 1.0})
    assert like.gain_on_errors == pytest.approx({0: 10 / 20})
    assert like.gain_elsewhere == pytest.approx({0: 10 / 180})
    assert (like.teacher_kl, like.softened_kl) == ({0: 0.2}, {0: 0.1})
    (gain,) = gains(study)
    assert gain.images is not None
    assert (gain.images.b, gain.images.c) == (20, 0)
    assert gain.images.p == pytest.approx(2 * 0.5**20)


def test_recorded_agreement_needs_no_predictions():
    study = study_of(None, [TEACHER, BASELINE, student(outcome={"agreement": 0.75})])
    like = fidelity(students(study)[0])
    assert like.agreement == {0: 0.75, 1: 0.75, 2: 0.75}
    assert like.errors == like.gain_on_errors == {}


def test_cost_of_the_teacher_is_shared_by_its_students():
    """MLP 784-w-w-w-10, 4,096 training images; two students share each teacher."""
    nets = [
        TEACHER,
        BASELINE,
        student(),
        student("clean", section={**KD, "targets": "clean"}, record={"table_seconds": 1.5}),
    ]
    study = study_of(None, nets)
    info = study.conditions[0].trials[0][1].dataset
    assert info is not None
    images = round(0.8 * info.train_examples)
    big, small = (784 * w + 2 * w * w + 10 * w for w in (64, 16))
    teacher, baseline, first, clean = costs(study)
    assert teacher.training == pytest.approx(3 * big * images * 6)
    assert baseline.training == pytest.approx(3 * small * images * 4)
    assert (first.targets, clean.targets) == pytest.approx((big * images, big * images))
    assert first.teacher == pytest.approx(3 * big * images * 6 / 2)
    assert (first.teacher_seconds, clean.table_seconds) == pytest.approx((6.0, 1.5))
    assert clean.total_seconds == pytest.approx(8.0 + 1.5 + 6.0)
    assert training_operations(study.conditions[0].trials[0][1]) == pytest.approx(2 * 3 * big * images * 6)


@pytest.mark.parametrize(
    ("section", "augment", "passes"),
    [
        (KD, (), 1),
        (KD, ("flip",), 4),
        ({**KD, "targets": "consistent"}, ("flip", "crop"), 162),
        ({**KD, "targets": "cached"}, ("flip",), 1),
        ({**KD, "placebo": "shuffled"}, ("flip",), 4),
        ({**KD, "placebo": "class_mean"}, ("flip",), 1),
        ({"loss": {"type": "FitNet"}}, (), 4),
        ({"loss": {"type": "DKD"}}, (), 1),
        ({"loss": {"type": "plugin.py:Mine"}}, (), None),
    ],
)
def test_stored_outputs_cost_one_pass_of_the_teacher(section: dict[str, Any], augment: Any, passes: int | None):
    """Without augmentation, outputs are stored once, except for losses on features of the teacher."""
    learner = Net("s", "distilled", (0.8,), teacher="t", section=section, augment=augment)
    teacher, cost = costs(study_of(None, [Net("t", "teacher", (0.9,), width=64, augment=augment), learner]))
    assert teacher.training is not None
    one = teacher.training / (3 * 4)
    assert cost.targets == (None if passes is None else pytest.approx(passes * one))


def test_loading_stored_outputs_takes_no_time():
    """One of two trials stored them in 3 s; the other loaded them."""
    example = study_of(None, [TEACHER, BASELINE, student()])
    trials = [trial for _, trial in example.conditions[-1].trials]
    object.__setattr__(trials[0], "table_seconds", 3.0)
    assert costs(example)[-1].table_seconds == pytest.approx(3.0 / len(trials))


def test_card_computes_bytes_and_operations():
    teacher, baseline, *_ = cards(suite())
    assert [teacher.size(name) for name in ("fp32", "fp16", "int8")] == [256_000, 128_000, 64_000]
    assert baseline.macs == 784 * 16 + 2 * 16 * 16 + 10 * 16
    assert len(baseline.speeds) == 5
