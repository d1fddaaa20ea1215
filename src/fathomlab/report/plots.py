"""The figures of a report as one matplotlib figure, for notebooks and scripts. pyplot is not used, and no setting changes."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from fathomlab.analysis.study import Study
from fathomlab.base.errors import UserError, did_you_mean, format_value
from fathomlab.probes import PROBES
from fathomlab.probes.columns import Column
from fathomlab.report.accuracy_plots import accuracy_charts, effect_charts
from fathomlab.report.charts import Chart, columns
from fathomlab.report.effects import effect_panels
from fathomlab.report.figures.joined import Key, Panel, joined_figure
from fathomlab.report.figures.style import DASHES, INK, MUTED, RULE, SHAPES
from fathomlab.report.sections.curves import QUANTITIES, curve_charts
from fathomlab.report.sections.gradients import PROBE, gradient_charts
from fathomlab.report.sections.probes import measured_probes, probe_figures
from fathomlab.report.slopes import condition_slopes, slopes_chart

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fathomlab.report.charts import LegendEntry

Groups = Sequence[Sequence[Chart]]
MAX_PANELS = 12  # more do not fit on a screen
CSS_COLORS = {"var(--ink)": INK, "var(--muted)": MUTED, "var(--rule)": RULE}


def plot(study: Study, kind: str) -> "Figure":
    """Draw a kind of figure of an experiment, with titles and legends. At most 12 panels are drawn.

    Raises:
        UserError: If there is no such kind, or if the experiment has no data for it.
    """
    kinds = _kinds(study)
    groups: Groups = [group for group in kinds[kind](study) if group] if kind in kinds else []
    if groups:
        rows = [row for group in groups for row in _rows(group)]
        shown = [
            row for number, row in enumerate(rows) if number == 0 or sum(map(len, rows[: number + 1])) <= MAX_PANELS
        ]
        left_out = sum(map(len, rows)) - sum(map(len, shown))
        return joined_figure(
            [[panel(chart) for chart in row] for row in shown],
            f"and {left_out} more in the report" if left_out else "",
        )
    available = [name for name, build in kinds.items() if any(build(study))]
    if kind not in kinds:
        hint = did_you_mean(kind, list(kinds))
        raise UserError(
            "unknown-plot", f"no plot {format_value(kind)}.{hint} This experiment has: {', '.join(available)}."
        )
    text = f"{study.experiment.name}: no data for the plot {kind!r}. {_remedy(kind)}"
    raise UserError("not-measured", f"{text} This experiment has: {', '.join(available) or 'none yet'}.")


def _rows(group: Sequence[Chart]) -> list[Sequence[Chart]]:
    """The rows of charts that belong together, as on the page."""
    across = columns(len(group))
    return [group[start : start + across] for start in range(0, len(group), across)]


def _kinds(study: Study) -> Mapping[str, Callable[[Study], Groups]]:
    """Name of each kind to the function that builds its charts; a group starts a new row."""
    probes = {
        name: partial(_probe, name=name) for name in PROBES if name != PROBE and _has_charts(PROBES[name].columns)
    }
    measured = measured_probes(study).items()
    users = {name: partial(_probe, name=name) for name, probe in measured if _has_charts(probe.columns)}
    metrics = {quantity.metric: partial(_curves, metric=quantity.metric) for quantity in QUANTITIES}
    first = {"accuracy": _accuracy, "effects": _effects, "curves": _curves}
    return {**users, **first, **metrics, "gradients": _gradients, "slopes": _slopes, **probes}


def _has_charts(columns: Mapping[str, Column]) -> bool:
    return any(column.figure not in ("maps", "none") for column in columns.values())


def _accuracy(study: Study) -> Groups:
    return [[chart] for chart in accuracy_charts(study)]


def _effects(study: Study) -> Groups:
    return [effect_charts(panel) for panel in effect_panels(study)]


def _curves(study: Study, metric: str = "") -> Groups:
    groups = [charts for quantity, charts in curve_charts(study) if metric in ("", quantity.metric)]
    single = all(len(group) == 1 for group in groups)
    return [[chart for group in groups for chart in group]] if single else groups


def _gradients(study: Study) -> Groups:
    norms = gradient_charts(study)
    return [*(item.profiles for item in norms), *(item.heatmaps.maps for item in norms)]


def _slopes(study: Study) -> Groups:
    slopes = condition_slopes(study)
    return [[slopes_chart(slopes)]] if slopes else []


def _probe(study: Study, name: str) -> Groups:
    figures = [item for item in probe_figures(study) if item.name == name]
    return [group for item in figures for group in (item.charts, *(maps.maps for maps in item.heatmaps))]


def _remedy(kind: str) -> str:
    """What has to be done so that the data exist."""
    if kind in ("gradients", "slopes"):
        layers = " Slopes need three or more layers." if kind == "slopes" else ""
        return f"Set experiment.analyze_gradients: true and run again.{layers}"
    if kind in PROBES:
        return f"Add {kind} to experiment.probes and run again."
    return "An effect needs a factor and finished trials." if kind == "effects" else "No trial has results yet."


def panel(chart: Chart) -> Panel:
    """A chart with its title and its legend, to be drawn in a figure."""
    return Panel(chart.full_title or chart.title, chart.draw, tuple(map(_key, chart.keys)))


def _key(entry: "LegendEntry") -> Key:
    """A legend entry with the options of matplotlib's lines."""
    color: int | str = entry.color if isinstance(entry.color, int) else CSS_COLORS[entry.color]
    hollow = entry.shape.removesuffix("-hollow") != entry.shape
    marker = SHAPES.index(entry.shape.removesuffix("-hollow")) if entry.shape else None
    dash = tuple(map(int, entry.dash.split(","))) if entry.dash else DASHES[0]
    return Key(entry.text, color, dash, marker, hollow, entry.broad)
