"""What the gain of a student is made of: how much of it each control reaches, from label smoothing to the teacher."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from fathomlab.analysis.costs import training_operations
from fathomlab.analysis.distillation import leads, outcomes, share_of
from fathomlab.analysis.fidelity import fidelity
from fathomlab.analysis.pairing import Paired, Student, difference, students
from fathomlab.analysis.significance import ONE_SIDED, holm_adjusted, t_test_greater
from fathomlab.analysis.statistics import Interval
from fathomlab.analysis.study import Condition, Study

Kind = Literal[
    "label_smoothing", "shuffled", "class_mean", "within_class", "self", "equal_compute", "longer", "teacher", "student"
]
PLACEBOS: tuple[Kind, ...] = ("label_smoothing", "shuffled", "class_mean", "within_class")
Decision = Literal["supported", "refuted", "undecided"]
SINGLE_SEED_ERRORS = 2.0  # standard errors by which the agreement of one seed must be higher


@dataclass(frozen=True)
class Step:
    """A control of a student, or the student: what it gains over the baseline.

    Attributes:
        kind: Which control it is: a placebo, `self` (the teacher has the student's model), `equal_compute` (the baseline
            trained longer with the operations of the teacher's training), `longer` (with another number of epochs),
            `teacher`, or `student`.
        gain: Over the baseline (fractions of images).
        share: Its gain divided by that of the student, with Fieller's interval; None for the student.
    """

    kind: Kind
    condition: Condition
    gain: Paired
    share: Interval | None


@dataclass(frozen=True)
class Part:
    """A part of the gain: the difference of two neighbors in the list of controls.

    Attributes:
        name: `softness`, `class structure`, or `single images`.
        second: Kind of the network that has this property of the targets.
        first: Kind of the network without it; None for the baseline.
        difference: Second minus first (fractions of images).
        decision: Supported if the difference is clearly above zero, refuted if it is clearly below, by t tests at 2.5% per
            direction, Holm-adjusted over the parts of one student.
    """

    name: str
    second: Kind
    first: Kind | None
    difference: Paired
    decision: Decision


@dataclass(frozen=True)
class Breakdown:
    """The controls of one student.

    Attributes:
        gain: Of the student over its baseline.
        steps: In the order in which they keep more of the teacher, without controls that the experiment does not have.
        parts: Of those controls.
        agreement: Agreement with the teacher of the network that learned from shuffled targets, minus that of the baseline;
            None if it is unknown.
        is_suspicious: Whether that agreement is clearly higher, as if the targets had not been shuffled.
    """

    student: Student
    gain: Paired
    steps: tuple[Step, ...]
    parts: tuple[Part, ...]
    agreement: Paired | None
    is_suspicious: bool

    def step(self, kind: Kind) -> Step | None:
        """The step of a kind; None if the experiment does not have it."""
        return next((step for step in self.steps if step.kind == kind), None)


PARTS: tuple[tuple[str, Kind, Kind | None], ...] = (
    ("softness", "label_smoothing", None),
    ("class structure", "class_mean", "label_smoothing"),
    ("single images", "student", "within_class"),
)


def breakdowns(study: Study) -> tuple[Breakdown, ...]:
    """One for each student that has a baseline and a placebo, a self-distilled twin, or a longer baseline."""
    members = students(study)
    result: list[Breakdown] = []
    for student in members:
        baseline = student.baseline
        if baseline is None or not student.is_genuine or _is_twin(student, members):
            continue
        controls = _controls(student, members)
        if controls:
            shuffled = next((item for item in members if item.condition is controls.get("shuffled")), None)
            result.append(_breakdown(study, student, baseline, controls, shuffled))
    return tuple(result)


def decide(differences: Sequence[Paired]) -> tuple[Decision, ...]:
    """Whether each mean difference is above zero, below, or open, Holm-adjusted over all of them."""
    sides = [
        [
            t_test_greater([sign * value for value in item.differences.values()], 0.0) if item.differences else 1.0
            for sign in (1, -1)
        ]
        for item in differences
    ]
    adjusted = holm_adjusted([min(pair) for pair in sides])
    return tuple(
        "undecided" if p > ONE_SIDED else "supported" if pair[0] < pair[1] else "refuted"
        for p, pair in zip(adjusted, sides, strict=True)
    )


def _is_twin(student: Student, members: Sequence[Student]) -> bool:
    """Whether it is the self-distilled control of another student."""
    return student.is_self and any(
        other.is_genuine and not other.is_self and _same_setting(other, student) for other in members
    )


def _same_setting(student: Student, other: Student) -> bool:
    return other.baseline is student.baseline and other.objective == student.objective


def _controls(student: Student, members: Sequence[Student]) -> dict[Kind, Condition]:
    """The controls of a student in the order of the table."""
    found: dict[Kind, Condition] = {}
    for kind in PLACEBOS:
        matches = [
            other
            for other in members
            if other.placebo == kind
            and not other.emulated
            and _same_setting(student, other)
            and other.teachers == student.teachers
        ]
        matches.sort(key=lambda other: other.section.get("targets") != student.section.get("targets"))
        if matches:
            found[kind] = matches[0].condition
    twin = next((item for item in members if item.is_self and item.is_genuine and _same_setting(student, item)), None)
    if twin is not None and not student.is_self:
        found["self"] = twin.condition
    if student.longer is not None:
        found["equal_compute" if _costs_the_same(student, student.longer) else "longer"] = student.longer
    return found


def _costs_the_same(student: Student, longer: Condition) -> bool:
    """Whether a longer baseline needs the operations of teacher and student, to less than one epoch."""
    works = [_work(item) for item in (*student.teachers, student.condition)]
    total, epochs = _work(longer), max((len(trial.curves.get("epoch", [])) for _, trial in longer.trials), default=0)
    known = [work for work in works if work is not None]
    if len(known) < len(works) or len(works) < 2 or total is None or not epochs:
        return False
    return abs(total - sum(known)) < total / epochs


def _work(condition: Condition) -> float | None:
    """Operations of one training."""
    return next((work for _, trial in condition.trials if (work := training_operations(trial)) is not None), None)


def _breakdown(
    study: Study,
    student: Student,
    baseline: Condition,
    controls: Mapping[Kind, Condition],
    shuffled: Student | None,
) -> Breakdown:
    gain = difference(study, student.condition, baseline)
    steps = [_step(kind, item, difference(study, item, baseline), gain) for kind, item in controls.items()]
    steps.append(Step("student", student.condition, gain, None))
    steps += [
        _step("teacher", lead.teachers[0], lead.difference, gain)
        for lead in leads(study, [student])
        if len(lead.teachers) == 1
    ]
    conditions: dict[Kind | None, Condition] = {step.kind: step.condition for step in steps}
    conditions[None] = baseline
    named = [part for part in PARTS if part[1] in conditions and part[2] in conditions]
    values = [difference(study, conditions[second], conditions[first]) for _, second, first in named]
    parts = tuple(
        Part(*names, value, decision) for names, value, decision in zip(named, values, decide(values), strict=True)
    )
    agreement = fidelity(shuffled).added_agreement if shuffled is not None else None
    agreement = agreement if agreement is not None and agreement.differences else None
    suspicious = shuffled is not None and agreement is not None and _is_higher(shuffled, agreement)
    return Breakdown(student, gain, tuple(steps), parts, agreement, suspicious)


def _step(kind: Kind, condition: Condition, gain: Paired, total: Paired) -> Step:
    return Step(kind, condition, gain, share_of(gain, total))


def _is_higher(shuffled: Student, agreement: Paired) -> bool:
    """Whether the agreement is clearly higher: over seeds, or by the binomial standard error of one seed's images."""
    if len(agreement.differences) > 1:
        return agreement.is_clear and agreement.is_positive
    levels = outcomes(shuffled.condition, lambda outcome: outcome.agreement)
    images = outcomes(shuffled.condition, lambda outcome: outcome.examples)
    level = fmean(levels.values()) if levels else 0.5
    error = math.sqrt(2 * level * (1 - level) / min(images.values())) if images else math.inf
    return (agreement.mean or 0.0) > SINGLE_SEED_ERRORS * error
