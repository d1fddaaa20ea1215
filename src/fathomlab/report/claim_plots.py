"""A claim's evidence as a dot plot: each seed's difference, the interval, zero, and the smallest effect that matters."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fathomlab.analysis.contrasts import Pair
from fathomlab.analysis.statistics import Interval
from fathomlab.analysis.verdicts import Verdict
from fathomlab.analysis.wording import notes, unit
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


def claim_differences(verdict: Verdict, width: int = HALF) -> "Figure":
    """Draw each seed's difference and the mean with its interval; dashed lines at the smallest effects that matter.

    Args:
        verdict: Seeds have a row each, or one row for all if there are many.
        width: Width in pixels.
    """
    claim, factor = verdict.claim, scale(verdict.claim)
    pairs = [replace(pair, difference=factor * pair.difference) for pair in _some(verdict.contrast.pairs)]
    if len(pairs) <= MAX_NAMED:
        rows = [Row(f"seed {pair.seed}", (Point(pair.difference, pair.diverged),)) for pair in pairs]
    else:
        shifts = [0.8 * (index / (len(pairs) - 1) - 0.5) for index in range(len(pairs))]
        points = (Point(pair.difference, pair.diverged, shift) for pair, shift in zip(pairs, shifts, strict=True))
        total = len(verdict.contrast.pairs)
        rows = [Row("all seeds" if len(pairs) == total else f"{len(pairs)} of {total:,} seeds", tuple(points))]
    mean = _scaled(verdict.effect, factor)
    if mean is not None:
        rows.append(Row("mean", mean=mean, diamond=True))
    matters = factor * claim.matters
    borders = (
        {"less": (-matters,), "equal": (-matters, matters), "greater": (matters,)}[claim.expect] if matters else ()
    )
    ends = [end for end in (mean.low, mean.mean, mean.high) if end is not None] if mean is not None else []
    low, high = range_of([*(pair.difference for pair in pairs), *ends, *borders, 0.0])
    x = linear_axis(f"difference ({unit(claim)})", low, high)
    return row_figure(rows, x, width, zero=True, dashed=borders, row=17 if len(rows) > 2 else 40)


def claim_levels(verdict: Verdict, width: int = HALF) -> "Figure":
    """Draw each seed's accuracy (%) at each level, and the threshold of a success. A diverged seed has a cross at 0."""
    pairs, threshold = _some(verdict.contrast.pairs), verdict.claim.threshold
    sides = ([pair.first for pair in pairs], [pair.second for pair in pairs])
    rows = [
        Row(side.level.split("=", 1)[-1], tuple(Point(100 * (value or 0.0), value is None) for value in values))
        for side, values in zip(verdict.success, sides, strict=False)
    ]
    dashed = () if threshold is None else (100 * threshold,)
    return row_figure(rows, linear_axis("test accuracy (%)", 0, 100), width, dashed=dashed, row=36)


def claim_chart(number: int, verdict: Verdict, count: int = 1) -> Chart | None:
    """The dot plot of one verdict; None if no seed has a value.

    Args:
        number: Number of the claim, starting at 1.
        verdict: The verdict.
        count: Number of such charts on the page.
    """
    claim, pairs, width = verdict.claim, verdict.contrast.pairs, width_of(count)
    if not pairs:
        return None
    name, title, success = f"claim-{number}", verdict.claim.name, verdict.claim.kind == "success"
    if success:
        description = f"{title}: each seed's accuracy (%) at each level, and the threshold of a success."
        figure = claim_levels(verdict, width)
        keys = [LegendEntry("seed", 0, shape="circle"), LegendEntry("threshold", "var(--muted)", dash=DASHED)]
    else:
        interval = verdict.effect is not None and verdict.effect.low is not None
        mean = "mean with 95% interval" if interval else "mean"
        description = (
            f"{title}: {contrast_text(claim)} ({unit(claim)}). Each seed's difference, the {mean}, a line at zero, and "
            "dashed lines at the smallest effect that matters."
        )
        figure = claim_differences(verdict, width)
        keys = [LegendEntry("seed", 0, shape="circle"), LegendEntry(mean, 1, shape="diamond")]
        if claim.matters:
            keys.append(LegendEntry("smallest effect that matters", "var(--muted)", dash=DASHED))
    if any(pair.diverged for pair in pairs):
        keys.insert(1, LegendEntry(f"diverged (counts as {'failure' if success else 'chance'})", 0, shape="cross"))
        description += " Crosses mark seeds of which a trial diverged."
    description = " ".join([description, *notes(verdict)])
    svg = inline_svg(figure, name, title, description)
    return Chart(name, title, description, svg, _table(name, verdict), tuple(keys))


def _some(pairs: Sequence[Pair]) -> Sequence[Pair]:
    """The seeds that are drawn: all, or `MAX_DOTS` from the smallest to the largest difference."""
    ordered = sorted(pairs, key=lambda pair: pair.difference)
    return pairs if len(pairs) <= MAX_DOTS else [ordered[i] for i in evenly_spaced_indices(len(pairs), MAX_DOTS)]


def _scaled(interval: Interval | None, factor: float) -> Interval | None:
    if interval is None:
        return None
    low, high = (None if end is None else factor * end for end in (interval.low, interval.high))
    return Interval(factor * interval.mean, low, high, interval.n)


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
