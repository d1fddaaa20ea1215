"""Measurements of the other probes: one small figure per quantity and time, with its table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from fathomlab.analysis.study import Condition, Study
from fathomlab.report.curves import panels
from fathomlab.report.figures import COLORS, DASHES, Figure, channel, drawn, line_keys
from fathomlab.report.grids import Counts, coverage, snapshot_label
from fathomlab.report.loose import entries, number, numbers
from fathomlab.report.numbers import significant
from fathomlab.report.tables import table

MOST_PANELS = 2
LEAST_OF_LOG = 1e-12
MOST_MARKS = 32


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


def probe_figures(study: Study) -> list[tuple[str, str, list[Figure]]]:
    """Title, explanation, and figures of each probe that a trial has, except the gradient probe."""
    found: list[tuple[str, str, list[Figure]]] = []
    groups = panels(study)
    for probe, title, note in TITLES:
        have = [
            (panel, [item for item in conditions if any(trial.probes.get(probe) for _, trial in item.trials)])
            for panel, conditions in groups
        ]
        have = [(panel, conditions) for panel, conditions in have if conditions][:MOST_PANELS]
        figures = _noise(have, study.metric) if probe == "noise" else _profiles(probe, have, study.metric)
        if figures:
            found.append((title, note, figures))
    return found


def _profiles(probe: str, groups: Sequence[tuple[str, list[Condition]]], metric: str) -> list[Figure]:
    figures: list[Figure] = []
    for measure in MEASURES:
        for panel, conditions in groups if measure.probe == probe else ():
            for when, place in (("at initialization", 0), ("at the end", -1)):
                figure = _profile(measure, panel, conditions, (when, place), len(figures) + 1, metric)
                if figure is not None:
                    figures.append(figure)
    return figures


def _profile(
    measure: Measure, panel: str, conditions: Sequence[Condition], time: tuple[str, int], number_: int, metric: str
) -> Figure | None:
    when, place = time
    lines: list[tuple[str, list[str], list[float | None]]] = []
    for condition in conditions:
        trials = [trial for _, trial in condition.trials if place == 0 or trial.status == "finished"]
        snapshots = [trial.probes.get(measure.probe, []) for trial in trials]
        layers, columns = _over_layers([own[place] for own in snapshots if len(own) > (place == -1)], measure)
        values = [_mean(known, measure.log) for known in columns]
        if any(value is not None for value in values):
            lines.append((_label(condition, metric, tuple((len(known),) for known in columns)), layers, values))
    if not lines:
        return None
    name = f"{measure.probe}-{number_}"
    title = f"{measure.title}, {', '.join(text for text in (panel, when) if text)}"
    texts = [text for text, _, _ in lines]
    description = f"{title}: over the layers from input to output, mean over seeds, for {'; '.join(texts)}."
    points = [
        {"x": layer, "v": value, "g": group}
        for group, (_, _, values) in enumerate(lines)
        for layer, value in enumerate(values)
        if value is not None and (not measure.log or value > LEAST_OF_LOG)
    ]
    if not points:
        return None
    svg = drawn(name, title, description, _lines(points, len(lines), measure.log, "layer, input to output"))
    longest = max(lines, key=lambda line: len(line[1]))[1]
    rows = [
        [layer, *(significant(values[names.index(layer)]) if layer in names else "" for _, names, values in lines)]
        for layer in longest
    ]
    return Figure(name, title, description, svg, table(name, ["layer", *texts], rows), line_keys(texts))


def _label(condition: Condition, metric: str, counts: Counts) -> str:
    """A condition in a legend, with the number of seeds in its means if some are missing."""
    name, planned = condition.level or condition.name, len(condition.trials)
    if all(number == planned for row in counts for number in row):
        return name
    return f"{name}: {coverage(counts, planned, condition.excluded(metric))}"


def _over_layers(snapshots: Sequence[Mapping[str, Any]], measure: Measure) -> tuple[list[str], list[list[float]]]:
    """Names of the layers, and per layer the values of the seeds that can be averaged."""
    rows = [(list(map(str, entries(own.get(measure.names)))), numbers(own.get(measure.column))) for own in snapshots]
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


def _noise(groups: Sequence[tuple[str, list[Condition]]], metric: str) -> list[Figure]:
    figures: list[Figure] = []
    for place, (panel, conditions) in enumerate(groups, start=1):
        name = f"noise-{place}"
        lines: list[tuple[str, list[tuple[str, float | None]]]] = []
        for condition in conditions:
            scales, counts = _noise_scales(condition)
            lines.append((_label(condition, metric, counts), scales))
        texts = [text for text, _ in lines]
        points = [
            {"x": when, "v": value, "g": group}
            for group, (_, scales) in enumerate(lines)
            for when, (_, value) in enumerate(scales)
            if value is not None
        ]
        if not points:
            continue
        title = f"Gradient noise scale (examples){f', {panel}' if panel else ''}"
        description = f"{title} at each snapshot, starting at initialization, for {'; '.join(texts)}."
        svg = drawn(name, title, description, _lines(points, len(lines), True, "snapshot"))
        longest = max((scales for _, scales in lines), key=len)
        rows = [
            [label, *(significant(scales[when][1]) if when < len(scales) else "" for _, scales in lines)]
            for when, (label, _) in enumerate(longest)
        ]
        figures.append(Figure(name, title, description, svg, table(name, ["snapshot", *texts], rows), line_keys(texts)))
    return figures


def _noise_scales(condition: Condition) -> tuple[list[tuple[str, float | None]], Counts]:
    """Label and noise scale of each snapshot, and its number of seeds.

    The noise scale is the mean trace over seeds divided by the mean squared norm.
    """
    series = [own for _, trial in condition.trials if (own := trial.probes.get("noise", []))]
    found: list[tuple[str, float | None]] = []
    counts: list[tuple[int, ...]] = []
    longest = max(series, key=len) if series else list[dict[str, Any]]()
    for place, snapshot in enumerate(longest):
        here = [own[place] for own in series if place < len(own)]
        pairs = [(number(own.get("trace")), number(own.get("gradient_squared"))) for own in here]
        known = [(trace, squared) for trace, squared in pairs if trace is not None and squared is not None]
        squared = fmean(pair[1] for pair in known) if known else 0.0
        trace = fmean(pair[0] for pair in known) if known else 0.0
        found.append((snapshot_label(place, snapshot), trace / squared if squared > 0 and trace > 0 else None))
        counts.append((len(known),))
    return found, tuple(counts)


def _lines(points: list[dict[str, Any]], groups: int, log: bool, title: str) -> dict[str, Any]:
    x: dict[str, Any] = {"field": "x", "type": "quantitative", "title": title, "scale": {"nice": False}}
    x["axis"] = {"tickMinStep": 1, "tickCount": 6, "format": "d"}
    axis = {"format": ".1~e" if log else "", "tickCount": 5}
    y = {"field": "v", "type": "quantitative", "scale": {"type": "log"} if log else {"zero": False}, "axis": axis}
    color, dash = channel(COLORS, groups), channel(DASHES, groups)
    mark: dict[str, Any] = {"type": "line", "strokeWidth": 1.8}
    if len(points) <= MOST_MARKS:  # a line of one point would be invisible
        mark["point"] = {"size": 10}
    encoding = {"x": x, "y": y, "color": color, "strokeDash": dash}
    return {"height": 140, "data": {"values": points}, "mark": mark, "encoding": encoding}
