"""A claim's evidence as a dot plot: each seed's difference, the interval, zero, and the smallest effect that matters."""

from collections.abc import Mapping
from typing import Any

from fathomlab.report.claims import contrast_text, threshold, unit
from fathomlab.report.figures import COLORS, SHAPES, Figure, Key, drawn
from fathomlab.report.loose import entries, mapping, number
from fathomlab.report.numbers import plain, significant
from fathomlab.report.tables import Table, table

MOST_NAMED = 12  # seeds with a labeled row; more seeds share the same height
ROW = 15
INNER = 232  # without the labels of the seeds
PADDED = {"left": 14, "right": 10, "top": 3, "bottom": 3}  # fonts differ in width


def claim_figure(place: int, verdict: Mapping[str, Any], claim: Mapping[str, Any]) -> Figure | None:
    """The dot plot of one verdict; None if no seed has a value."""
    values = [mapping(value) for value in entries(verdict.get("values"))]
    values = [value for value in values if number(value.get("difference")) is not None]
    if not values:
        return None
    name = f"claim-{place}"
    title, (effect_unit, scale) = str(verdict.get("name", "")), unit(verdict)
    diverged = any(value.get("diverged") is True for value in values)
    success = verdict.get("kind") == "success"
    if success:
        description = f"{title}: each seed's accuracy (%) at each level, and the threshold of a success."
        spec = _levels(verdict, claim, values)
        keys = [Key("seed", COLORS[0], shape="circle"), Key("threshold", "var(--muted)", dash="4,3")]
    else:
        interval = number(verdict.get("low")) is not None
        mean = "mean with 95% interval" if interval else "mean"
        description = (
            f"{title}: {contrast_text(claim)} ({effect_unit}). Each seed's difference, the {mean}, a line at zero, and "
            "dashed lines at the smallest effect that matters."
        )
        spec = _differences(verdict, values, effect_unit, scale)
        keys = [Key("seed", COLORS[0], shape="circle"), Key(mean, COLORS[1], shape="diamond")]
        if number(verdict.get("matters")):
            keys.append(Key("smallest effect that matters", "var(--muted)", dash="4,3"))
    if diverged:
        keys.insert(1, Key(f"diverged (counts as {'failure' if success else 'chance'})", COLORS[0], shape="cross"))
        description += " Crosses mark seeds of which a trial diverged."
    description = " ".join([description, *map(str, entries(verdict.get("notes")))])
    svg = drawn(name, title, description, spec)
    return Figure(name, title, description, svg, _table(name, verdict, values, scale), tuple(keys))


def _differences(
    verdict: Mapping[str, Any], values: list[dict[str, Any]], effect_unit: str, scale: float
) -> dict[str, Any]:
    named = len(values) <= MOST_NAMED
    step = 1 if named else MOST_NAMED / len(values)
    rows = min(len(values), MOST_NAMED)
    points = [
        {"x": scale * (number(value["difference"]) or 0.0), "y": place * step, "d": value.get("diverged") is True}
        for place, value in enumerate(values)
    ]
    effect, low, high = (number(verdict.get(key)) for key in ("effect", "low", "high"))
    mean = [] if effect is None else [{"x": scale * effect, "y": rows}]
    span = [] if low is None or high is None else [{"l": scale * low, "h": scale * high, "y": rows}]
    labels = [{"y": place * step, "t": f"seed {value.get('seed')}"} for place, value in enumerate(values)]
    labels = [*(labels if named else [{"y": rows / 2, "t": "all seeds"}]), {"y": rows, "t": "mean"}]
    matters = scale * (number(verdict.get("matters")) or 0.0)
    borders = {"less": [-matters], "equal": [-matters, matters]}.get(str(verdict.get("expect")), [matters])
    lines = [{"x": border} for border in borders] if matters else []
    x = _axis(effect_unit)
    y = _rows(rows + 1)
    return {
        "width": INNER,
        "height": ROW * (rows + 1) + 6,
        "padding": PADDED,
        "layer": [
            _rule([{"x": 0.0}], x, {"color": "var(--ink)", "strokeWidth": 1}),
            _rule(lines, x, {"color": "var(--muted)", "strokeWidth": 1.3, "strokeDash": [4, 3]}),
            {
                "data": {"values": span},
                "mark": {"type": "rule", "strokeWidth": 2.4, "color": COLORS[1]},
                "encoding": {"x": {**x, "field": "l"}, "x2": {"field": "h"}, "y": y},
            },
            *_seeds(points, x, y, {"size": 40, "color": COLORS[0], "opacity": 0.9}),
            _marks(mean, x, y, {"shape": "diamond", "size": 80, "color": COLORS[1]}),
            _texts(labels, y),
        ],
    }


def _levels(verdict: Mapping[str, Any], claim: Mapping[str, Any], values: list[dict[str, Any]]) -> dict[str, Any]:
    """A row per level: a success is a seed above the threshold. A diverged seed is drawn at 0."""
    sides = [str(mapping(side).get("level", "")) for side in entries(verdict.get("success"))]
    keys = ("first", "second")[: len(sides)]
    points = [
        {"x": 100 * (number(seed.get(key)) or 0.0), "y": place, "d": number(seed.get(key)) is None}
        for place, key in enumerate(keys)
        for seed in values
    ]
    border = threshold(claim)
    x = _axis("%")
    x["scale"] = {"domain": [0, 100], "nice": False}
    y = _rows(len(sides))
    text = [{"y": place, "t": side.split("=", 1)[-1]} for place, side in enumerate(sides)]
    dashed = {"color": "var(--muted)", "strokeWidth": 1.3, "strokeDash": [4, 3]}
    return {
        "width": INNER,
        "height": 34 * len(sides),
        "padding": PADDED,
        "layer": [
            _rule([] if border is None else [{"x": border}], x, dashed),
            *_seeds(points, x, y, {"size": 44, "color": COLORS[0], "opacity": 0.55}),
            _texts(text, y),
        ],
    }


def _axis(title: str) -> dict[str, Any]:
    scale = {"zero": False, "nice": True}
    return {"field": "x", "type": "quantitative", "title": f"({title})", "scale": scale, "axis": {"tickCount": 5}}


def _rows(count: int) -> dict[str, Any]:
    scale = {"domain": [-0.6, count - 0.4], "nice": False, "reverse": True, "zero": False}
    return {"field": "y", "type": "quantitative", "axis": None, "scale": scale}


def _rule(values: list[dict[str, Any]], x: dict[str, Any], mark: dict[str, Any]) -> dict[str, Any]:
    return {"data": {"values": values}, "mark": {"type": "rule", **mark}, "encoding": {"x": x}}


def _seeds(
    points: list[dict[str, Any]], x: dict[str, Any], y: dict[str, Any], mark: dict[str, Any]
) -> list[dict[str, Any]]:
    """Circles for finished seeds, crosses for diverged ones."""
    shapes = ((False, SHAPES[0]), (True, "cross"))
    groups = [([point for point in points if point["d"] is diverged], shape) for diverged, shape in shapes]
    return [_marks(group, x, y, {**mark, "shape": shape}) for group, shape in groups if group]


def _marks(values: list[dict[str, Any]], x: dict[str, Any], y: dict[str, Any], mark: dict[str, Any]) -> dict[str, Any]:
    return {
        "data": {"values": values},
        "mark": {"type": "point", "filled": True, **mark},
        "encoding": {"x": x, "y": y},
    }


def _texts(labels: list[dict[str, Any]], y: dict[str, Any]) -> dict[str, Any]:
    mark = {"type": "text", "align": "right", "x": -6, "fontSize": 11, "color": "var(--muted)", "limit": 60}
    return {"data": {"values": labels}, "mark": mark, "encoding": {"y": y, "text": {"field": "t"}}}


def _table(name: str, verdict: Mapping[str, Any], values: list[dict[str, Any]], scale: float) -> Table:
    accuracy = scale == 100
    shown = [
        [
            str(value.get("seed")),
            *(_number(value.get(key), accuracy) for key in ("first", "second", "difference")),
            *(["yes" if value.get("diverged") is True else "no"] if "diverged" in value else []),
        ]
        for value in values
    ]
    what, measure = ("accuracy", "%") if accuracy else ("loss", "nats")
    columns = ["seed", f"first level: {what} ({measure})", f"second level: {what} ({measure})"]
    columns += [f"difference ({unit(verdict)[0]})", *["diverged"] * any("diverged" in value for value in values)]
    return table(name, columns, [[*row, *[""] * (len(columns) - len(row))] for row in shown])


def _number(value: Any, accuracy: bool) -> str:
    shown = number(value)
    if shown is None:
        return ""
    return plain(100 * shown) if accuracy else significant(shown)
