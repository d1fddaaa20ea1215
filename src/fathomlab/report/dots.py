"""A claim's evidence as a dot plot: each seed's difference, the interval, zero, and the smallest effect that matters."""

from collections.abc import Sequence
from typing import Any

from fathomlab.analysis.contrasts import Pair
from fathomlab.analysis.verdicts import Verdict
from fathomlab.analysis.wording import notes, unit
from fathomlab.report.claims import contrast_text, scale
from fathomlab.report.figures import COLORS, SHAPES, Figure, Key, drawn
from fathomlab.report.numbers import plain, significant
from fathomlab.report.tables import Table, table

MOST_NAMED = 12  # seeds with a labeled row; more seeds share the same height
ROW = 15
INNER = 232  # without the labels of the seeds
PADDED = {"left": 14, "right": 10, "top": 3, "bottom": 3}  # fonts differ in width


def claim_figure(number: int, verdict: Verdict) -> Figure | None:
    """The dot plot of one verdict; None if no seed has a value."""
    claim, pairs = verdict.claim, verdict.contrast.pairs
    if not pairs:
        return None
    name, title = f"claim-{number}", verdict.claim.name
    diverged = any(pair.diverged for pair in pairs)
    success = claim.kind == "success"
    if success:
        description = f"{title}: each seed's accuracy (%) at each level, and the threshold of a success."
        spec = _levels(verdict)
        keys = [Key("seed", COLORS[0], shape="circle"), Key("threshold", "var(--muted)", dash="4,3")]
    else:
        interval = verdict.effect is not None and verdict.effect.low is not None
        mean = "mean with 95% interval" if interval else "mean"
        description = (
            f"{title}: {contrast_text(claim)} ({unit(claim)}). Each seed's difference, the {mean}, a line at zero, and "
            "dashed lines at the smallest effect that matters."
        )
        spec = _differences(verdict)
        keys = [Key("seed", COLORS[0], shape="circle"), Key(mean, COLORS[1], shape="diamond")]
        if claim.matters:
            keys.append(Key("smallest effect that matters", "var(--muted)", dash="4,3"))
    if diverged:
        keys.insert(1, Key(f"diverged (counts as {'failure' if success else 'chance'})", COLORS[0], shape="cross"))
        description += " Crosses mark seeds of which a trial diverged."
    description = " ".join([description, *notes(verdict)])
    svg = drawn(name, title, description, spec)
    return Figure(name, title, description, svg, _table(name, verdict), tuple(keys))


def _differences(verdict: Verdict) -> dict[str, Any]:
    claim, effect, pairs = verdict.claim, verdict.effect, verdict.contrast.pairs
    factor = scale(claim)
    named = len(pairs) <= MOST_NAMED
    step = 1 if named else MOST_NAMED / len(pairs)
    rows = min(len(pairs), MOST_NAMED)
    points = [
        {"x": factor * pair.difference, "y": index * step, "d": pair.diverged} for index, pair in enumerate(pairs)
    ]
    mean = [] if effect is None else [{"x": factor * effect.mean, "y": rows}]
    span = []
    if effect is not None and effect.low is not None and effect.high is not None:
        span = [{"l": factor * effect.low, "h": factor * effect.high, "y": rows}]
    labels = [{"y": index * step, "t": f"seed {pair.seed}"} for index, pair in enumerate(pairs)]
    labels = [*(labels if named else [{"y": rows / 2, "t": "all seeds"}]), {"y": rows, "t": "mean"}]
    matters = factor * claim.matters
    thresholds = {"less": [-matters], "equal": [-matters, matters], "greater": [matters]}[claim.expect]
    lines = [{"x": threshold} for threshold in thresholds] if matters else []
    x = _axis(unit(claim))
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


def _levels(verdict: Verdict) -> dict[str, Any]:
    """A row per level: a success is a seed above the threshold. A diverged seed is drawn at 0."""
    levels, threshold = [side.level for side in verdict.success], verdict.claim.threshold
    points = [
        {"x": 100 * (value or 0.0), "y": index, "d": value is None}
        for index in range(len(levels))
        for pair in verdict.contrast.pairs
        for value in ((pair.first, pair.second)[index],)
    ]
    x = _axis("%")
    x["scale"] = {"domain": [0, 100], "nice": False}
    y = _rows(len(levels))
    text = [{"y": index, "t": level.split("=", 1)[-1]} for index, level in enumerate(levels)]
    dashed = {"color": "var(--muted)", "strokeWidth": 1.3, "strokeDash": [4, 3]}
    return {
        "width": INNER,
        "height": 34 * len(levels),
        "padding": PADDED,
        "layer": [
            _rule([] if threshold is None else [{"x": 100 * threshold}], x, dashed),
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
