"""Published statements next to the results of this experiment."""

from collections.abc import Sequence
from dataclasses import dataclass

from fathomlab.analysis import wording
from fathomlab.analysis.audit import Audit
from fathomlab.analysis.published import Comparison, comparisons
from fathomlab.analysis.statistics import Interval
from fathomlab.analysis.study import Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.config.claims import Claim
from fathomlab.config.published import Published
from fathomlab.report.numbers import MINUS, count, span
from fathomlab.report.section import Section

QUICK = "not comparable"
LABELS = {"agrees": "agrees", "disagrees": "disagrees", "undecided": "undecided", "not tested": "not tested here"}
CLASSES = {"agrees": "supported", "disagrees": "refuted", "undecided": "undecided"}
NOT_TESTED = "No claim or number of this experiment tests it."


@dataclass(frozen=True)
class Row:
    """A statement and the result.

    Attributes:
        result: The result of this experiment in words.
        agreement: Whether they agree, in words.
        kind: CSS class of the agreement; "" for a neutral one.
    """

    statement: str
    source: str
    result: str
    agreement: str
    kind: str


@dataclass(frozen=True)
class PublishedStatements:
    """The content of the section.

    Attributes:
        quick: Whether this is a quick run, which has other data and networks.
    """

    rows: tuple[Row, ...]
    quick: bool


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section | None:
    """A row per published statement; None if the file has none."""
    quick = study.experiment.quick
    rows = tuple(statement_row(item, quick) for item in comparisons(study, verdicts))
    content = PublishedStatements(rows, quick)
    return Section("published", "Published statements and this run", content, link="Published") if rows else None


def statement_row(item: Comparison, quick: bool) -> Row:
    """A published statement and the result of this experiment in words."""
    tested = item.agreement != "not tested"
    agreement = QUICK if quick and tested else LABELS[item.agreement]
    kind = "" if quick else CLASSES.get(item.agreement, "")
    return Row(item.published.statement, item.published.source, _result(item), agreement, kind)


def _result(item: Comparison) -> str:
    if item.verdict is not None:
        return f"{item.verdict.claim.name}: {item.verdict.decision}. {wording.finding(item.verdict)}"
    claim, value = item.published.contrast, item.published.value
    if claim is None or value is None:
        return NOT_TESTED
    if item.result is None:
        return f"Published: {number(item.published, value)}. This run has no such result."
    return f"Published: {number(item.published, value)}. This run: {_measured(item.published, claim, item.result)}."


def number(published: Published, value: float) -> str:
    """A published number, or one of this run, with its unit.

    Example:
        >>> number(Published("a", value=-0.78, metric="parameters", factor="role", levels=("a", "b")), -0.7778)
        '77.8% fewer parameters'
    """
    single = len(published.levels) == 1
    if published.metric == "parameters":
        if single:
            return f"{value:,.0f} parameters"
        return f"{abs(100 * value):.3g}% {'fewer' if value < 0 else 'more'} parameters"
    if published.metric.endswith("accuracy"):
        return f"{100 * value:.4g}%" if single else f"{100 * value:+.2f} points".replace("-", MINUS)
    return f"{value:.4g} nats" if single else f"{value:+.4g} nats".replace("-", MINUS)


def _measured(published: Published, claim: Claim, result: Interval) -> str:
    text = number(published, result.mean)
    if published.metric == "parameters":
        return text
    scale = 100 if claim.in_points else 1
    ends = span(result, scale, sign=len(published.levels) > 1)
    return f"{text} ({f'95% interval {ends}, ' if ends else ''}{count(result.n, 'seed')})"
