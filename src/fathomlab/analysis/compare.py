"""The numbers of an experiment, which a report embeds, and the difference of two experiments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from fathomlab.analysis.statistics import Interval, mean_interval
from fathomlab.analysis.study import Condition, Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.analysis.wording import MINUS
from fathomlab.base.labels import Levels

OUTCOMES = ("finished", "diverged", "failed")
REL_TOL = 1e-12  # of equal numbers
Value = float | int | str | None
State = Literal["equal", "changed", "only first", "only second"]
T = TypeVar("T")


@dataclass(frozen=True)
class ConditionSummary:
    """A condition in numbers.

    Attributes:
        trials: Number of trials by status.
        metrics: Mean of each metric over finished trials with its 95% t interval, whose ends are None for one trial.
    """

    label: str
    role: str = "supervised"
    factors: Levels = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    trials: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class ClaimSummary:
    """The verdict on a claim and its mean effect (fraction or nats)."""

    name: str
    verdict: str
    effect: float | None = None


@dataclass(frozen=True)
class Summary:
    """An experiment in numbers, as a report embeds it."""

    conditions: tuple[ConditionSummary, ...]
    verdicts: tuple[ClaimSummary, ...] = ()


@dataclass(frozen=True)
class Difference:
    """One number, count, or verdict of two experiments.

    Attributes:
        what: Label of the condition, or the claim.
        metric: Name of the metric, count, or part of a verdict; `""` for the condition as a whole.
        first: None if only the second experiment has it.
        second: None if only the first experiment has it.
        change: Second minus first; None if one is missing or not a number.
    """

    what: str
    metric: str
    first: Value
    second: Value
    change: float | int | None
    state: State


def summarize_study(study: Study, verdicts: Sequence[Verdict]) -> Summary:
    """The numbers of an experiment and of the verdicts on its claims. Diverged trials have no metrics; they are counted."""
    claims = [
        ClaimSummary(verdict.claim.name, verdict.decision, verdict.effect.mean if verdict.effect else None)
        for verdict in verdicts
    ]
    return Summary(tuple(_condition(condition) for condition in study.conditions), tuple(claims))


def diff_summaries(first: Summary, second: Summary) -> list[Difference]:
    """Every metric of each condition, every number of trials, and every verdict of two experiments."""
    rows = []
    for label, a, b in _joined(_by_label(first), _by_label(second)):
        if a is None or b is None:
            rows.append(_difference(label, "", None if a is None else "", None if b is None else ""))
            continue
        for outcome in OUTCOMES:
            counts = a.trials.get(outcome, 0), b.trials.get(outcome, 0)
            rows.append(_difference(label, f"trials {outcome}", *counts))
        for metric, left, right in _joined(a.metrics, b.metrics):
            rows.append(_difference(label, metric, left and left.mean, right and right.mean))
    for name, a, b in _joined(_by_claim(first), _by_claim(second)):
        rows.append(_difference(f"claim: {name}", "verdict", a and a.verdict, b and b.verdict))
        rows.append(_difference(f"claim: {name}", "effect", a and a.effect, b and b.effect))
    return rows


def format_diff(rows: Sequence[Difference]) -> list[str]:
    """One line per row that is not equal, and the number of equal rows."""
    changed = [_line(row) for row in rows if row.state != "equal"]
    return [*changed, f"{len(rows) - len(changed)} of {len(rows)} numbers are equal."]


def _condition(condition: Condition) -> ConditionSummary:
    values: dict[str, list[float]] = {}
    for _, trial in condition.trials:
        for name, value in trial.metrics.items() if trial.status == "finished" else ():
            if value is not None:
                values.setdefault(name, []).append(value)
    return ConditionSummary(
        label=condition.record.label,
        role=condition.record.role,
        factors=condition.record.factors,
        seeds=tuple(seed for seed, _ in condition.trials),
        trials={outcome: condition.count(outcome) for outcome in OUTCOMES},
        metrics={name: mean_interval(group) for name, group in sorted(values.items())},
    )


def _by_label(summary: Summary) -> dict[str, ConditionSummary]:
    return {condition.label: condition for condition in summary.conditions}


def _by_claim(summary: Summary) -> dict[str, ClaimSummary]:
    return {verdict.name: verdict for verdict in summary.verdicts}


def _joined(first: Mapping[str, T], second: Mapping[str, T]) -> list[tuple[str, T | None, T | None]]:
    """Every key of either mapping with both values, None if missing."""
    return [(key, first.get(key), second.get(key)) for key in dict.fromkeys((*first, *second))]


def _difference(what: str, metric: str, first: Value, second: Value) -> Difference:
    if first is None and second is None:
        return Difference(what, metric, None, None, None, "equal")
    if first is None or second is None:
        return Difference(what, metric, first, second, None, "only second" if first is None else "only first")
    if isinstance(first, str) or isinstance(second, str):
        return Difference(what, metric, first, second, None, "equal" if first == second else "changed")
    change = second - first
    equal = abs(change) <= REL_TOL * max(abs(first), abs(second))
    return Difference(what, metric, first, second, change, "equal" if equal else "changed")


def _line(row: Difference) -> str:
    name = ", ".join(filter(None, (row.what, row.metric)))
    if row.state != "changed":
        value = _text(row.metric, row.first if row.state == "only first" else row.second)
        return f"{name}{f': {value},' if value else ':'} {row.state.replace('only', 'only in the')}"
    change = "" if row.change is None else f" ({_change(row.metric, row.change)})"
    return f"{name}: {_text(row.metric, row.first)} -> {_text(row.metric, row.second)}{change}"


def _text(metric: str, value: Value) -> str:
    if isinstance(value, float):
        text = f"{100 * value:.2f}%" if metric.endswith("accuracy") else f"{value:.6g}"
        return text.replace("-", MINUS)
    return str(value)


def _change(metric: str, change: float) -> str:
    text = f"{100 * change:+.2f} points" if metric.endswith("accuracy") else f"{change:+.4g}"
    return text.replace("-", MINUS)
