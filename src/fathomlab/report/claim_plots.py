"""A claim's evidence as a dot plot: each seed's difference, the interval, zero, and the smallest effect that matters."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fathomlab.analysis.contrasts import Pair
from fathomlab.analysis.statistics import Interval
from fathomlab.analysis.verdicts import Verdict
from fathomlab.analysis.wording import notes, unit
from fathomlab.config.claims import Claim
from fathomlab.report.charts import MAX_DOTS, Chart, LegendEntry, width_of
from fathomlab.report.claims import contrast_text, scale
from fathomlab.report.figures.rows import Point, Row, row_figure
from fathomlab.report.figures.scales import linear_axis, range_of
from fathomlab.report.figures.style import HALF
from fathomlab.report.figures.svg import inline_svg
from fathomlab.report.grids import evenly_spaced_indices
from fathomlab.report.numbers import plain, significant
from fathomlab.report.tables import Table, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_NAMED = 12  # seeds with a labeled row; more seeds share a row
DASHED = "4,3"


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
    scaled = [_scaled(pair, factor) for pair in pairs]
    if success:
        levels = [side.level.split("=", 1)[-1] for side in verdict.success]
        description = f"{title}: each seed's accuracy (%) at each level, and the threshold of a success."
        threshold = None if claim.threshold is None else 100 * claim.threshold
        figure = claim_levels(levels, scaled, threshold, width_of(count))
        keys = [LegendEntry("seed", 0, shape="circle"), LegendEntry("threshold", "var(--muted)", dash=DASHED)]
    else:
        text = "mean with 95% interval" if effect is not None and effect.low is not None else "mean"
        description = (
            f"{title}: {contrast_text(claim)} ({unit(claim)}). Each seed's difference, the {text}, a line at zero, and "
            "dashed lines at the smallest effect that matters."
        )
        mean = effect and Interval(
            factor * effect.mean, _times(effect.low, factor), _times(effect.high, factor), effect.n
        )
        figure = claim_differences(scaled, mean, unit(claim), _thresholds(claim, factor), width_of(count))
        keys = [LegendEntry("seed", 0, shape="circle"), LegendEntry(text, 1, shape="diamond")]
        if claim.matters:
            keys.append(LegendEntry("smallest effect that matters", "var(--muted)", dash=DASHED))
    if any(pair.diverged for pair in pairs):
        keys.insert(1, LegendEntry(f"diverged (counts as {'failure' if success else 'chance'})", 0, shape="cross"))
        description += " Crosses mark seeds of which a trial diverged."
    description = " ".join([description, *notes(verdict)])
    svg = inline_svg(figure, name, title, description)
    return Chart(name, title, description, svg, _table(name, verdict), tuple(keys))


def _scaled(pair: Pair, factor: float) -> Pair:
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


def _table(name: str, verdict: Verdict) -> Table:
    claim, pairs = verdict.claim, verdict.contrast.pairs
    metric, measure = ("accuracy", "%") if claim.in_points else ("loss", "nats")
    columns = ["seed", f"first level: {metric} ({measure})", f"second level: {metric} ({measure})"]
    columns += [f"difference ({unit(claim)})", "diverged"]
    return table(name, columns, [_row(pair, claim.in_points) for pair in pairs])


def _row(pair: Pair, in_points: bool) -> Sequence[str]:
    values = [pair.first, pair.second, pair.difference]
    texts = [plain(None if value is None else 100 * value) if in_points else significant(value) for value in values]
    return [str(pair.seed), *texts, "yes" if pair.diverged else "no"]
