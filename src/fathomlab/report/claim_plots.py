"""A claim's evidence as a dot plot: each seed's difference, the interval, zero, and the smallest effect that matters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fathomlab.analysis.statistics import Interval
from fathomlab.report.charts import MAX_DOTS, Chart, LegendEntry, width_of
from fathomlab.report.claims import contrast_text, threshold, unit
from fathomlab.report.figures.rows import Point, Row, row_figure
from fathomlab.report.figures.scales import linear_axis, range_of
from fathomlab.report.figures.style import HALF
from fathomlab.report.figures.svg import inline_svg
from fathomlab.report.grids import evenly_spaced_indices
from fathomlab.report.loose import entries, mapping, number
from fathomlab.report.numbers import plain, significant
from fathomlab.report.tables import Table, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_NAMED = 12  # seeds with a labeled row; more seeds share a row
DASHED = "4,3"


@dataclass(frozen=True)
class SeedDifference:
    """A seed's values at both levels and their difference, in the unit of the claim.

    Attributes:
        first: Value at the first level; None if that trial diverged.
        second: Value at the second level; None if that trial diverged.
        diverged: Whether one of the trials diverged; None if unknown.
    """

    seed: str
    first: float | None
    second: float | None
    difference: float
    diverged: bool | None


def claim_differences(
    seeds: Sequence[SeedDifference], mean: Interval | None, unit: str, borders: Sequence[float], width: int = HALF
) -> "Figure":
    """Draw each seed's difference and the mean with its interval.

    Args:
        seeds: A row each, or one row for all if there are many.
        mean: Mean difference with its interval.
        unit: Unit of the differences.
        borders: Smallest effects that matter; dashed.
        width: Width in pixels.
    """
    if len(seeds) <= MAX_NAMED:
        rows = [Row(f"seed {item.seed}", (Point(item.difference, item.diverged is True),)) for item in seeds]
    else:
        shifts = [0.8 * (index / (len(seeds) - 1) - 0.5) for index in range(len(seeds))]
        points = [
            Point(item.difference, item.diverged is True, shift) for item, shift in zip(seeds, shifts, strict=True)
        ]
        rows = [Row("all seeds", tuple(points))]
    if mean is not None:
        rows.append(Row("mean", mean=mean, diamond=True))
    ends = [end for end in (mean.low, mean.mean, mean.high) if end is not None] if mean is not None else []
    low, high = range_of([*(item.difference for item in seeds), *ends, *borders, 0.0])
    x = linear_axis(f"difference ({unit})", low, high)
    return row_figure(rows, x, width, zero=True, dashed=borders, row=17 if len(rows) > 2 else 40)


def claim_levels(
    levels: Sequence[str], seeds: Sequence[SeedDifference], border: float | None, width: int = HALF
) -> "Figure":
    """Draw each seed's accuracy (%) at each level. A seed that diverged has a cross at 0.

    Args:
        levels: Names of the two levels.
        seeds: Seeds with accuracies (%).
        border: Threshold of a success (%); dashed.
        width: Width in pixels.
    """
    shown = _some(seeds)
    sides = ([item.first for item in shown], [item.second for item in shown])
    rows = [
        Row(name, tuple(Point(value or 0.0, value is None) for value in values))
        for name, values in zip(levels, sides, strict=False)
    ]
    dashed = () if border is None else (border,)
    return row_figure(rows, linear_axis("test accuracy (%)", 0, 100), width, dashed=dashed, row=36)


def _some(seeds: Sequence[SeedDifference]) -> Sequence[SeedDifference]:
    """The seeds that are drawn: all, or `MAX_DOTS` from the smallest to the largest difference."""
    ordered = sorted(seeds, key=lambda item: item.difference)
    return seeds if len(seeds) <= MAX_DOTS else [ordered[i] for i in evenly_spaced_indices(len(seeds), MAX_DOTS)]


def claim_chart(index: int, verdict: Mapping[str, Any], claim: Mapping[str, Any], count: int = 1) -> Chart | None:
    """The dot plot of one verdict; None if no seed has a value.

    Args:
        index: Number of the claim, starting at 1.
        verdict: The verdict.
        claim: The claim that it is about.
        count: Number of claims on the page.
    """
    unit_name, scale = unit(verdict)
    seeds = _seeds(verdict, scale)
    if not seeds:
        return None
    name, title, success = f"claim-{index}", str(verdict.get("name", "")), verdict.get("kind") == "success"
    low, middle, high = (_times(number(verdict.get(key)), scale) for key in ("low", "effect", "high"))
    if success:
        levels = [str(mapping(side).get("level", "")).split("=", 1)[-1] for side in entries(verdict.get("success"))]
        description = f"{title}: each seed's accuracy (%) at each level, and the threshold of a success."
        figure = claim_levels(levels, seeds, threshold(claim), width_of(count))
        keys = [LegendEntry("seed", 0, shape="circle"), LegendEntry("threshold", "var(--muted)", dash=DASHED)]
    else:
        text = "mean with 95% interval" if low is not None else "mean"
        description = (
            f"{title}: {contrast_text(claim)} ({unit_name}). Each seed's difference, the {text}, a line at zero, and "
            "dashed lines at the smallest effect that matters."
        )
        mean = None if middle is None else Interval(middle, low, high, len(seeds))
        figure = claim_differences(seeds, mean, unit_name, _borders(verdict, scale), width_of(count))
        keys = [LegendEntry("seed", 0, shape="circle"), LegendEntry(text, 1, shape="diamond")]
        if number(verdict.get("matters")):
            keys.append(LegendEntry("smallest effect that matters", "var(--muted)", dash=DASHED))
    if any(item.diverged for item in seeds):
        keys.insert(1, LegendEntry(f"diverged (counts as {'failure' if success else 'chance'})", 0, shape="cross"))
        description += " Crosses mark seeds of which a trial diverged."
    description = " ".join([description, *map(str, entries(verdict.get("notes")))])
    svg = inline_svg(figure, name, title, description)
    return Chart(name, title, description, svg, _table(name, verdict, seeds), tuple(keys))


def _seeds(verdict: Mapping[str, Any], scale: float) -> list[SeedDifference]:
    """The seeds of a verdict that have a difference."""
    result: list[SeedDifference] = []
    for value in map(mapping, entries(verdict.get("values"))):
        first, second, difference = (_times(number(value.get(key)), scale) for key in ("first", "second", "difference"))
        if difference is not None:
            diverged = value.get("diverged") is True if "diverged" in value else None
            result.append(SeedDifference(str(value.get("seed")), first, second, difference, diverged))
    return result


def _borders(verdict: Mapping[str, Any], scale: float) -> tuple[float, ...]:
    matters = scale * (number(verdict.get("matters")) or 0.0)
    if not matters:
        return ()
    return {"less": (-matters,), "equal": (-matters, matters)}.get(str(verdict.get("expect")), (matters,))


def _times(value: float | None, scale: float) -> float | None:
    return None if value is None else scale * value


def _table(name: str, verdict: Mapping[str, Any], seeds: Sequence[SeedDifference]) -> Table:
    effect_unit, scale = unit(verdict)
    percentages = scale == 100
    what, measure = ("accuracy", "%") if percentages else ("loss", "nats")
    columns = ["seed", f"first level: {what} ({measure})", f"second level: {what} ({measure})"]
    known = any(item.diverged is not None for item in seeds)
    columns += [f"difference ({effect_unit})", *["diverged"] * known]
    rows: list[list[str]] = []
    for item in seeds:
        numbers = (item.first, item.second, item.difference)
        row = [item.seed, *(plain(value) if percentages else significant(value) for value in numbers)]
        rows.append([*row, *[{True: "yes", False: "no", None: ""}[item.diverged]] * known])
    return table(name, columns, rows)
