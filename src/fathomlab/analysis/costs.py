"""What networks cost: operations and seconds of training, of a teacher for its students, and of the trained network."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from fathomlab.analysis.options import network, number, option
from fathomlab.analysis.pairing import Student, students
from fathomlab.analysis.study import Condition, Study
from fathomlab.losses import LOSSES
from fathomlab.plan.recipe import BY_CLASS
from fathomlab.plan.trial import parent_hashes
from fathomlab.store.records import Speed, TrialRecord

BACKWARD = 3  # a training step costs three forward passes
PER_MAC = 2  # floating-point operations of a multiply-accumulate
VIEWS = {"crop": 81, "flip": 2}  # 9 x 9 offsets of a crop with padding 4
BYTES = {"fp32": 4, "fp16": 2, "int8": 1}  # of one parameter


@dataclass(frozen=True)
class Cost:
    """The cost of one trial of a condition, as means over its trials.

    Attributes:
        seconds: Training time, including forward passes of the teacher during training (s).
        table_seconds: Time to store outputs of the teacher (s); None if none were stored.
        teacher_seconds: Training time of its teachers, divided among the trials that learn from them (s); None without one.
        training: Multiply-accumulates of training.
        targets: Multiply-accumulates of the teacher's forward passes for its targets; None if they are unknown.
        teacher: Multiply-accumulates of its teachers' training, divided among the trials that learn from them.
    """

    condition: Condition
    seconds: float | None
    table_seconds: float | None = None
    teacher_seconds: float | None = None
    training: float | None = None
    targets: float | None = None
    teacher: float | None = None

    @property
    def total_seconds(self) -> float | None:
        """Time of a trial with its share of the teacher (s). None if its training time is unknown."""
        parts = (self.seconds, self.table_seconds, self.teacher_seconds)
        return None if self.seconds is None else sum(part for part in parts if part is not None)

    @property
    def total_macs(self) -> float | None:
        """Multiply-accumulates of a trial with its share of the teacher; None if its training is unknown."""
        parts = (self.training, self.targets, self.teacher)
        return None if self.training is None else sum(part for part in parts if part is not None)


@dataclass(frozen=True)
class Card:
    """What a trained network needs.

    Attributes:
        parameters: Number of parameters.
        macs: Multiply-accumulates of one image; None for modules of plugins.
        speeds: One per trial that measured its speed.
    """

    condition: Condition
    parameters: int | None
    macs: int | None
    speeds: tuple[Speed, ...]

    def size(self, format_: str) -> int | None:
        """Bytes of the parameters in a number format."""
        return None if self.parameters is None else BYTES[format_] * self.parameters


def training_operations(trial: TrialRecord) -> float | None:
    """Floating-point operations of a trial's training: 6 x multiply-accumulates x images x epochs; None if unknown.

    Each multiply-accumulate counts 2 operations forward and 4 backward. Evaluation and forward passes of a teacher are excluded.
    """
    forward, epochs = forward_macs(trial), number(trial, "training.epochs")
    images = training_images(trial)
    if forward is None or epochs is None or images is None:
        return None
    return float(PER_MAC * BACKWARD) * forward * images * epochs


def forward_macs(trial: TrialRecord) -> int | None:
    """Multiply-accumulates of its network for one image; None for modules of plugins."""
    model, info = network(trial), trial.dataset
    return model.architecture(info).macs if model is not None and info is not None else None


def training_images(trial: TrialRecord) -> int | None:
    """Number of images of an epoch."""
    if trial.dataset is None:
        return None
    images = number(trial, "data.limit") or trial.dataset.train_examples
    held_out = (number(trial, "data.validation_split") or 0.0) / 100
    return round(images * (1 - held_out))


def costs(study: Study) -> tuple[Cost, ...]:
    """The cost of the teachers, baselines, and students of an experiment, in the order of the plan."""
    members = {item.condition.name: item for item in students(study)}
    involved = {item.name for student in members.values() for item in _involved(student)}
    learners = Counter(
        name
        for trial in {trial.trial: trial for _, _, trial in study.trials}.values()
        for kind, name in parent_hashes(trial.content)
        if kind == "teacher"
    )
    records = {trial.trial: trial for _, _, trial in study.trials}
    return tuple(
        _cost(condition, members.get(condition.name), learners, records)
        for condition in study.conditions
        if condition.name in involved
    )


def cards(study: Study) -> tuple[Card, ...]:
    """What each trained network of a distillation experiment needs."""
    involved = {item.name for student in students(study) for item in _involved(student)}
    return tuple(_card(condition) for condition in study.conditions if condition.name in involved)


def _involved(student: Student) -> tuple[Condition, ...]:
    others = (student.baseline, student.longer)
    return (student.condition, *student.teachers, *(item for item in others if item is not None))


def _cost(
    condition: Condition, student: Student | None, learners: Counter[str], records: dict[str, TrialRecord]
) -> Cost:
    trials = [trial for _, trial in condition.trials]
    seconds = _mean([trial.seconds for trial in trials])
    training = _mean([_macs(trial) for trial in trials])
    if student is None:
        return Cost(condition, seconds, training=training)
    shares = [_teacher_shares(trial, student, seed, learners, records) for seed, trial in condition.trials]
    return Cost(
        condition,
        seconds,
        _stored([trial.table_seconds for trial in trials]),
        _mean([share[0] for share in shares]),
        training,
        _mean([_target_macs(trial, student) for trial in trials]),
        _mean([share[1] for share in shares]),
    )


def _macs(trial: TrialRecord) -> float | None:
    operations = training_operations(trial)
    return None if operations is None else operations / PER_MAC


def _teacher_shares(
    trial: TrialRecord, student: Student, seed: int, learners: Counter[str], records: dict[str, TrialRecord]
) -> tuple[float | None, float | None]:
    """Seconds and multiply-accumulates of the teachers' trainings, divided among the trials that learn from each."""
    names = [name for kind, name in parent_hashes(trial.content) if kind == "teacher" and name in records]
    teachers = [records[name] for name in names] or [
        record for item in student.teachers for at, record in item.trials if at == seed
    ]
    seconds, macs = [
        [None if value is None else value / max(1, learners[teacher.trial]) for teacher, value in pairs]
        for pairs in (
            [(teacher, teacher.seconds) for teacher in teachers],
            [(teacher, _macs(teacher)) for teacher in teachers],
        )
    ]
    return _sum(seconds), _sum(macs)


def _target_macs(trial: TrialRecord, student: Student) -> float | None:
    """Forward passes of the teachers: every view during training, or each stored view once.

    Without augmentation, outputs are stored, except for losses that read features of the teacher.
    """
    images, epochs = training_images(trial), number(trial, "training.epochs")
    forward = _sum([_first_macs(teacher) for teacher in student.teachers])
    if images is None or epochs is None or forward is None:
        return None
    targets = option(trial, "distillation.targets") or "on_the_fly"
    augment = option(trial, "data.augment")
    names = [str(name) for name in augment] if isinstance(augment, list | tuple) else []
    needs = _needs(student)
    if needs is None:
        return None
    if "teacher.features" in needs:
        return float(forward * images * epochs)
    if not names or student.placebo in BY_CLASS:
        return float(forward * images)
    if targets == "consistent":
        if any(name not in VIEWS for name in names):
            return None
        views = 1
        for name in names:
            views *= VIEWS[name]
        return float(forward * images * views)
    return float(forward * images * (epochs if targets == "on_the_fly" else 1))


def _needs(student: Student) -> frozenset[str] | None:
    """What its loss reads; None for losses of plugins."""
    if student.loss not in LOSSES:
        return None
    needs: frozenset[str] = LOSSES[student.loss].needs
    return needs


def _first_macs(condition: Condition) -> float | None:
    return next((float(macs) for _, trial in condition.trials if (macs := forward_macs(trial)) is not None), None)


def _card(condition: Condition) -> Card:
    macs = next((macs for _, trial in condition.trials if (macs := forward_macs(trial)) is not None), None)
    speeds = tuple(trial.speed for _, trial in condition.trials if trial.speed is not None)
    return Card(condition, condition.total_parameters, macs, speeds)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return fmean(known) if known else None


def _stored(seconds: Sequence[float | None]) -> float | None:
    """The mean time to store outputs, 0 for a trial that loaded them; None if no trial stored any."""
    return fmean(value or 0.0 for value in seconds) if any(seconds) else None


def _sum(values: Sequence[float | None]) -> float | None:
    """The sum; None if a term is unknown, or if there are none."""
    known = [float(value) for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None
