"""Which conditions a student is compared with: its teacher, its baseline, its controls; and differences paired by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from fathomlab.analysis.expected import was_tuned
from fathomlab.analysis.statistics import Interval, paired_interval
from fathomlab.analysis.study import Condition, Study, exclusions
from fathomlab.base.codec import JsonObject
from fathomlab.base.identity import canonical_json
from fathomlab.base.labels import flatten_keys
from fathomlab.plan.trial import parent_hashes

# What a student's baseline may differ in. Probes and the format of a record change no number.
IGNORED = ("distillation", "parents", "seed", "probes", "plugins", "format")
LOGITS = "Distillation"  # the loss of a section with `temperature` and `alpha`


@dataclass(frozen=True)
class Student:
    """A condition that learns from teachers.

    Attributes:
        baseline: The condition without a teacher whose options are equal except for `distillation`; None if there is none.
        teachers: The conditions of its teachers, the members of an ensemble; empty if the experiment does not contain them.
        longer: A condition like the baseline with more epochs, such as the equal-compute baseline; None if there is none.
        section: Its options in `distillation`.
        is_self: Whether its teacher has the same model.
        emulated: The classic mistakes that it emulates (`training.emulate`).
    """

    condition: Condition
    baseline: Condition | None
    teachers: tuple[Condition, ...]
    longer: Condition | None
    section: JsonObject
    is_self: bool
    emulated: tuple[str, ...]

    @property
    def teacher(self) -> Condition | None:
        """Its only teacher; None for an ensemble or an unknown teacher."""
        return self.teachers[0] if len(self.teachers) == 1 else None

    @property
    def placebo(self) -> str:
        """Which placebo its targets are; "" if they are the teacher's."""
        return str(self.section.get("placebo") or "")

    @property
    def is_genuine(self) -> bool:
        """Whether it learns from a teacher's own targets, without an emulated mistake."""
        return not self.placebo and not self.emulated

    @property
    def loss(self) -> str:
        """Name of its loss."""
        return str(_loss(self.section).get("type", LOGITS))

    @property
    def options(self) -> Mapping[str, Any]:
        """The options of its loss."""
        if "loss" in self.section:
            params = _loss(self.section).get("params", {})
            return cast("Mapping[str, Any]", params) if isinstance(params, Mapping) else {}
        return {key: self.section[key] for key in ("alpha", "temperature") if key in self.section}

    @property
    def objective(self) -> str:
        """Everything in its section except for placebo and targets; equal for a student and its placebos."""
        rest = {key: value for key, value in self.section.items() if key not in ("placebo", "targets")}
        return _text(rest, self.condition)

    @property
    def teacher_trials(self) -> frozenset[str]:
        """Hashes of the different teachers of its trials."""
        named = {name for _, trial in self.condition.trials for name in _teachers(trial.content)}
        return frozenset(named or {trial.trial for teacher in self.teachers for _, trial in teacher.trials})


@dataclass(frozen=True)
class Paired:
    """Second minus first condition, seed by seed.

    Attributes:
        differences: Seed to difference, for each pair that has both values.
        excluded: Which pairs have none: "2 of 5 diverged"; "" if all have one.
    """

    differences: Mapping[int, float]
    excluded: str = ""

    @cached_property
    def interval(self) -> Interval | None:
        """Mean with its 95% t interval; None without a pair."""
        return paired_interval(list(self.differences.values())) if self.differences else None

    @property
    def mean(self) -> float | None:
        """Mean over the pairs."""
        return self.interval.mean if self.interval is not None else None

    @property
    def is_positive(self) -> bool:
        """Whether the mean is above zero."""
        return self.mean is not None and self.mean > 0

    @property
    def is_clear(self) -> bool:
        """Whether the 95% interval excludes zero."""
        ends = (None, None) if self.interval is None else (self.interval.low, self.interval.high)
        return any(end is not None and sign * end > 0 for end, sign in zip(ends, (1, -1), strict=True))


def students(study: Study) -> tuple[Student, ...]:
    """The conditions that learn from teachers, in the order of the plan."""
    taught = [condition for condition in study.conditions if _has_teacher(condition)]
    if not taught:  # most experiments; a report asks a dozen times
        return ()
    index = _Index(study)
    return tuple(index.student(condition) for condition in taught)


def difference(study: Study, second: Condition, first: Condition, metric: str = "") -> Paired:
    """Second minus first condition in a metric; by default the primary metric (fractions of images)."""
    name = metric or study.metric
    values = paired(first.outcomes(name), second.outcomes(name))
    seeds = [seed for seed, _ in second.trials if seed in dict(first.trials)]
    reasons = [first.missing(name), second.missing(name)]
    lost = [[reason[seed] for reason in reasons if seed in reason] for seed in seeds if seed not in values.differences]
    worst = ["diverged" if "diverged" in texts else texts[0] for texts in lost if texts]
    return Paired(values.differences, exclusions(worst, len(seeds)))


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Paired:
    """Second minus first, for each seed that both have."""
    return Paired({seed: second[seed] - first[seed] for seed in first if seed in second})


def placebo_of(condition: Condition) -> str:
    """The placebo that replaces the outputs of its teacher; "" for none."""
    section = _content(condition).get("distillation")
    return str(section.get("placebo") or "") if isinstance(section, Mapping) else ""


def emulated_mistakes(condition: Condition) -> tuple[str, ...]:
    """The classic mistakes of distillation that a condition emulates on purpose, by name."""
    training = _content(condition).get("training")
    names = cast("Mapping[str, object]", training).get("emulate") if isinstance(training, Mapping) else None
    return tuple(map(str, cast("list[object]", names))) if isinstance(names, list | tuple) else ()


def teacher_count(members: Sequence[Student]) -> int:
    """How many different teachers the trials of these students have. Trials of one teacher are one teacher."""
    return len(frozenset[str]().union(*(member.teacher_trials for member in members)))


def _has_teacher(condition: Condition) -> bool:
    content = _content(condition)
    return "distillation" in content if content else condition.record.role == "distilled"


class _Index:
    """The conditions of a study by their options."""

    def __init__(self, study: Study):
        self.study = study
        self.conditions = {item.name: item for item in study.conditions}
        self.owner = {trial.trial: item.name for item in study.conditions for _, trial in item.trials}
        self.keys = {item.name: self._key(item) for item in study.conditions}
        self.alone: dict[str, list[Condition]] = {}
        self.by_epochs: dict[str, list[Condition]] = {}
        for item in study.conditions:
            if not _has_teacher(item) and _content(item):
                self.alone.setdefault(self.keys[item.name], []).append(item)
                self.by_epochs.setdefault(self._key(item, "epochs"), []).append(item)

    def student(self, condition: Condition) -> Student:
        content = _content(condition)
        section = content.get("distillation")
        teachers = self._teachers(condition)
        models = {_model(teacher) for teacher in teachers}
        return Student(
            condition=condition,
            baseline=self._baseline(condition, teachers),
            teachers=teachers,
            longer=self._longer(condition, teachers),
            section=cast("JsonObject", dict(section)) if isinstance(section, Mapping) else {},
            is_self="model" in content and models == {_model(condition)},
            emulated=emulated_mistakes(condition),
        )

    def _teachers(self, condition: Condition) -> tuple[Condition, ...]:
        hashes = next((names for _, trial in condition.trials if (names := _teachers(trial.content))), ())
        if hashes:
            names = [self.owner[name] for name in hashes if name in self.owner]
            return tuple(self.conditions[name] for name in dict.fromkeys(names)) if len(names) == len(hashes) else ()
        teacher = self.study.partner(condition, "teacher")
        return () if teacher is None else (teacher,)

    def _baseline(self, condition: Condition, teachers: Sequence[Condition]) -> Condition | None:
        if not _content(condition):
            return self.study.partner(condition, "baseline")
        candidates = self.alone.get(self.keys[condition.name], [])
        return min(candidates, key=lambda item: self._distance(item, condition, teachers), default=None)

    def _longer(self, condition: Condition, teachers: Sequence[Condition]) -> Condition | None:
        epochs = _epochs(condition)
        candidates = self.by_epochs.get(self._key(condition, "epochs"), []) if epochs is not None else []
        chosen = [item for item in candidates if item not in teachers and (_epochs(item) or 0) > (epochs or 0)]
        return min(chosen, key=lambda item: self._distance(item, condition, teachers), default=None)

    def _distance(self, item: Condition, student: Condition, teachers: Sequence[Condition]) -> tuple[bool, bool, int]:
        """Orders conditions with equal options: teachers last, baselines of the lab first, then by different factors."""
        levels = student.record.factors
        differ = sum(levels[key] != level for key, level in item.record.factors.items() if key in levels)
        return item in teachers, item.record.role != "baseline", differ

    def _key(self, condition: Condition, *ignored: str) -> str:
        """The options of a condition as text; equal for conditions that differ in their teachers and tuned options only."""
        content = _content(condition)
        rest: JsonObject = {key: value for key, value in content.items() if key not in IGNORED}
        training = content.get("training")
        if isinstance(training, Mapping):
            rest["training"] = {key: value for key, value in training.items() if key not in ("emulate", *ignored)}
        seed = next((seed for seed, trial in condition.trials if trial.content), 0)
        root = content.get("seed", seed)
        offset = root - seed if isinstance(root, int) else 0
        start = [self.owner.get(name, name) for kind, name in parent_hashes(content) if kind == "start"]
        if condition.choice is not None:
            tuned, roles = tuple(condition.choice.picked.levels), (condition.record.role,)
            rest = {key: value for key, value in flatten_keys(rest).items() if not was_tuned(key, tuned, roles)}
        return _text([rest, offset, start], condition)


def _content(condition: Condition) -> JsonObject:
    """The options of its first trial that is readable."""
    return next((trial.content for _, trial in condition.trials if trial.content), {})


def _model(condition: Condition) -> tuple[str, int | None]:
    """Model and number of parameters; equal for conditions with the same model."""
    return _text(_content(condition).get("model"), condition), condition.total_parameters


def _text(value: object, condition: Condition) -> str:
    """Canonical JSON; the name of the condition for what is never written: 1e999, endless nesting."""
    try:
        return canonical_json(value)
    except (ValueError, RecursionError):
        return condition.name


def _teachers(content: JsonObject) -> tuple[str, ...]:
    return tuple(name for kind, name in parent_hashes(content) if kind == "teacher")


def _loss(section: JsonObject) -> Mapping[str, Any]:
    loss = section.get("loss")
    return cast("Mapping[str, Any]", loss) if isinstance(loss, Mapping) else {}


def _epochs(condition: Condition) -> int | None:
    training = _content(condition).get("training")
    epochs = training.get("epochs") if isinstance(training, Mapping) else None
    return epochs if isinstance(epochs, int) else None
