"""Which conditions a student is compared with, by the options of the trials."""

from dataclasses import replace

import pytest

from fathomlab.analysis.pairing import Student, difference, emulated_mistakes, students, teacher_count
from fathomlab.analysis.study import Study
from tests.helpers.distillation import KD, Net, study_of, suite

FLAT = (0.8, 0.81, 0.82)


def by_name(study: Study) -> dict[str, Student]:
    """The students by the label of their condition."""
    return {item.condition.record.label: item for item in students(study)}


def test_baseline_has_equal_options_without_teacher():
    """Another width, more epochs, and another root of the random streams are not the student's baseline."""
    nets = [
        Net("big", "big", FLAT, width=64),
        Net("wide", "wide", FLAT, width=32),
        Net("shifted", "shifted", FLAT, offset=1000),
        Net("alone", "alone", FLAT),
        Net("long", "long", FLAT, epochs=9),
        Net("small", "small", FLAT, teacher="big"),
        Net(
            "middle",
            "middle",
            FLAT,
            width=32,
            teacher="big",
            section={"loss": {"type": "DKD", "params": {"beta": 8.0}}},
        ),
        Net("narrow", "narrow", FLAT, width=8, teacher="big"),
    ]
    conditions = by_name(study_of(None, nets))
    assert list(conditions) == ["small", "middle", "narrow"]
    baselines = [item.baseline.record.label if item.baseline else None for item in conditions.values()]
    assert baselines == ["alone", "wide", None]
    assert [item.longer.record.label if item.longer else None for item in conditions.values()] == ["long", None, None]
    assert [item.loss for item in conditions.values()] == ["Distillation", "DKD", "Distillation"]
    assert (conditions["small"].options, conditions["middle"].options) == (KD, {"beta": 8.0})
    assert all(item.teacher is not None and item.teacher.record.label == "big" for item in conditions.values())


def test_self_distillation_has_a_teacher_of_the_same_model():
    """The teacher has other random streams, or is the baseline."""
    nets = [
        Net("first", "first", FLAT, offset=1000),
        Net("alone", "alone", FLAT),
        Net("again", "again", FLAT, teacher="first"),
        Net("twin", "twin", FLAT, teacher="alone"),
    ]
    conditions = by_name(study_of(None, nets))
    assert [item.is_self for item in conditions.values()] == [True, True]
    assert [item.baseline.record.label if item.baseline else "" for item in conditions.values()] == ["alone", "alone"]


def test_mistakes_and_placebos_are_not_genuine():
    conditions = by_name(suite())
    assert {name for name, item in conditions.items() if item.is_genuine} == {"distilled", "self"}
    assert conditions["no_t2"].emulated == ("no_t2",)
    assert conditions["no_t2"].baseline is not None
    assert conditions["shuffled"].placebo == "shuffled"
    assert conditions["shuffled"].objective == conditions["distilled"].objective
    assert [emulated_mistakes(item) for item in suite().conditions].count(()) == 9


def test_students_of_one_teacher_share_it():
    """Three students in each of five seeds have five teachers; with one seed they have one."""
    for seeds in (5, 1):
        accuracies = [0.9] * seeds
        nets = [Net("teacher", "teacher", accuracies, width=64), Net("baseline", "baseline", accuracies)]
        nets += [
            Net(f"alpha={alpha}", "distilled", accuracies, teacher="teacher", section={**KD, "alpha": alpha})
            for alpha in (0.5, 0.7, 0.9)
        ]
        assert teacher_count(students(study_of(None, nets))) == seeds


def test_unknown_teachers_are_not_those_of_the_study():
    nets = [Net("teacher", "teacher", FLAT, width=64), Net("student", "student", FLAT, teacher="elsewhere")]
    (student,) = students(study_of(None, nets))
    assert student.teachers == ()
    assert student.teacher_trials == {"0" * 64}


def test_lab_records_without_options_are_paired_by_role():
    """Options of corrupted trials are unknown."""
    study = study_of(None, [Net("baseline", "baseline", FLAT), Net("distilled", "distilled", FLAT)])
    empty = tuple(
        replace(item, trials=tuple((seed, replace(trial, content={})) for seed, trial in item.trials))
        for item in study.conditions
    )
    (student,) = students(replace(study, conditions=empty))
    assert student.baseline is not None
    assert student.baseline.record.role == "baseline"


def test_differences_are_paired_by_seed():
    """A diverged trial leaves its pair out; the interval is that of the two remaining differences."""
    nets = [Net("a", "a", (0.5, 0.6, 0.7)), Net("b", "b", (0.6, None, 0.9), width=8)]
    study = study_of(None, nets)
    value = difference(study, study.conditions[1], study.conditions[0])
    assert value.differences == pytest.approx({0: 0.1, 2: 0.2})
    assert value.excluded == "1 of 3 diverged"
    assert value.interval is not None
    half = 12.7062047 * 0.0707106781 / 2**0.5
    assert (value.interval.low, value.interval.high) == pytest.approx((0.15 - half, 0.15 + half))
    assert value.is_positive
    assert not value.is_clear
