"""Claims by seed: a dot plot each, the table of all numbers, success rates, and the image-by-image comparison."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from fathomlab.analysis import wording
from fathomlab.analysis.audit import Audit
from fathomlab.analysis.contrasts import Pair
from fathomlab.analysis.statistics import Interval
from fathomlab.analysis.study import Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.base.labels import format_factor_level
from fathomlab.config.claims import Claim
from fathomlab.report.charts import MAX_DOTS, Chart, LegendEntry, width_of
from fathomlab.report.effects import bounded
from fathomlab.report.figures.rows import Point, Row, row_figure
from fathomlab.report.figures.scales import evenly_spaced_indices, linear_axis, range_of
from fathomlab.report.figures.style import HALF
from fathomlab.report.numbers import MINUS, format_int, listed, percent, plain, significant
from fathomlab.report.section import Section
from fathomlab.report.tables import Table, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_NAMED = 12  # seeds with a labeled row; more seeds share a row
DASHED = "4,3"
EXPECTED = {"greater": "above", "less": "below", "equal": "within \u00b1"}


@dataclass(frozen=True)
class Claims:
    """The content of the section.

    Attributes:
        charts: The claims that were declared before results existed.
        exploratory: The other claims.
        images: McNemar's test of each claim; None if predictions are not stored.
    """

    note: str
    charts: tuple[Chart, ...]
    exploratory: tuple[Chart, ...]
    table: Table
    successes: Table | None
    images: Table | None


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section | None:
    """The evidence for each claim."""
    if not verdicts:
        return None
    content = Claims(
        note=claims_note(verdicts),
        charts=_charts(verdicts, exploratory=False),
        exploratory=_charts(verdicts, exploratory=True),
        table=claims_table(verdicts),
        successes=success_table(verdicts),
        images=images_table(verdicts),
    )
    return Section("claims", "Claims by seed", content, link="Claims")


def _charts(verdicts: Sequence[Verdict], exploratory: bool) -> tuple[Chart, ...]:
    shown = [item for item in enumerate(verdicts, start=1) if item[1].exploratory is exploratory]
    charts = (claim_chart(number, verdict, len(shown)) for number, verdict in shown)
    return tuple(chart for chart in charts if chart is not None)


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
        [verdict.claim.name, side.level, str(side.successes), str(side.n), percent(side.low), percent(side.high)]
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


def claim_differences(
    seeds: Sequence[Pair], mean: Interval | None, unit: str, thresholds: Sequence[float], width: int = HALF
) -> "Figure":
    """Draw each seed's difference and the mean with its interval.

    Args:
        seeds: A row each, or one row for all if there are many.
        mean: Mean difference with its interval.
        unit: Unit of the differences.
        thresholds: Smallest effects that matter; dashed.
        width: Width in pixels.
    """
    if len(seeds) <= MAX_NAMED:
        rows = [Row(f"seed {item.seed}", (Point(item.difference, item.diverged),)) for item in seeds]
    else:
        shown = _some(seeds)
        shifts = [0.8 * (index / (len(shown) - 1) - 0.5) for index in range(len(shown))]
        points = [Point(item.difference, item.diverged, shift) for item, shift in zip(shown, shifts, strict=True)]
        label = "all seeds" if len(shown) == len(seeds) else f"{len(shown)} of {len(seeds):,} seeds"
        rows = [Row(label, tuple(points))]
    if mean is not None:
        rows.append(Row("mean", mean=mean, diamond=True))
    ends = [end for end in (mean.low, mean.mean, mean.high) if end is not None] if mean is not None else []
    low, high = range_of([*(item.difference for item in seeds), *ends, *thresholds, 0.0])
    x = linear_axis(f"difference ({unit})", low, high)
    return row_figure(rows, x, width, zero=True, dashed=thresholds, row=17 if len(rows) > 2 else 40)


def claim_levels(levels: Sequence[str], seeds: Sequence[Pair], threshold: float | None, width: int = HALF) -> "Figure":
    """Draw each seed's accuracy (%) at each level. A seed that diverged has a cross at 0.

    Args:
        levels: Names of the two levels.
        seeds: Seeds with accuracies (%).
        threshold: Threshold of a success (%); dashed.
        width: Width in pixels.
    """
    shown = _some(seeds)
    sides = ([item.first for item in shown], [item.second for item in shown])
    rows = [
        Row(name, tuple(Point(value or 0.0, value is None) for value in values))
        for name, values in zip(levels, sides, strict=False)
    ]
    dashed = () if threshold is None else (threshold,)
    return row_figure(rows, linear_axis("test accuracy (%)", 0, 100), width, dashed=dashed, row=36)


def _some(seeds: Sequence[Pair]) -> Sequence[Pair]:
    """The seeds that are drawn: all, or `MAX_DOTS` from the smallest to the largest difference."""
    ordered = sorted(seeds, key=lambda item: item.difference)
    return seeds if len(seeds) <= MAX_DOTS else [ordered[i] for i in evenly_spaced_indices(len(seeds), MAX_DOTS)]


def claim_chart(index: int, verdict: Verdict, count: int = 1) -> Chart | None:
    """The dot plot of one verdict; None if no seed has a value.

    Args:
        index: Number of the claim, starting at 1.
        verdict: The verdict.
        count: Number of claims on the page.
    """
    claim, pairs, effect = verdict.claim, verdict.contrast.pairs, verdict.effect
    if not pairs:
        return None
    name, title, success, factor = f"claim-{index}", claim.name, claim.kind == "success", scale(claim)
    scaled = [_scaled_pair(pair, factor) for pair in pairs]
    if success:
        levels = [side.level.split("=", 1)[-1] for side in verdict.success]
        description = f"{title}: each seed's accuracy (%) at each level, and the threshold of a success."
        threshold = None if claim.threshold is None else 100 * claim.threshold
        draw = partial(claim_levels, levels, scaled, threshold, width_of(count))
        keys = [LegendEntry("seed", 0, shape="circle"), LegendEntry("threshold", "var(--muted)", dash=DASHED)]
    else:
        text = "mean with 95% interval" if effect is not None and effect.low is not None else "mean"
        description = (
            f"{title}: {contrast_text(claim)} ({wording.unit(claim)}). Each seed's difference, the {text}, a line at zero, and "
            "dashed lines at the smallest effect that matters."
        )
        mean = effect and Interval(
            factor * effect.mean, _times(effect.low, factor), _times(effect.high, factor), effect.n
        )
        mean = bounded(mean, -100.0) if mean and claim.in_points and claim.kind != "trend" else mean
        draw = partial(
            claim_differences, scaled, mean, wording.unit(claim), _thresholds(claim, factor), width_of(count)
        )
        keys = [LegendEntry("seed", 0, shape="circle"), LegendEntry(text, 1, shape="diamond")]
        if claim.matters:
            keys.append(LegendEntry("smallest effect that matters", "var(--muted)", dash=DASHED))
    if any(pair.diverged for pair in pairs):
        keys.insert(1, LegendEntry(f"diverged (counts as {'failure' if success else 'chance'})", 0, shape="cross"))
        description += " Crosses mark seeds of which a trial diverged."
    description = " ".join([description, *wording.notes(verdict)])
    return Chart(name, title, description, draw, _seeds_table(name, verdict), tuple(keys))


def _scaled_pair(pair: Pair, factor: float) -> Pair:
    """A pair in the unit of its claim."""
    first, second = _times(pair.first, factor), _times(pair.second, factor)
    return replace(pair, first=first, second=second, difference=factor * pair.difference)


def _thresholds(claim: Claim, factor: float) -> tuple[float, ...]:
    """Where an effect begins to matter, in the unit of the claim."""
    matters = factor * claim.matters
    if not matters:
        return ()
    return {"less": (-matters,), "equal": (-matters, matters), "greater": (matters,)}[claim.expect]


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else factor * value


def _seeds_table(name: str, verdict: Verdict) -> Table:
    claim, pairs = verdict.claim, verdict.contrast.pairs
    metric, measure = ("accuracy", "%") if claim.in_points else ("loss", "nats")
    columns = ["seed", f"first level: {metric} ({measure})", f"second level: {metric} ({measure})"]
    columns += [f"difference ({wording.unit(claim)})", "diverged"]
    return table(name, columns, [_seed_row(pair, claim.in_points) for pair in pairs])


def _seed_row(pair: Pair, in_points: bool) -> Sequence[str]:
    values = [pair.first, pair.second, pair.difference]
    texts = [plain(None if value is None else 100 * value) if in_points else significant(value) for value in values]
    return [str(pair.seed), *texts, "yes" if pair.diverged else "no"]
