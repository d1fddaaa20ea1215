"""Learning curves: the mean over finished seeds with its interval, and each seed as a thin line; a panel per series."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.study import Condition, Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.report.charts import MAX_DOTS, Chart, panels, panels_left_out, width_of
from fathomlab.report.curve_figures import (
    MAX_POINTS,
    MIN_SEEDS_FOR_INTERVAL,
    Quantity,
    condition_curve,
    curve_chart,
    quantity_axis,
)
from fathomlab.report.figures.lines import MAX_BANDS
from fathomlab.report.section import Section

ALL_POINTS = 48_000  # of all curves of a page; limits the size of a page with many seeds
MAX_CURVES = 2400  # of each quantity, in complete panels
QUANTITIES = (
    Quantity("train/loss", "Training loss", "nats", 1),
    Quantity("val/loss", "Validation loss", "nats", 1),
    Quantity("train/accuracy", "Training accuracy", "%", 100),
    Quantity("val/accuracy", "Validation accuracy", "%", 100),
)


@dataclass(frozen=True)
class Curves:
    """The content of the section: for each quantity its title and its charts."""

    note: str
    quantities: tuple[tuple[str, tuple[Chart, ...]], ...]


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section | None:
    """The curves of losses and accuracies."""
    quantities = tuple((quantity.heading, tuple(charts)) for quantity, charts in curve_charts(study))
    content = Curves(
        " ".join(filter(None, (curve_note(study), panels_left_out(study, curve_panels(study))))), quantities
    )
    return Section("curves", "Learning curves", content) if quantities else None


def curve_charts(study: Study) -> list[tuple[Quantity, list[Chart]]]:
    """For each quantity a chart per panel. All panels of a quantity share the axis of the quantity."""
    groups = curve_panels(study)
    count = sum(len(condition.trials) for _, conditions in groups for condition in conditions)
    points = max(20, min(MAX_POINTS, ALL_POINTS // max(1, count * len(QUANTITIES))))
    result: list[tuple[Quantity, list[Chart]]] = []
    for quantity in QUANTITIES:
        curves = [
            (name, [condition_curve(item, quantity, points, study.metric) for item in conditions])
            for name, conditions in groups
        ]
        values = [value for _, group in curves for curve in group for seed in curve.seeds for value in seed.values()]
        if not values:
            continue
        y, width = quantity_axis(values, quantity), width_of(len(curves) if len(curves) > 1 else len(QUANTITIES))
        charts = [
            curve_chart(quantity, index, name, group, y, width)
            for index, (name, group) in enumerate(curves, start=1)
            if any(map(any, (curve.seeds for curve in group)))
        ]
        result.append((quantity, charts))
    return result


def curve_panels(study: Study) -> list[tuple[str, list[Condition]]]:
    """The panels of conditions; of an experiment with many trials, the first ones."""
    groups = panels(study)
    totals = accumulate(sum(len(condition.trials) for condition in conditions) for _, conditions in groups)
    return groups[: max(1, sum(total <= MAX_CURVES for total in totals))]


def curve_note(study: Study) -> str:
    """What the lines and intervals of the curves are; mentions only what there is."""
    last = max((len(trial.curves.get("epoch", [])) for _, _, trial in study.trials), default=0)
    single, mean = ("Dots", "Large dot") if last == 1 else ("Thin lines", "Thick line")
    if study.most_seeds < 2:
        return f"{single}: single seeds. Panels share the axis of the quantity."
    some = f" (at most {MAX_DOTS} of a condition)" if study.most_seeds > MAX_DOTS else ""
    note = f"{mean}: mean of finished seeds. {single}: single seeds{some}."
    if study.most_seeds >= MIN_SEEDS_FOR_INTERVAL:
        sizes = {len(conditions) > MAX_BANDS for _, conditions in curve_panels(study)}
        where = {
            frozenset({False}): "Band",
            frozenset({True}): "Bar at the end",
            frozenset({False, True}): "Band, or bar at the end of the line",
        }[frozenset(sizes)]
        shape = "Line through the large dot" if last == 1 else where
        note += f" {shape}: 95% confidence interval of the mean (3+ seeds)."
    return f"{note} Panels share the axis of the quantity."
