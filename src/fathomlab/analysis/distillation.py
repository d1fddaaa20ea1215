"""What students gain: teacher minus baseline, student minus baseline, and the share of the teacher's lead that it keeps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

from fathomlab.analysis.contrasts import ImageTest, compare_images
from fathomlab.analysis.pairing import Paired, Student, difference, paired, students
from fathomlab.analysis.statistics import Interval, ratio_interval
from fathomlab.analysis.study import Condition, Study
from fathomlab.store.records import Outcome

SELECTION = {"test/accuracy": "val/accuracy", "best/test/accuracy": "best/val/accuracy"}
STEPS = 2000  # of the numerical integral


@dataclass(frozen=True)
class Lead:
    """Teacher minus baseline in the primary metric.

    Attributes:
        teachers: The teacher, or the members of an ensemble, whose mean accuracy is compared.
        baseline: The condition without a teacher.
        difference: Fractions of images.
    """

    teachers: tuple[Condition, ...]
    baseline: Condition
    difference: Paired

    @property
    def is_positive(self) -> bool:
        """Whether the teacher is better on average and in every seed."""
        return bool(self.difference.differences) and min(self.difference.differences.values()) > 0


@dataclass(frozen=True)
class Gain:
    """Student minus baseline in the primary metric.

    Attributes:
        gain: Fractions of images; None without a baseline.
        share: Gain divided by the teacher's lead, with Fieller's interval; None without both, or if no seed has both.
        images: McNemar's test, student first.
    """

    student: Student
    gain: Paired | None
    share: Interval | None
    images: ImageTest | None


@dataclass(frozen=True)
class Choice:
    """The best of several students that differ in their objective only.

    Attributes:
        members: The students to choose from, of one baseline, teacher, and set of seeds.
        best: The chosen one.
        metric: What it was chosen on.
        inflation: By how much its gain is overstated on average if all are equally good and it was chosen on the test set
            (fraction); 0 if it was chosen on validation images, None for one seed.
    """

    members: tuple[Gain, ...]
    best: Gain
    metric: str
    inflation: float | None


def leads(study: Study, members: Sequence[Student] | None = None) -> tuple[Lead, ...]:
    """Teacher minus baseline, for each pair that students compare.

    Self-distillation is left out if other students have a larger teacher, for which it is a control.
    """
    pairs: dict[tuple[str, ...], tuple[tuple[Condition, ...], Condition]] = {}
    every = students(study) if members is None else members
    for item in every:
        if item.teachers and item.baseline is not None and _has_lead(item, every):
            names = (*(teacher.name for teacher in item.teachers), item.baseline.name)
            pairs[names] = (item.teachers, item.baseline)
    return tuple(Lead(teachers, baseline, _lead(study, teachers, baseline)) for teachers, baseline in pairs.values())


def gains(study: Study, members: Sequence[Student] | None = None) -> tuple[Gain, ...]:
    """Each student minus its baseline."""
    every = students(study) if members is None else members
    return tuple(_gain(study, item, _has_lead(item, every)) for item in every)


def share_of(part: Paired, total: Paired) -> Interval | None:
    """One paired difference divided by another over the seeds that both have.

    None if there are none, or if the mean of the second is not above zero, because a share of a loss has no meaning.
    """
    seeds = [seed for seed in part.differences if seed in total.differences]
    if not seeds or fmean(total.differences[seed] for seed in seeds) <= 0:
        return None
    return ratio_interval([part.differences[seed] for seed in seeds], [total.differences[seed] for seed in seeds])


def choices(study: Study, every: Sequence[Gain]) -> tuple[Choice, ...]:
    """The best student of each group of students that are fair to compare. Emulated mistakes and placebos are left out."""
    groups: dict[tuple[object, ...], list[Gain]] = {}
    for item in every:
        student, gain = item.student, item.gain
        if student.is_genuine and gain is not None and student.baseline is not None and gain.differences:
            teachers = tuple(teacher.name for teacher in student.teachers)
            group = (student.baseline.name, teachers, student.is_self, tuple(sorted(gain.differences)))
            groups.setdefault(group, []).append(item)
    return tuple(_choice(study, group) for group in groups.values() if len(group) > 1)


def outcomes(condition: Condition, value: Callable[[Outcome], float | None]) -> dict[int, float]:
    """Seed to a value of the outcome, for each trial that finished with it."""
    values = {seed: value(trial.outcome) for seed, trial in condition.trials if trial.status == "finished"}
    return {seed: float(number) for seed, number in values.items() if number is not None}


def expected_maximum(k: int) -> float:
    """The expected maximum of k independent standard normal numbers, by the midpoint rule: 0.85 for 3, 1.49 for 9.

    Example:
        >>> round(expected_maximum(3), 2), round(expected_maximum(9), 2)
        (0.85, 1.49)
    """
    normal, width = NormalDist(), 16 / STEPS
    points = [-8 + width * (step + 0.5) for step in range(STEPS)]
    return sum(x * k * normal.pdf(x) * normal.cdf(x) ** (k - 1) for x in points) * width


def _has_lead(student: Student, members: Sequence[Student]) -> bool:
    """Whether its teacher is compared with its baseline."""
    return student.baseline not in student.teachers and (not student.is_self or all(item.is_self for item in members))


def _lead(study: Study, teachers: Sequence[Condition], baseline: Condition) -> Paired:
    if len(teachers) == 1:
        return difference(study, teachers[0], baseline)
    values = [teacher.outcomes(study.metric) for teacher in teachers]
    shared: Mapping[int, float] = {
        seed: fmean(member[seed] for member in values) for seed in values[0] if all(seed in member for member in values)
    }
    return paired(baseline.outcomes(study.metric), shared)


def _gain(study: Study, student: Student, has_lead: bool) -> Gain:
    if student.baseline is None:
        return Gain(student, None, None, None)
    gain = difference(study, student.condition, student.baseline)
    lead = _lead(study, student.teachers, student.baseline) if student.teachers and has_lead else None
    before = dict(student.baseline.trials)
    images = compare_images(
        (seed, trial.correct(), before[seed].correct())
        for seed, trial in student.condition.trials
        if seed in gain.differences
    )
    return Gain(student, gain, share_of(gain, lead) if lead is not None else None, images)


def _choice(study: Study, group: Sequence[Gain]) -> Choice:
    metric = SELECTION[study.metric]
    values = [item.student.condition.outcomes(metric) for item in group]
    seeds = set.intersection(*(set(item) for item in values))
    if seeds == set(group[0].gain.differences if group[0].gain is not None else ()):
        means = [fmean(item.values()) for item in values]
        return Choice(tuple(group), group[means.index(max(means))], metric, 0.0)
    best = max(group, key=lambda item: (item.gain.mean or 0.0) if item.gain is not None else 0.0)
    return Choice(tuple(group), best, study.metric, _inflation(group))


def _inflation(group: Sequence[Gain]) -> float | None:
    """The expected maximum of as many equal students, times the standard error of one of their means."""
    columns = [list(item.gain.differences.values()) for item in group if item.gain is not None]
    n = min(map(len, columns))
    if n < 2:
        return None
    seeds = list(zip(*columns, strict=True))  # what a seed adds to all students does not decide which one is best
    centered = [[value - fmean(row) for value in row] for row in seeds]
    deviation = (
        fmean(stdev(column) ** 2 for column in zip(*centered, strict=True)) * len(group) / (len(group) - 1)
    ) ** 0.5
    return expected_maximum(len(group)) * deviation / n**0.5
