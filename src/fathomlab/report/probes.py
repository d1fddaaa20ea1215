"""Measurements of the other probes: one small chart per quantity and time, with its table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from fathomlab.analysis.study import Condition, Study
from fathomlab.report.charts import Chart, line_keys, width_of
from fathomlab.report.curves import panels
from fathomlab.report.figures.lines import Line, line_figure
from fathomlab.report.figures.scales import Axis, linear_axis, log_axis, range_of
from fathomlab.report.figures.style import HALF
from fathomlab.report.figures.svg import inline_svg
from fathomlab.report.grids import Counts, coverage, snapshot_label
from fathomlab.report.loose import entries, number, numbers
from fathomlab.report.numbers import significant
from fathomlab.report.tables import table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_PANELS = 2
MIN_OF_LOG = 1e-12
MAX_MARKS = 32
TIMES = (("at initialization", 0), ("at the end", -1))


@dataclass(frozen=True)
class Measure:
    """A column of a probe that has one number per layer.

    Attributes:
        names: Column with the names of the layers.
        log: Whether to use a logarithmic scale.
    """

    probe: str
    column: str
    names: str
    title: str
    log: bool


@dataclass(frozen=True)
class ProbeLine:
    """The values of one condition.

    Attributes:
        name: Short name: the depth, or the condition.
        label: Legend text, with the number of seeds if some are missing.
        positions: Names of the layers or snapshots.
        values: A number for each; None if unknown.
    """

    name: str
    label: str
    positions: tuple[str, ...]
    values: tuple[float | None, ...]


MEASURES = (
    Measure("updates", "ratio", "layers", "Update size |ΔW| / |W|", True),
    Measure("representation", "rms", "points", "Size of the layer outputs (RMS)", True),
    Measure("representation", "spread", "points", "Input-dependent part of the outputs", True),
    Measure("representation", "correlation", "points", "Cosine similarity of two inputs", False),
    Measure("representation", "dead", "points", "Fraction of dead units", False),
)
TITLES = (
    (
        "updates",
        "Optimizer updates by layer",
        "Size of each optimizer step relative to the weights, |ΔW| / |W|. With Adam, gradient norms do not show this.",
    ),
    (
        "representation",
        "Layer representations",
        "Cosine near 1 and input-dependent part near 0: the network ignores its input.",
    ),
    (
        "noise",
        "Gradient noise scale",
        "Batch size at which gradient noise equals the signal (McCandlish et al., 2018). Numerator and denominator are "
        "averaged over seeds before the division. Missing points: estimate not positive.",
    ),
)


def probe_profile(lines: Sequence[ProbeLine], measure: Measure, width: int = HALF) -> "Figure":
    """Draw a quantity over the layers, a line per condition."""
    return _line_figure(
        lines, measure.title[:1].lower() + measure.title[1:], "layer, input to output", measure.log, width
    )


def noise_scale(lines: Sequence[ProbeLine], width: int = HALF) -> "Figure":
    """Draw the gradient noise scale over the snapshots, a line per condition."""
    longest = max((line.positions for line in lines), key=len)
    return _line_figure(lines, "noise scale (examples)", "snapshot", True, width, longest)


def probe_charts(study: Study) -> list[tuple[str, str, list[Chart]]]:
    """Title, explanation, and charts of each probe that a trial has, except the gradient probe."""
    result: list[tuple[str, str, list[Chart]]] = []
    groups = panels(study)
    for probe, title, note in TITLES:
        measured = [
            (panel, [item for item in conditions if any(trial.probes.get(probe) for _, trial in item.trials)])
            for panel, conditions in groups
        ]
        measured = [(panel, conditions) for panel, conditions in measured if conditions][:MAX_PANELS]
        charts = _noise(measured, study.metric) if probe == "noise" else _profiles(probe, measured, study.metric)
        if charts:
            result.append((title, note, charts))
    return result


def _profiles(probe: str, groups: Sequence[tuple[str, list[Condition]]], metric: str) -> list[Chart]:
    drawn: list[tuple[Measure, str, list[ProbeLine]]] = []
    for measure in MEASURES:
        for panel, conditions in groups if measure.probe == probe else ():
            for when, index in TIMES:
                lines = [line for item in conditions if (line := _line(measure, item, index, metric)) is not None]
                if any(_drawable(value, measure.log) for line in lines for value in line.values):
                    drawn.append((measure, ", ".join(filter(None, (measure.title, panel, when))), lines))
    width = width_of(len(drawn))
    return [_profile(item, f"{probe}-{index}", width) for index, item in enumerate(drawn, start=1)]


def _profile(item: tuple[Measure, str, list[ProbeLine]], name: str, width: int) -> Chart:
    measure, title, lines = item
    texts = [line.label for line in lines]
    description = f"{title}: over the layers from input to output, mean over seeds, for {'; '.join(texts)}."
    svg = inline_svg(probe_profile(lines, measure, width), name, title, description)
    longest = max(lines, key=lambda line: len(line.positions)).positions
    rows = [
        [
            layer,
            *(
                significant(line.values[line.positions.index(layer)]) if layer in line.positions else ""
                for line in lines
            ),
        ]
        for layer in longest
    ]
    return Chart(name, title, description, svg, table(name, ["layer", *texts], rows), line_keys(texts))


def _line(measure: Measure, condition: Condition, index: int, metric: str) -> ProbeLine | None:
    trials = [trial for _, trial in condition.trials if index == 0 or trial.status == "finished"]
    snapshots = [trial.probes.get(measure.probe, []) for trial in trials]
    layers, columns = _over_layers([item[index] for item in snapshots if len(item) > (index == -1)], measure)
    values = tuple(_mean(known, measure.log) for known in columns)
    if all(value is None for value in values):
        return None
    label = _label(condition, metric, tuple((len(known),) for known in columns))
    return ProbeLine(condition.level or condition.name, label, tuple(layers), values)


def _label(condition: Condition, metric: str, counts: Counts) -> str:
    """A condition in a legend, with the number of seeds in its means if some are missing."""
    name, planned = condition.level or condition.name, len(condition.trials)
    if all(number in (0, planned) for row in counts for number in row):
        return name
    return f"{name}: {coverage(counts, planned, condition.excluded(metric))}"


def _over_layers(snapshots: Sequence[Mapping[str, Any]], measure: Measure) -> tuple[list[str], list[list[float]]]:
    """Names of the layers, and per layer the values of the seeds that can be averaged."""
    rows = [(list(map(str, entries(item.get(measure.names)))), numbers(item.get(measure.column))) for item in snapshots]
    rows = [(names, values) for names, values in rows if names and names == rows[0][0] and len(names) == len(values)]
    if not rows:
        return [], []
    columns = zip(*(values for _, values in rows), strict=True)
    return rows[0][0], [
        [value for value in column if value is not None and (value > 0 or not measure.log)] for column in columns
    ]


def _mean(known: Sequence[float], log: bool) -> float | None:
    """Mean over seeds; the geometric mean on a logarithmic scale."""
    if not known:
        return None
    return math.exp(fmean(math.log(value) for value in known)) if log else fmean(known)


def _noise(groups: Sequence[tuple[str, list[Condition]]], metric: str) -> list[Chart]:
    charts: list[Chart] = []
    for index, (panel, conditions) in enumerate(groups, start=1):
        name, lines = f"noise-{index}", [_noise_line(condition, metric) for condition in conditions]
        if not any(_drawable(value, True) for line in lines for value in line.values):
            continue
        title = f"Gradient noise scale (examples){f', {panel}' if panel else ''}"
        texts = [line.label for line in lines]
        description = f"{title} at each snapshot, starting at initialization, for {'; '.join(texts)}."
        svg = inline_svg(noise_scale(lines, width_of(len(groups))), name, title, description)
        rows = [
            [label, *(significant(line.values[when]) if when < len(line.values) else "" for line in lines)]
            for when, label in enumerate(max((line.positions for line in lines), key=len))
        ]
        charts.append(Chart(name, title, description, svg, table(name, ["snapshot", *texts], rows), line_keys(texts)))
    return charts


def _noise_line(condition: Condition, metric: str) -> ProbeLine:
    """The noise scale at each snapshot: the mean trace over seeds divided by the mean squared norm."""
    series = [snapshots for _, trial in condition.trials if (snapshots := trial.probes.get("noise", []))]
    values: list[float | None] = []
    counts: list[tuple[int, ...]] = []
    longest = max(series, key=len) if series else list[dict[str, Any]]()
    for index in range(len(longest)):
        measured = [snapshots[index] for snapshots in series if index < len(snapshots)]
        pairs = [(number(item.get("trace")), number(item.get("gradient_squared"))) for item in measured]
        known = [(trace, squared) for trace, squared in pairs if trace is not None and squared is not None]
        squared = fmean(pair[1] for pair in known) if known else 0.0
        trace = fmean(pair[0] for pair in known) if known else 0.0
        values.append(trace / squared if squared > 0 and trace > 0 else None)
        counts.append((len(known),))
    positions = tuple(snapshot_label(index, snapshot) for index, snapshot in enumerate(longest))
    label = _label(condition, metric, tuple(counts))
    return ProbeLine(condition.level or condition.name, label, positions, tuple(values))


def _line_figure(
    lines: Sequence[ProbeLine], title: str, along: str, log: bool, width: int, names: Sequence[str] = ()
) -> "Figure":
    points = [
        tuple((float(i), value) for i, value in enumerate(line.values) if value is not None and _drawable(value, log))
        for line in lines
    ]
    values = [value for line in points for _, value in line]
    last = max(1, *(len(line.positions) - 1 for line in lines))
    x = linear_axis(along, 0, last)
    if 0 < len(names) <= 5:
        x = Axis(along, 0, last, tuple(range(len(names))), texts=tuple(names))
    else:
        x = Axis(along, 0, last, tuple(tick for tick in x.ticks if tick.is_integer()))
    if log:
        low, high = min(values), max(values)
        y = log_axis(title, low / 1.2, high * 1.2) if high / low > 1.5 else log_axis(title, low / 3, high * 3)
    else:
        y = linear_axis(title, *range_of(values))
    drawn = [Line(line.name, known) for line, known in zip(lines, points, strict=True)]
    return line_figure(drawn, x, y, width, marks=len(values) <= MAX_MARKS)


def _drawable(value: float | None, log: bool) -> bool:
    return value is not None and (not log or value > MIN_OF_LOG)
