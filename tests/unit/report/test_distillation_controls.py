"""Placebos, mistakes, and equal teachers are not students: sentences, choices, and claims; and the limits of intervals."""

from typing import cast

import pytest

from fathomlab.analysis.breakdown import breakdowns
from fathomlab.analysis.distillation import gains
from fathomlab.analysis.pairing import students
from fathomlab.analysis.verdicts import judge
from fathomlab.analysis.wording import observations
from fathomlab.report.answers import answers
from fathomlab.report.findings import finding
from fathomlab.report.numbers import NBSP
from fathomlab.report.section import Plain, Section
from fathomlab.report.sections import distillation, objectives, scaling, soft_share
from fathomlab.report.students import lead_sentence, mistake_warnings, teachers_sentence
from fathomlab.report.tables import Table
from tests.helpers.distillation import KD, Net, study_of, suite


def rows(section: Section | None) -> dict[str, dict[str, str]]:
    """First cell of each row of the table of a section to its cells by column."""
    assert section is not None
    data = cast(Table, cast(Plain, section.content).table)
    return {row[0]: dict(zip(data.columns, row, strict=True)) for row in data.rows}


def test_numbers_in_tables_are_possible():
    """Intervals of accuracies and shares end at 100%, and those of cosines at 1."""
    curves = {"distillation/soft_share": [0.99], "distillation/cosine": [0.99]}
    low = {"distillation/soft_share": [0.6], "distillation/cosine": [0.1]}
    nets = [Net("t", "teacher", (0.9, 0.99), width=64), Net("b", "baseline", (0.7, 0.99))]
    nets += [
        Net("s", "distilled", (0.6, 0.99), teacher="t", curves=curves),
        Net("r", "distilled", (0.7, 0.9), teacher="t", section={**KD, "alpha": 0.1}, curves=low),
    ]
    example = study_of(None, nets)
    trials = [trial for _, trial in example.conditions[2].trials]
    cast("dict[str, list[float]]", trials[0].curves).update({key: list(values) for key, values in low.items()})
    accuracies = rows(objectives.section(example, (), ()))["s"]
    assert (accuracies["95% low"], accuracies["95% high"]) == ("0.00", "100.00")
    shares = rows(soft_share.section(example, (), ()))["s"]
    assert (shares["95% low"], shares["95% high"]) == ("0.00", "100.00")
    assert (shares["cosine: 95% low"], shares["cosine: 95% high"]) == ("-1.00", "1.00")


def test_controls_do_not_enter_sentences_about_students():
    """Placebos, mistakes, and an equal teacher are compared elsewhere; the gain is that of the student."""
    study = suite()
    sentence = distillation.distillation_sentence(study)
    assert "62% (95%" in sentence
    assert "5 different teachers" in sentence.replace(NBSP, " ")
    members = students(study)
    real = [item for item in members if item.is_genuine]
    assert soft_share.share_sentence(members) == soft_share.share_sentence(real)


def test_mistakes_are_never_the_best_condition():
    """Without a baseline, the page compares means; the best condition has no mistake."""
    nets = [
        Net("t", "big", (0.8, 0.81), width=64),
        Net("m", "small", (0.9, 0.91), teacher="t", emulate=["student_eval"]),
        Net("s", "small", (0.7, 0.71), teacher="t"),
    ]
    assert finding(study_of(None, nets)).startswith("Test accuracy was highest for big (")
    many = [Net(f"s{i}", "small", (0.7, 0.71), teacher="t", section={**KD, "alpha": i / 10}) for i in range(8)]
    (levels, *_) = answers(study_of(None, [*nets, *many]))
    assert levels.cards[0].label == "Best: big"


def test_claims_over_placebos_say_so():
    """A claim about roles averages over placebos unless `at` selects a level."""
    factor = "roles.distilled.distillation.placebo"
    nets = [
        Net("teacher", "teacher", (0.9, 0.91), width=64),
        Net("baseline", "baseline", (0.8, 0.81)),
        Net("student", "distilled", (0.85, 0.87), teacher="teacher", factors={factor: None}),
    ]
    for name in ("class_mean", "shuffled"):
        section, factors = {**KD, "placebo": name}, {factor: name}
        nets.append(Net(name, "distilled", (0.5, 0.6), teacher="teacher", section=section, factors=factors))
    claim = {"name": "a", "factor": "role", "levels": ["distilled", "baseline"], "expect": "greater"}
    every = judge(study_of(None, nets, [claim, {**claim, "name": "b", "at": {"placebo": None}}]))
    texts = [" ".join(observations(verdict)) for verdict in every]
    assert ["3 conditions, including 2 placebos" in text for text in texts] == [True, False]
    effects = [verdict.effect.mean for verdict in every if verdict.effect is not None]
    assert effects == pytest.approx([(0.86 + 0.55 + 0.55) / 3 - 0.805, 0.86 - 0.805])


def test_warning_lists_conditions_with_mistakes():
    """Names contain commas, so semicolons separate them."""
    nets = [Net("t", "teacher", (0.9,), width=64), Net("a", "distilled", (0.8,), teacher="t", emulate=["no_t2"])]
    (text,) = mistake_warnings(study_of(None, nets))
    assert text.startswith("Distilled (mistake: no T\u00b2) repeats")
    nets.append(Net("b", "otherilled", (0.8,), teacher="t", emulate=["student_eval"]))
    (text,) = mistake_warnings(study_of(None, nets))
    assert text.startswith("2 conditions")
    assert text.count("; ") == 1


@pytest.mark.parametrize(
    ("teacher", "student", "known"), [(0.9, 0.85, 4), (0.7, 0.85, 2), (0.9, 0.75, 2), (0.7, 0.75, 0)]
)
def test_shares_of_a_loss_are_not_shown(teacher: float, student: float, known: int):
    """A teacher or a student that is worse than the baseline has nothing to share."""
    section = {**KD, "placebo": "class_mean"}
    nets = [
        Net("teacher", "teacher", (teacher, teacher + 0.01, teacher), width=64),
        Net("baseline", "baseline", (0.8, 0.8, 0.8)),
        Net("student", "distilled", (student, student + 0.01, student), teacher="teacher"),
        Net("placebo", "distilled", (0.82, 0.82, 0.83), teacher="teacher", section=section),
    ]
    study = study_of(None, nets)
    shares = [gain.share for gain in gains(study)] + [step.share for item in breakdowns(study) for step in item.steps]
    assert sum(share is not None for share in shares) == known
    assert ("of the teacher's lead" in distillation.distillation_sentence(study)) == (teacher > 0.8)


@pytest.mark.parametrize(("seeds", "start"), [(1, "The only trial"), (2, "All 2 trials")])
def test_one_teacher_is_named_once(seeds: int, start: str):
    assert teachers_sentence(students(study_of(None, [Net("s", "distilled", (0.8,) * seeds, teacher="t")]))).startswith(
        start
    )


def test_page_of_diverged_networks_says_why_there_is_no_lead():
    """The teacher's own calibration is no comparison of students and baselines."""
    scaled = {"scaled_loss": 0.3, "scaled_calibration_error": 0.02}
    nets = [
        Net("teacher", "teacher", (0.9, 0.9), width=64, outcome=scaled),
        Net("baseline", "baseline", (None, None)),
        Net("student", "distilled", (None, None), teacher="teacher"),
    ]
    study = study_of(None, nets)
    assert "no value (all 2" in lead_sentence(study).replace(NBSP, " ")
    assert scaling.section(study, (), ()) is None
    many = [
        Net(f"{net.name} {width}", net.role, net.accuracies, width=width + net.width)
        for width in range(4)
        for net in nets[1:2]
    ]
    pairs = [Net(f"s{width}", "distilled", (None, None), width=16 + width, teacher="teacher") for width in range(4)]
    assert "no value for 4 pairs" in lead_sentence(study_of(None, [nets[0], *many, *pairs]))
    finished = study_of(None, [*nets[:2], Net("student", "distilled", (0.8, 0.8), teacher="teacher", outcome=scaled)])
    assert scaling.section(finished, (), ()) is not None
