"""Test accuracy of each seed: against depth, by condition, and as differences paired by seed."""

from collections.abc import Sequence
from typing import Any

from fathomlab.analysis.statistics import Interval
from fathomlab.analysis.study import Condition, Study
from fathomlab.report.effects import Effect, Panel, accuracy, clipped, effect_panels, excluded_pairs, excluded_trials
from fathomlab.report.figures import COLORS, MOST_LINES, SHAPES, Figure, Key, channel, drawn, point_keys
from fathomlab.report.numbers import percent, plain
from fathomlab.report.tables import Table, table

SPREAD = 0.16
MOST_EFFECTS = 10


def accuracy_figures(study: Study) -> list[Figure]:
    """Test accuracy of each trial: series against depth, or one position per condition."""
    groups = study.by_series() if study.has_depths else {"": list(study.conditions)}
    names = list(groups)
    figures: list[Figure] = []
    for start in range(0, len(names), MOST_LINES):
        part = {name: groups[name] for name in names[start : start + MOST_LINES]}
        figures.append(_accuracy_figure(study, f"accuracy-{start // MOST_LINES + 1}", part))
    return figures


def accuracy_note(study: Study) -> str:
    """What the marks are, and what the means exclude; mentions only what there is."""
    marks = (
        "Dots: seeds."
        if study.most_seeds < 2
        else "Small dots: seeds. Large markers: mean of finished seeds with its 95% confidence interval."
    )
    pairs = " Effects compare equal seeds." if effect_panels(study) else ""
    notes = (f"{marks}{pairs}", excluded_trials(study, study.conditions), clipped(study))
    return " ".join(filter(None, notes))


def effect_figures(panel: Panel) -> list[Figure]:
    """The effects of a factor, in figures of at most `MOST_EFFECTS`; empty if none has a number."""
    effects = panel.effects if panel.known else ()
    return [
        _effect_figure(panel, effects[start : start + MOST_EFFECTS], f"effect-{panel.name}" + f"-{start}" * bool(start))
        for start in range(0, len(effects), MOST_EFFECTS)
    ]


def _effect_figure(panel: Panel, effects: Sequence[Effect], name: str) -> Figure:
    """Differences in points for each seed, their mean and interval, and a line at zero."""
    labels = [effect.label for effect in effects]
    marks = [
        f"{label} ({effect.excluded})" if effect.excluded else label
        for label, effect in zip(labels, effects, strict=True)
    ]
    title = f"Effect of {panel.subject} ({panel.contrast}, points)"
    points = [
        {"x": place, "v": value, "g": 0} for place, item in enumerate(effects) for value in item.differences.values()
    ]
    means = [_mean(place, item.interval, 1, 0) for place, item in enumerate(effects) if item.interval is not None]
    zero: dict[str, Any] = {
        "data": {"values": [{"v": 0}]},
        "mark": {"type": "rule", "color": "var(--ink)", "strokeWidth": 1},
    }
    zero["encoding"] = {"y": {"field": "v", "type": "quantitative"}}
    spec = _spec(marks, points, means, 1, joined=False, also=(0.0,))
    spec["layer"].insert(0, zero)
    what = "each seed's difference, the mean, and its 95% interval" if _intervals(means) else "each seed's difference"
    description = " ".join(filter(None, (f"{title}: {what}, for {'; '.join(labels)}.", excluded_pairs(effects))))
    svg = drawn(name, title, description, spec)
    return Figure(name, title, description, svg, _effect_table(name, effects))


def _intervals(means: Sequence[dict[str, Any]]) -> bool:
    return any("l" in mean for mean in means)


def accuracy_table(study: Study, name: str, conditions: Sequence[Condition]) -> Table:
    """Test accuracy of each seed, the mean, and its interval: a row per condition."""
    seeds = sorted({seed for condition in conditions for seed, _ in condition.trials})
    rows: list[list[str]] = []
    for condition in conditions:
        values, mean = condition.outcomes(study.metric), accuracy(study, condition)
        ends = ("", "", "") if mean is None else (plain(mean.mean), plain(mean.low), plain(mean.high))
        lost = condition.missing(study.metric)
        cells = [percent(values.get(seed)) or lost.get(seed, "") for seed in seeds]
        rows.append([condition.name, *ends, str(len(values)), condition.excluded(study.metric), *cells])
    columns = ["condition", "mean (%)", "95% low", "95% high", "seeds", "excluded", *(f"seed {seed}" for seed in seeds)]
    return table(name, columns, rows)


def _accuracy_figure(study: Study, name: str, groups: dict[str, list[Condition]]) -> Figure:
    conditions = [condition for group in groups.values() for condition in group]
    depths = sorted({condition.depth for condition in conditions if condition.depth is not None})
    deep = study.has_depths
    labels = [str(depth) for depth in depths] if deep else [condition.name for condition in conditions]
    count = len(groups)
    points: list[dict[str, Any]] = []
    means: list[dict[str, Any]] = []
    for group, members in enumerate(groups.values()):
        shift = SPREAD * (group - (count - 1) / 2)
        for member in members:
            x = (depths.index(member.depth) if deep and member.depth is not None else conditions.index(member)) + shift
            points += [{"x": x, "v": 100 * value, "g": group} for value in member.outcomes(study.metric).values()]
            mean = accuracy(study, member)
            if mean is not None:
                means.append(_mean(x, mean, count, group))
    title = "Test accuracy by depth (%)" if deep else "Test accuracy (%)"
    over = f"depths {', '.join(labels)}" if deep else "; ".join(labels)
    what = "each seed, the mean, and its 95% interval" if _intervals(means) else "each seed"
    description = " ".join(filter(None, (f"{title}: {what}, for {over}.", excluded_trials(study, conditions))))
    marks = labels
    if not deep:
        excluded = [condition.excluded(study.metric) for condition in conditions]
        marks = [f"{label} ({text})" if text else label for label, text in zip(labels, excluded, strict=True)]
    spec = _spec(marks, points, means, count, joined=deep, axis="depth (layers)" if deep else None)
    keys: tuple[Key, ...] = ()
    if deep and count > 1:
        keys = point_keys([_series_label(study, group, members) for group, members in groups.items()])
    svg = drawn(name, title, description, spec)
    return Figure(name, title, description, svg, accuracy_table(study, name, conditions), keys)


def _series_label(study: Study, name: str, members: Sequence[Condition]) -> str:
    """A series in the legend, with the trials that its means exclude: "plain (depth 40: 2 of 5 diverged)"."""
    parts = [f"{item.level}: {text}" for item in members if (text := item.excluded(study.metric))]
    return f"{name or 'all conditions'} ({'; '.join(parts)})" if parts else name or "all conditions"


def _mean(x: float, interval: Interval, groups: int, group: int) -> dict[str, Any]:
    found: dict[str, Any] = {"x": x, "v": interval.mean, "g": group}
    return found if interval.low is None else {**found, "l": interval.low, "h": interval.high}


def _spec(
    labels: Sequence[str],
    points: list[dict[str, Any]],
    means: list[dict[str, Any]],
    groups: int,
    joined: bool,
    axis: str | None = None,
    also: tuple[float, ...] = (),
) -> dict[str, Any]:
    """Points with mean and interval at numbered positions. Long labels are drawn at an angle."""
    places = [-0.5, len(labels) - 0.5]
    x: dict[str, Any] = {
        "field": "x",
        "type": "quantitative",
        "scale": {"domain": places, "nice": False},
        "title": axis,
    }
    x["axis"] = {"values": list(range(len(labels))), "labels": False, "titlePadding": 20}
    values = [point["v"] for point in points]
    ends = [mean[end] for mean in means for end in ("l", "h") if end in mean]
    room = max(values, default=1) - min(values, default=0) or 1.0
    near = [end for end in ends if min(values) - room <= end <= max(values) + room] if values else []
    shown = [*values, *near, *also] or [0.0, 1.0]
    margin = 0.05 * (max(shown) - min(shown)) or 1.0
    ends = [min(shown) - margin, max(shown) + margin]
    domain = ends if also else [max(0.0, ends[0]), min(100.0, ends[1])]  # accuracies are bounded, differences are not
    scale = {"domain": domain, "nice": False, "zero": False, "clamp": True}
    y = {"field": "v", "type": "quantitative", "scale": scale}
    color = channel(COLORS, groups)
    shape = channel(SHAPES, groups)
    low, high = {"field": "l", "type": "quantitative", "scale": scale}, {"field": "h"}
    names = [{"x": place, "t": text} for place, text in enumerate(labels)]
    turned = sum(map(len, labels)) > 34
    text = {"type": "text", "fontSize": 11, "color": "var(--muted)", "clip": False, "limit": 190, "y": "height"}
    text |= {"angle": -32, "align": "right", "dy": 12, "dx": -2} if turned else {"baseline": "top", "dy": 8}
    layers: list[dict[str, Any]] = [
        {
            "data": {"values": [mean for mean in means if "l" in mean]},
            "mark": {"type": "rule", "strokeWidth": 2.2},
            "encoding": {"x": x, "y": low, "y2": high, "color": color},
        },
        {
            "data": {"values": points},
            "mark": {"type": "point", "filled": True, "size": 26, "opacity": 0.5},
            "encoding": {"x": x, "y": y, "color": color, "shape": shape},
        },
        {
            "data": {"values": means},
            "mark": {"type": "point", "filled": True, "size": 80, "stroke": "var(--paper)", "strokeWidth": 1},
            "encoding": {"x": x, "y": y, "color": color, "shape": shape},
        },
        {"data": {"values": names}, "mark": text, "encoding": {"x": x, "text": {"field": "t"}}},
    ]
    if joined:
        line = {"type": "line", "strokeWidth": 1, "opacity": 0.7}
        layers.insert(0, {"data": {"values": means}, "mark": line, "encoding": {"x": x, "y": y, "color": color}})
    return {"height": 210, "layer": layers}


def _effect_table(name: str, effects: Sequence[Effect]) -> Table:
    seeds = sorted({seed for effect in effects for seed in effect.differences})
    rows: list[list[str]] = []
    for effect in effects:
        mean = effect.interval
        ends = ("", "", "") if mean is None else (plain(mean.mean), plain(mean.low), plain(mean.high))
        values = [plain(effect.differences.get(seed)) for seed in seeds]
        rows.append([effect.label, *ends, str(len(effect.differences)), effect.excluded, *values])
    columns = ["comparison", "mean (points)", "95% low", "95% high", "pairs", "excluded pairs"]
    return table(name, [*columns, *(f"seed {seed}" for seed in seeds)], rows)
