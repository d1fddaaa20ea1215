"""The tables of results on a page: conditions, claims, published or predicted numbers, and gradient slopes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from fathomlab.analysis import wording
from fathomlab.analysis.audit import Audit, summarize
from fathomlab.analysis.published import Comparison, comparisons
from fathomlab.analysis.statistics import mean_interval, wilson_interval
from fathomlab.analysis.study import Condition
from fathomlab.analysis.verdicts import Verdict
from fathomlab.base.labels import count
from fathomlab.config.claims import METRIC_NAMES
from fathomlab.export.publication.commands import run_command
from fathomlab.export.publication.markdown import REPEAT, code, interval, table, text
from fathomlab.export.publication.stored import Publication
from fathomlab.report.effects import accuracy
from fathomlab.report.numbers import plain
from fathomlab.report.sections.claims import claims_table, contrast_text, scale
from fathomlab.report.sections.published import statement_row
from fathomlab.report.slopes import Slopes

CLAIM_COLUMNS = (
    "smallest effect that matters",
    "p, one-sided",
    "p, Holm-corrected",
    "seeds",
    "diverged",
    "exploratory",
)
LATER = "added after the results"


@dataclass(frozen=True)
class Threshold:
    """A number that makes a seed a success.

    Attributes:
        later: Whether no claim of the file has it.
    """

    metric: str
    value: float
    later: bool = False


def conditions_table(item: Publication) -> str:
    """A row per condition: trials, accuracy, successes, training loss, and what the means exclude."""
    study, limits = item.study, thresholds(item)
    columns = ["condition", "trials", f"{METRIC_NAMES[study.metric].lower()} (%)"]
    columns += [f"seeds above {_above(limit)}" for limit in limits]
    columns += ["training loss (nats)", "training accuracy (%)", "excluded", REPEAT]
    rows = [_condition_row(item, condition, limits) for condition in study.conditions]
    return table(columns, rows)


def thresholds(item: Publication) -> list[Threshold]:
    """The thresholds of the claims, then those that were added later."""
    claims = [claim for claim in item.study.claims if claim.kind == "success" and claim.threshold is not None]
    declared = [Threshold(claim.metric, claim.threshold or 0.0) for claim in claims]
    known = {(limit.metric, limit.value) for limit in declared}
    later = [Threshold(item.study.metric, value, later=True) for value in item.checks.thresholds]
    return list(dict.fromkeys([*declared, *(limit for limit in later if (limit.metric, limit.value) not in known)]))


def claim_rows(item: Publication, verdicts: Sequence[Verdict]) -> str:
    """A row per claim with its verdict and numbers."""
    shown = claims_table(verdicts)
    places = [shown.columns.index(name) for name in CLAIM_COLUMNS]
    rows = [
        [
            text(verdict.claim.name),
            text(contrast_text(verdict.claim)),
            verdict.decision,
            _effect(verdict),
            *(text(row[place]) for place in places),
            code(run_command(item.study, item.file, _compared(verdict))),
        ]
        for verdict, row in zip(verdicts, shown.rows, strict=True)
    ]
    return table(["claim", "contrast", "verdict", "effect", *CLAIM_COLUMNS, REPEAT], rows, texts=3)


def claim_texts(verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> str:
    """How each verdict was decided, and what differs between the levels in addition to the factor."""
    lines = [
        " ".join([f"- **{text(verdict.claim.name)}**: {verdict.decision}.", *map(text, _decided(verdict, audit))])
        for verdict, audit in zip(verdicts, audits, strict=True)
    ]
    return "\n".join(lines)


def checks_table(item: Publication, verdicts: Sequence[Verdict], slopes: Sequence[Slopes]) -> str:
    """Every check: published statements, those that were added later, and predicted gradient slopes; "" without any."""
    later = replace(item.study, experiment=replace(item.study.experiment, published=item.checks.published))
    stated = {check.statement for check in item.checks.stated}  # these answer statements that the file does not test
    declared = [each for each in comparisons(item.study, verdicts) if each.published.statement not in stated]
    rows = [
        *(_statement(item, compared, "") for compared in declared),
        *(_statement(item, compared, LATER) for compared in comparisons(later, verdicts)),
        *_stated(item),
        *_predicted(item, slopes),
    ]
    return table(["published or predicted", "ours", "agrees", REPEAT], rows, texts=4) if rows else ""


def _condition_row(item: Publication, condition: Condition, limits: Sequence[Threshold]) -> list[str]:
    study = item.study
    shown = len(condition.outcomes(study.metric)), len(condition.trials)
    losses, correct = (condition.outcomes(name) for name in ("train/loss", "train/accuracy"))
    row = [text(condition.name), f"{shown[0]} of {shown[1]}", interval(accuracy(study, condition))]
    row += [_successes(condition, limit) for limit in limits]
    row.append(interval(mean_interval(list(losses.values())) if losses else None, digits=None))
    row.append(interval(mean_interval(list(correct.values())) if correct else None, 100))
    return [*row, condition.excluded(study.metric), code(run_command(study, item.file, [condition]))]


def _successes(condition: Condition, limit: Threshold) -> str:
    """How many seeds are above a threshold, with the interval of the fraction (%). A diverged seed is a failure."""
    values = list(condition.outcomes(limit.metric).values())
    hits, n = sum(value > limit.value for value in values), len(values) + condition.count("diverged")
    if not n:
        return ""
    ends = wilson_interval(hits, n)
    return f"{hits} of {n} ({plain(100 * (ends.low or 0.0), 0)} to {plain(100 * (ends.high or 0.0), 0)}%)"


def _above(limit: Threshold) -> str:
    words = f"{100 * limit.value:.4g}%"
    words += "" if limit.metric == "test/accuracy" else f" {METRIC_NAMES[limit.metric].lower()}"
    return f"{words} ({LATER})" if limit.later else words


def _effect(verdict: Verdict) -> str:
    in_points, unit = verdict.claim.in_points, wording.unit(verdict.claim)
    numbers = interval(verdict.effect, scale(verdict.claim), 2 if in_points else None)
    return f"{numbers} {unit}" if numbers else ""


def _decided(verdict: Verdict, audit: Audit) -> list[str]:
    exploratory = ["The claim was added after results existed."] if verdict.exploratory else []
    return [
        wording.finding(verdict),
        *exploratory,
        *wording.notes(verdict),
        *wording.details(verdict),
        *([f"Audit: {summarize(audit)}"] if verdict.effect is not None else []),
    ]


def _compared(verdict: Verdict) -> list[Condition]:
    return [condition for arm in verdict.contrast.arms for condition in arm.conditions]


def _statement(item: Publication, compared: Comparison, remark: str) -> list[str]:
    row = statement_row(compared, item.study.experiment.quick)
    claim = compared.published.contrast
    conditions = _compared(compared.verdict) if compared.verdict else []
    conditions += [each for level in claim.levels for each in item.study.selected(claim, level)] if claim else []
    command = code(run_command(item.study, item.file, conditions)) if conditions else ""
    return [
        _sourced(row.statement, "; ".join(filter(None, (row.source, remark)))),
        text(row.result),
        row.agreement,
        command,
    ]


def _stated(item: Publication) -> Iterator[list[str]]:
    for check in item.checks.stated:
        yield [_sourced(check.statement, check.source), text(check.ours), check.agrees, code(check.command)]


def _predicted(item: Publication, slopes: Sequence[Slopes]) -> Iterator[list[str]]:
    for each in slopes:
        if each.prediction is None or each.start is None:
            continue
        predicted = f"{plain(each.prediction.slope, 4)} \u00b1 {plain(each.prediction.tolerance, 4)} nats per layer"
        statement = f"Gradient slope at initialization, {each.condition.name}: {predicted}."
        ours = f"{interval(each.start, digits=4)}, {count(each.start.n, 'seed')}"
        command = code(run_command(item.study, item.file, [each.condition]))
        yield [_sourced(statement, each.prediction.source), ours, each.agreement, command]


def _sourced(statement: str, source: str) -> str:
    return f"{text(statement)} ({text(source)})" if source else text(statement)
