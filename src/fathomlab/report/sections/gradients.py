"""Gradient norms over the layers: slopes and what theory predicts, profiles at initialization, and heatmaps."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.options import number
from fathomlab.analysis.pairing import students
from fathomlab.analysis.study import Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.probes import PROBES
from fathomlab.report.charts import Chart, LegendEntry, columns, line_keys, width_of
from fathomlab.report.figures.lines import Line, line_figure
from fathomlab.report.figures.scales import Axis, integer_axis, log_axis
from fathomlab.report.figures.style import HALF, MAX_SERIES
from fathomlab.report.grids import Grid, Quantity, coverage
from fathomlab.report.heatmaps import Heatmaps, decades, heatmaps, measured_grids
from fathomlab.report.numbers import count, plain
from fathomlab.report.section import Section
from fathomlab.report.slopes import condition_slopes, predicted_logs, slopes_chart, slopes_sentence, sources
from fathomlab.report.tables import Table, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROBE = "gradients"
MAX_PROFILES = 6
MAX_DECADES = 100.0  # norms are floats: their powers of ten stay finite


@dataclass(frozen=True)
class Profile:
    """The norms of one condition at one snapshot, in decades.

    Attributes:
        name: Its series.
        label: Its legend text, which says how many seeds the mean has if some are missing.
        layers: Names from input to output.
        values: Mean log10 norm of each layer.
        theory: Predicted log10 norm of each layer; empty without a prediction.
    """

    name: str
    label: str
    layers: tuple[str, ...]
    values: tuple[float | None, ...]
    theory: tuple[float, ...]


@dataclass(frozen=True)
class Norms:
    """The figures of one kind of gradients: those of activations also have profiles, `columns` in a row of the page."""

    profiles: tuple[Chart, ...]
    heatmaps: Heatmaps
    columns: int


@dataclass(frozen=True)
class Gradients:
    """The content of the section.

    Attributes:
        slopes: Slopes at initialization; None if none could be fitted.
        sources: Each rule behind a prediction, and its conditions.
        cost: Cost of the probe, in a sentence.
    """

    sentence: str
    slopes: Chart | None
    sources: tuple[tuple[str, str], ...]
    norms: tuple[Norms, ...]
    cost: str


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section | None:
    """The figures of the gradient probe."""
    slopes, norms = condition_slopes(study), gradient_charts(study)
    if not slopes and not norms:
        return None
    content = Gradients(
        sentence=slopes_sentence(slopes),
        slopes=slopes_chart(slopes) if slopes else None,
        sources=tuple(sources(slopes)),
        norms=tuple(norms),
        cost=probe_cost(study),
    )
    return Section("gradients", PROBES[PROBE].title, content, link="Gradients")


def gradient_charts(study: Study) -> list[Norms]:
    """Activation gradients, then weight gradients; empty if no trial measured them."""
    result: list[Norms] = []
    for kind in PROBES[PROBE].columns:
        quantity = Quantity(PROBE, kind)
        grids = measured_grids(study, quantity)
        maps = heatmaps(study, quantity, grids, f"{kind}-gradients", f"{kind} gradient norm")
        if maps is not None:
            pairs = _student_charts(study, kind, grids) if kind == "activation" else ()
            profiles = pairs or (_profile_charts(study, kind, grids) if kind == "activation" else ())
            result.append(Norms(profiles, maps, 2 if pairs else columns(len(profiles))))
    return result


def probe_cost(study: Study) -> str:
    """Cost of the gradient probe in a sentence; "" if nothing was measured."""
    for _, _, trial in study.trials:
        snapshots = trial.probes.get(PROBE, ())
        steps = max((step for step in trial.curves.get("step", []) if step is not None), default=None)
        examples, size = number(trial, "probes.gradients.examples"), number(trial, "data.batch_size")
        if snapshots and steps and examples and size:
            taken = min(examples, size) * len(snapshots)
            return (
                f"The gradient probe ran {count(len(snapshots), 'time')} on {min(examples, size):.0f} images "
                f"(about {100 * taken / (steps * size):.2g}% extra compute)."
            )
    return ""


def gradient_profile(profiles: Sequence[Profile], y: Axis, width: int = HALF) -> "Figure":
    """Draw the norms over the layers, with the prediction as a broad gray line.

    Args:
        profiles: The conditions, at most as many as there are colors.
        y: Axis of the gradient norm.
        width: Width in pixels.
    """
    lines = [
        Line(
            profile.name,
            tuple((float(i), _norm(value)) for i, value in enumerate(profile.values) if value is not None),
            theory=tuple((float(i), _norm(value)) for i, value in enumerate(profile.theory)),
            texts=tuple(
                f"{profile.name}, {layer}: {y.amount(_norm(value))}"
                for layer, value in zip(profile.layers, profile.values, strict=True)
                if value is not None
            ),
        )
        for profile in profiles
    ]
    last = max(1, *(len(profile.layers) - 1 for profile in profiles))
    return line_figure(lines, integer_axis("layer, input to output", last), y, width)


def _profile_charts(study: Study, kind: str, grids: Sequence[Grid]) -> tuple[Chart, ...]:
    """For each depth the norms over the layers at initialization, with a line per series and equal scales."""
    groups: dict[str, list[Grid]] = {}
    for grid in grids:
        groups.setdefault(grid.condition.level if study.has_depths else "", []).append(grid)
    chosen = [(level, group) for level, group in groups.items() if len(group) <= MAX_SERIES][:MAX_PROFILES]
    titles = [f"At initialization, {level}" if level else "At initialization" for level, _ in chosen]
    return _charts(
        kind,
        [(title, [_profile(kind, grid) for grid in group]) for title, (_, group) in zip(titles, chosen, strict=True)],
    )


def _student_charts(study: Study, kind: str, grids: Sequence[Grid]) -> tuple[Chart, ...]:
    """For each baseline and its students the norms at initialization, and next to it those at the last snapshot."""
    by_name = {grid.condition.name: grid for grid in grids}
    groups: dict[str, list[Grid]] = {}
    for student in students(study):
        baseline, grid = student.baseline, by_name.get(student.condition.name)
        if baseline is not None and baseline.name in by_name and grid is not None:
            groups.setdefault(baseline.name, [by_name[baseline.name]]).append(grid)
    depths = [group[0].condition.depth for group in groups.values()]
    distinct = None not in depths and len(set(depths)) == len(depths) > 1
    pairs: list[tuple[str, list[Profile]]] = []
    for group in list(groups.values())[:MAX_PROFILES]:
        first = group[0].condition
        where = f", depth {first.depth}" if distinct else f", {first.name}" if len(groups) > 1 else ""
        members = group[:MAX_SERIES]
        pairs.append((f"At initialization{where}", [_profile(kind, grid) for grid in members]))
        pairs.append((f"At the last snapshot{where}", [_profile(kind, grid, -1) for grid in members]))
    return _charts(kind, pairs, 2)


def _charts(kind: str, profiles: Sequence[tuple[str, Sequence[Profile]]], across: int = 0) -> tuple[Chart, ...]:
    """A chart per group of profiles, with equal scales, `across` in a row of the page (0: by their number)."""
    values = [
        value
        for _, group in profiles
        for profile in group
        for value in (*profile.values, *profile.theory)
        if value is not None
    ]
    if not values:
        return ()
    low, high = decades(values)
    y = log_axis("gradient norm", _norm(low), _norm(high))
    width = width_of(across or len(profiles))
    return tuple(
        _chart(kind, number, title, group, y, width) for number, (title, group) in enumerate(profiles, start=1)
    )


def _norm(logarithm: float) -> float:
    return 10.0 ** min(MAX_DECADES, max(-MAX_DECADES, logarithm))


def _chart(kind: str, number: int, title: str, profiles: Sequence[Profile], y: Axis, width: int) -> Chart:
    name = f"{kind}-profile-{number}"
    texts = [profile.label for profile in profiles]
    predicted = any(profile.theory for profile in profiles)
    description = (
        f"{kind.capitalize()} gradient norm over the layers, input to output. {title}: {', '.join(texts)}"
        f"{'; thick gray line: theory, shifted to the mean of the measured line' if predicted else ''}."
    )
    draw = partial(gradient_profile, profiles, y, width)
    theory = (LegendEntry("theory", "var(--rule)", broad=True),) if predicted else ()
    return Chart(name, title, description, draw, profile_table(name, profiles), (*line_keys(texts), *theory))


def _profile(kind: str, grid: Grid, at: int = 0) -> Profile:
    values = tuple(row[at] for row in grid.rows)
    theory: list[float] = []
    if kind == "activation" and at == 0:
        trial = next((trial for _, trial in grid.condition.trials if trial.content), None)
        theory = predicted_logs(trial, values) if trial is not None else []
    name, counts = grid.condition.series or grid.condition.name, tuple(row[at:][:1] for row in grid.counts)
    full = all(number == grid.planned for row in counts for number in row)
    label = name if full else f"{name} ({coverage(counts, grid.planned, '')})"
    return Profile(name, label, grid.layers, values, tuple(theory))


def profile_table(name: str, profiles: Sequence[Profile]) -> Table:
    """A row per layer of any network, those of the deepest first, and a column per profile."""
    longest_first = sorted(profiles, key=lambda profile: -len(profile.layers))
    columns = ["layer"]
    for profile in profiles:
        columns += [f"{profile.label}: log10", *([f"{profile.label}: predicted"] if profile.theory else [])]
    rows: list[list[str]] = []
    for layer in dict.fromkeys(layer for profile in longest_first for layer in profile.layers):
        row = [layer]
        for profile in profiles:
            index = profile.layers.index(layer) if layer in profile.layers else None
            row.append("" if index is None else plain(profile.values[index]))
            if profile.theory:
                row.append("" if index is None else plain(profile.theory[index]))
        rows.append(row)
    return table(name, columns, rows)
