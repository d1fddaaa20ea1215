"""Test accuracy of each seed: against depth, by condition, and as differences paired by seed."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from fathomlab.analysis.statistics import Interval
from fathomlab.analysis.study import Condition, Study
from fathomlab.report.charts import MAX_DOTS, Chart, LegendEntry, drawn_seeds, point_keys
from fathomlab.report.effects import Effect, Panel, accuracy, clipped, excluded_pairs, excluded_trials
from fathomlab.report.figures.depths import Cell, Series, depth_figure
from fathomlab.report.figures.rows import Point, Row, row_figure
from fathomlab.report.figures.scales import Axis, linear_axis
from fathomlab.report.figures.style import HALF, MAIN, MAX_SERIES
from fathomlab.report.numbers import percent, plain
from fathomlab.report.students import named
from fathomlab.report.tables import Table, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALL, FIRST = slice(None), slice(1)
MAX_EFFECTS = 10
MAX_CONDITIONS = 24
MAX_CHARTS = 4  # of a page, of accuracy and of each factor's effects
MAX_SEED_COLUMNS = 100  # of a table
ACCURACY = "test accuracy (%)"


def accuracy_by_depth(series: Sequence[Series], depths: Sequence[int], width: int = MAIN) -> "Figure":
    """Draw each seed's test accuracy, the mean, and its interval against depth, for each series."""
    cells = [cell for item in series for cell in item.cells]
    y = _axis(ACCURACY, [(cell.seeds, cell.mean) for cell in cells], bounded=True)
    return depth_figure(series, depths, y, width)


def accuracy_by_condition(rows: Sequence[Row], width: int = MAIN) -> "Figure":
    """Draw each seed's test accuracy, the mean, and its interval, a row per condition."""
    return row_figure(rows, _axis(ACCURACY, _ranges(rows), bounded=True), width, row=26)


def effects(rows: Sequence[Row], contrast: str, width: int = HALF) -> "Figure":
    """Draw each pair's difference in test accuracy, the mean, and its interval, a row per comparison."""
    return row_figure(rows, _axis(f"{contrast} (points)", _ranges(rows), bounded=False), width, zero=True, row=26)


def accuracy_charts(study: Study, chosen: slice = ALL) -> list[Chart]:
    """Test accuracy of each trial: series against depth, or a row per condition; empty if no trial has one.

    Args:
        study: The experiment.
        chosen: Which of the charts to draw.
    """
    if not any(condition.outcomes(study.metric) for condition in study.conditions):
        return []
    if study.has_depths:
        groups = list(study.by_series().items())
        parts = [dict(groups[start : start + MAX_SERIES]) for start in range(0, len(groups), MAX_SERIES)]
        numbered = list(enumerate(parts, start=1))[chosen]
        return [_depth_chart(study, f"accuracy-{number}", part) for number, part in numbered]
    every = study.conditions
    slices = [every[start : start + MAX_CONDITIONS] for start in range(0, len(every), MAX_CONDITIONS)]
    numbered = list(enumerate(slices, start=1))[chosen]
    return [_condition_chart(study, f"accuracy-{number}", part) for number, part in numbered]


def charts_left_out(study: Study) -> str:
    """Which conditions the charts of accuracy leave out; "" if none."""
    per_chart = MAX_SERIES if study.has_depths else MAX_CONDITIONS
    shown, rows = per_chart * MAX_CHARTS, len(study.by_series()) if study.has_depths else len(study.conditions)
    if rows <= shown:
        return ""
    what = "series" if study.has_depths else "conditions"
    return f"The charts show the first {shown} of {rows:,} {what}."


def accuracy_note(study: Study) -> str:
    """What the marks are, and what the means exclude; mentions only what there is."""
    marks = (
        "Dots: seeds."
        if study.most_seeds < 2
        else "Small dots: seeds. Large markers: mean of finished seeds with its 95% confidence interval."
    )
    some = f" At most {MAX_DOTS} seeds of a condition are drawn." if study.most_seeds > MAX_DOTS else ""
    notes = (f"{marks}{some}", charts_left_out(study), excluded_trials(study, study.conditions), clipped(study))
    return " ".join(filter(None, notes))


def effect_charts(panel: Panel) -> list[Chart]:
    """The effects of a factor, in charts of at most `MAX_EFFECTS`; empty if none has a number.

    Of many effects, the first ones are drawn; see `effects_left_out`.
    """
    shown = shown_effects(panel) if panel.known else ()
    starts = range(0, len(shown), MAX_EFFECTS)
    return [_effect_chart(panel, shown[start : start + MAX_EFFECTS], start, len(starts) > 1) for start in starts]


def shown_effects(panel: Panel) -> tuple[Effect, ...]:
    """The effects of a factor that the page shows: all, or the first ones of many."""
    return panel.effects[: MAX_EFFECTS * MAX_CHARTS]


def effects_left_out(panel: Panel) -> str:
    """How many effects of a factor the page shows; "" if it shows all."""
    shown, total = len(shown_effects(panel)), len(panel.effects)
    return f"The page shows the first {shown} of {total:,} comparisons." if total > shown else ""


def accuracy_table(study: Study, name: str, conditions: Sequence[Condition]) -> Table:
    """Test accuracy of each seed, the mean, and its interval: a row per condition."""
    every = sorted({seed for condition in conditions for seed, _ in condition.trials})
    seeds, rows = every[:MAX_SEED_COLUMNS], list[list[str]]()
    for condition in conditions:
        values, mean = condition.outcomes(study.metric), accuracy(study, condition)
        ends = ("", "", "") if mean is None else (plain(mean.mean), plain(mean.low), plain(mean.high))
        lost = condition.missing(study.metric)
        cells = [percent(values.get(seed)) or lost.get(seed, "") for seed in seeds]
        rows.append([named(condition), *ends, str(len(values)), condition.excluded(study.metric), *cells])
    columns = ["condition", "mean (%)", "95% low", "95% high", "seeds", "excluded", *(f"seed {seed}" for seed in seeds)]
    return replace(table(name, columns, rows), left_out=_columns_left_out(seeds, every))


def _columns_left_out(seeds: Sequence[int], every: Sequence[int]) -> str:
    return f"Columns of the first {len(seeds)} of {len(every):,} seeds." if len(seeds) < len(every) else ""


def _depth_chart(study: Study, name: str, groups: dict[str, list[Condition]]) -> Chart:
    conditions = [condition for group in groups.values() for condition in group]
    depths = sorted({condition.depth for condition in conditions if condition.depth is not None})
    series = [Series(label, _cells(study, members, depths)) for label, members in groups.items()]
    title = "Test accuracy by depth (%)"
    intervals = [cell.mean for item in series for cell in item.cells]
    description = _description(study, title, intervals, f"depths {', '.join(map(str, depths))}", conditions)
    keys: tuple[LegendEntry, ...] = ()
    if len(groups) > 1:
        keys = point_keys([_series_label(study, group, members) for group, members in groups.items()])
    draw, narrow = (partial(accuracy_by_depth, series, depths, width) for width in (MAIN, HALF))
    return Chart(name, title, description, draw, accuracy_table(study, name, conditions), keys, narrow)


def _cells(study: Study, members: Sequence[Condition], depths: Sequence[int]) -> tuple[Cell, ...]:
    means = [(item, accuracy(study, item)) for item in sorted(members, key=lambda item: item.depth or 0)]
    return tuple(
        Cell(depths.index(item.depth), tuple(drawn_seeds(100 * v for v in item.outcomes(study.metric).values())), mean)
        for item, mean in means
        if mean is not None and item.depth is not None
    )


def _condition_chart(study: Study, name: str, conditions: Sequence[Condition]) -> Chart:
    means = [accuracy(study, item) for item in conditions]
    rows = [
        Row(
            named(item),
            tuple(map(Point, drawn_seeds(100 * value for value in item.outcomes(study.metric).values()))),
            mean,
            note=item.excluded(study.metric),
        )
        for item, mean in zip(conditions, means, strict=True)
    ]
    title = "Test accuracy (%)"
    names = "; ".join(item.name for item in conditions)
    description = _description(study, title, [mean for mean in means if mean], names, conditions)
    draw, narrow = (partial(accuracy_by_condition, rows, width) for width in (MAIN, HALF))
    return Chart(name, title, description, draw, accuracy_table(study, name, conditions), narrow=narrow)


def _effect_chart(panel: Panel, shown: Sequence[Effect], start: int, split: bool) -> Chart:
    rows = [
        Row(
            item.label,
            tuple(map(Point, drawn_seeds(item.differences.values()))),
            item.interval,
            note=item.excluded,
        )
        for item in shown
    ]
    name = f"effect-{panel.name}" + f"-{start}" * bool(start)
    part = f", {start + 1} to {start + len(shown)} of {len(panel.effects)}" * split
    title = f"Effect of {panel.subject} ({panel.contrast}, points){part}"
    known = any(item.interval is not None and item.interval.low is not None for item in shown)
    what = "each seed's difference, the mean, and its 95% interval" if known else "each seed's difference"
    labels = "; ".join(item.label for item in shown)
    description = " ".join(filter(None, (f"{title}: {what}, for {labels}.", excluded_pairs(shown))))
    return Chart(name, title, description, partial(effects, rows, panel.contrast), _effect_table(name, shown))


def _description(
    study: Study, title: str, means: Sequence[Interval], names: str, conditions: Sequence[Condition]
) -> str:
    known = any(mean.low is not None for mean in means)
    what = "each seed, the mean, and its 95% interval" if known else "each seed"
    return " ".join(filter(None, (f"{title}: {what}, for {names}.", excluded_trials(study, conditions))))


def _series_label(study: Study, name: str, members: Sequence[Condition]) -> str:
    """A series in the legend, with the trials that its means exclude: "plain (depth 40: 2 of 5 diverged)"."""
    parts = [f"{item.level}: {text}" for item in members if (text := item.excluded(study.metric))]
    label = name or "all conditions"
    return f"{label} ({'; '.join(parts)})" if parts else label


def _ranges(rows: Sequence[Row]) -> list[tuple[tuple[float, ...], Interval]]:
    return [(tuple(point.value for point in row.points), row.mean) for row in rows if row.mean is not None]


def _axis(label: str, marks: Sequence[tuple[tuple[float, ...], Interval]], bounded: bool) -> Axis:
    """An axis for seeds and intervals. An interval far outside of the seeds does not stretch it.

    Args:
        label: Text of the axis.
        marks: Seeds and interval of each condition.
        bounded: Whether values are percentages; else the axis includes zero.
    """
    values = [value for seeds, _ in marks for value in seeds]
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = high - low or 1.0
    ends = [end for _, mean in marks for end in (mean.low, mean.high) if end is not None]
    shown = [*values, *(end for end in ends if low - room <= end <= high + room), *([] if bounded else [0.0])]
    shown = shown or [0.0, 1.0]
    margin = 0.05 * (max(shown) - min(shown)) or 1.0
    low, high = min(shown) - margin, max(shown) + margin
    return linear_axis(label, max(0.0, low), min(100.0, high)) if bounded else linear_axis(label, low, high)


def _effect_table(name: str, shown: Sequence[Effect]) -> Table:
    every = sorted({seed for effect in shown for seed in effect.differences})
    seeds, rows = every[:MAX_SEED_COLUMNS], list[list[str]]()
    for effect in shown:
        mean = effect.interval
        ends = ("", "", "") if mean is None else (plain(mean.mean), plain(mean.low), plain(mean.high))
        values = [plain(effect.differences.get(seed)) for seed in seeds]
        rows.append([effect.label, *ends, str(len(effect.differences)), effect.excluded, *values])
    columns = ["comparison", "mean (points)", "95% low", "95% high", "pairs", "excluded pairs"]
    shown_seeds = table(name, [*columns, *(f"seed {seed}" for seed in seeds)], rows)
    return replace(shown_seeds, left_out=_columns_left_out(seeds, every))
