"""Claims and their verdicts: a card each, the table of all numbers, success rates, and the image-by-image comparison."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from fathomlab.analysis import wording
from fathomlab.analysis.audit import Audit, summarize
from fathomlab.analysis.verdicts import Decision, Verdict
from fathomlab.base.labels import format_factor_level
from fathomlab.config.claims import Claim
from fathomlab.report.numbers import MINUS, format_int, listed, plain, significant
from fathomlab.report.tables import Table, table

DECISIONS: tuple[Decision, ...] = get_args(Decision)
MEANINGS = {
    "supported": "The data agree with the claim.",
    "refuted": "The data contradict the claim.",
    "undecided": "There is not enough evidence yet.",
}
EXPECTED = {"greater": "above", "less": "below", "equal": "within \u00b1"}


@dataclass(frozen=True)
class Card:
    """A verdict as a card.

    Attributes:
        meaning: The verdict's word, explained.
        title: The claim.
        text: What the seeds show, in plain words.
        details: Test names, levels, p-values, and notes.
        audit: What differs between the levels except the factor; "" if nothing was compared.
        confounded: Whether a difference does not follow from the factor.
        added: Whether seeds were added after results.
    """

    kind: Decision
    meaning: str
    title: str
    text: str
    details: tuple[str, ...]
    audit: str
    confounded: bool
    exploratory: bool
    added: bool


def card(verdict: Verdict, audit: Audit) -> Card:
    """The card of one verdict with the summary of its audit."""
    text = wording.finding(verdict)
    return Card(
        kind=verdict.decision,
        meaning=MEANINGS[verdict.decision],
        title=verdict.claim.name or text,
        text=text if verdict.claim.name else "",
        details=(*wording.details(verdict), *wording.notes(verdict)),
        audit=summarize(audit) if audit.findings else "",
        confounded=bool(audit.unexpected),
        exploratory=verdict.exploratory,
        added=verdict.looks.changed,
    )


def contrast_text(claim: Claim) -> str:
    """What a claim compares, in words: "residual − plain at depth 5".

    Example:
        >>> contrast_text(Claim("a", "residual", (True, False), "greater", at={"hidden_layers_num": 5}))
        'residual − plain at depth 5'
    """
    levels = [format_factor_level(claim.factor, level) for level in claim.levels]
    if claim.factor == "role":
        levels = [str(level) for level in claim.levels]
    if claim.kind == "trend":
        values = [text.rsplit(" ", 1)[-1] for text in levels]
        text = f"trend over {format_factor_level(claim.factor, '').strip()} {', '.join(values)}"
    elif claim.reference is not None:
        reference = f"{100 * claim.reference:.4g}%" if claim.in_points else f"{claim.reference:.4g} nats"
        text = f"{levels[0]} {MINUS} {reference}"
    else:
        text = f" {MINUS} ".join(levels)
    if claim.threshold is not None:
        text = f"seeds above {100 * claim.threshold:.4g}%: {text}"
    others = listed([format_factor_level(key, level) for key, level in claim.at.items()])
    return f"{text} at {others}" if others else text


def claims_table(verdicts: Sequence[Verdict]) -> Table:
    """Every number of every verdict. The unit column gives the unit of the effects."""
    columns = ["claim", "contrast", "verdict", "effect", "95% low", "95% high", "unit", "smallest effect that matters"]
    columns += ["p, one-sided", "p, Holm-corrected", "p, sign-flip test", "minimum sign-flip p"]
    columns += ["smallest detectable effect", "seeds", "diverged", "standard deviation", "correlation"]
    columns += ["extra seeds needed (est.)", "exploratory"]
    return table("claims", columns, [_row(verdict) for verdict in verdicts], texts=3)


def claims_note(verdicts: Sequence[Verdict]) -> str:
    """What the marks of the dot plots are; mentions only what there is."""
    means = [verdict for verdict in verdicts if verdict.claim.kind != "success"]
    texts = ["Each dot is one seed."]
    if any(verdict.effect is not None and verdict.effect.low is not None for verdict in means):
        texts.append("Bar: 95% confidence interval of the mean.")
    if any(verdict.claim.matters for verdict in means):
        texts.append("Dashed: smallest effect that matters.")
    if len(means) < len(verdicts):
        texts.append("Success rates: dashed is the threshold of a success.")
    return f'{" ".join(texts)} Test statistics: under "All numbers of each claim".'


def success_table(verdicts: Sequence[Verdict]) -> Table | None:
    """Success rates with their 95% Wilson intervals; None without success claims."""
    rows = [
        [
            verdict.claim.name,
            side.level,
            str(side.successes),
            str(side.n),
            *(_scaled(end, 100) for end in (side.low, side.high)),
        ]
        for verdict in verdicts
        for side in verdict.success
    ]
    columns = ["claim", "level", "seeds above threshold", "seeds", "Wilson 95% low (%)", "Wilson 95% high (%)"]
    return table("successes", columns, rows, texts=2) if rows else None


def images_table(verdicts: Sequence[Verdict]) -> Table | None:
    """McNemar's exact test on the test images, over all seeds and per seed; None if predictions are not stored."""
    rows: list[list[str]] = []
    for verdict in verdicts:
        images = verdict.images
        if images is None:
            continue
        excluded = f" ({len(images.excluded)} excluded)" if images.excluded else ""
        tests = [(f"all {images.seeds}{excluded}", images), *((f"seed {seed.seed}", seed) for seed in images.each)]
        rows += [[verdict.claim.name, seeds, str(test.b), str(test.c), _p(test.p)] for seeds, test in tests]
    columns = ["claim", "seeds", "correct only at the first level", "correct only at the second level", "p, two-sided"]
    return table("mcnemar", columns, rows, texts=2) if rows else None


def scale(claim: Claim) -> float:
    """Factor from an effect to the unit in which the page shows it: 100 for points, 1 for nats."""
    return 100.0 if claim.in_points else 1.0


def _row(verdict: Verdict) -> list[str]:
    claim, effect, tests, factor = verdict.claim, verdict.effect, verdict.tests, scale(verdict.claim)
    flips = tests.sign_flip
    ends = (effect.mean, effect.low, effect.high) if effect else (None, None, None)
    row = [verdict.claim.name, contrast_text(claim), verdict.decision, *(_scaled(end, factor) for end in ends)]
    row += [wording.unit(claim), f"{EXPECTED[claim.expect]} {_scaled(claim.matters, factor)}"]
    row += [_p(p) for p in (tests.p, tests.p_holm, flips.p if flips else None, flips.floor if flips else None)]
    row += [_scaled(verdict.advice.detectable, factor), str(verdict.n)]
    row += [listed([str(len(arm.diverged)) for arm in verdict.contrast.arms]), _scaled(tests.sd, factor)]
    row += [plain(tests.correlation, 2), format_int(verdict.advice.more_seeds)]
    return [*row, "yes" if verdict.exploratory else "no"]


def _scaled(value: float | None, factor: float) -> str:
    if value is None:
        return ""
    return plain(factor * value) if factor == 100 else significant(value)


def _p(value: float | None) -> str:
    """A probability for a table: three digits, or scientific notation below 0.0001."""
    if value is None:
        return ""
    return f"{value:.3g}" if value >= 1e-4 or value == 0 else f"{value:.1e}"
