"""How activation gradients change from layer to layer: the slope fitted per trial, and the prediction of theory."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import Any

from fathomlab.analysis.statistics import Interval, mean_interval
from fathomlab.analysis.study import Condition, Study
from fathomlab.analysis.theory import Prediction, depth_limit, predict
from fathomlab.base.identity import canonical_json
from fathomlab.report.figures import COLORS, Figure, Key, drawn
from fathomlab.report.loose import at, mapping, number
from fathomlab.report.numbers import plain
from fathomlab.report.tables import Table, table
from fathomlab.store.records import TrialRecord

DEFAULT_EXAMPLES = 128
MOST_ROWS = 40


@dataclass(frozen=True)
class Slopes:
    """The slopes of one condition over its seeds [nats per layer]; positive if gradients grow toward the input.

    Attributes:
        start: At initialization.
        first: After the first epoch.
        last: At the end of training; None if that is the first epoch.
        each: Each seed's slope at initialization.
        prediction: Predicted slope at initialization, if there is a prediction.
        limit: Predicted depth limit of a plain network with batch norm [layers].
        excluded: Which trials have no slope at the end of training: "2 of 5 diverged".
    """

    condition: Condition
    start: Interval | None
    first: Interval | None
    last: Interval | None
    each: tuple[float, ...]
    prediction: Prediction | None
    limit: float | None
    excluded: str

    @property
    def agreement(self) -> str:
        """Whether measurement and prediction agree, as a word; "" if one is missing."""
        if self.start is None or self.prediction is None:
            return ""
        low = self.start.mean if self.start.low is None else self.start.low
        high = self.start.mean if self.start.high is None else self.start.high
        allowed = self.prediction.tolerance
        return "agrees" if low - allowed <= self.prediction.slope <= high + allowed else "differs"


def condition_slopes(study: Study) -> list[Slopes]:
    """The slopes of all conditions whose trials measured activation gradients at three or more layers."""
    return [found for condition in study.conditions if (found := _slopes(condition, study.metric)) is not None]


def slope(norms: Sequence[float | None], stride: float = 1.0) -> float | None:
    """Minus the least-squares slope of ln(norm) over the layers [nats per layer]; None if a norm is 0 or missing.

    Args:
        norms: One per layer, or per block of `stride` layers, from input to output; at least three.
        stride: Number of layers between two norms.

    Example:
        >>> round(slope([1.0, 2.0, 4.0]), 3)
        -0.693
    """
    if len(norms) < 3 or any(norm is None or norm <= 0 for norm in norms):
        return None
    logs = [math.log(norm) for norm in norms if norm is not None]
    center = (len(logs) - 1) / 2
    total = sum((place - center) ** 2 for place in range(len(logs)))
    return sum((center - place) * value for place, value in enumerate(logs)) / total / stride


def prediction_of(trial: TrialRecord) -> Prediction | None:
    """Predicted slope of a trial's network at initialization, for the batch size of the probe."""
    model = trial.content.get("model")
    sizes = [at(trial.content, "data.batch_size"), at(trial.content, "probes.gradients.examples") or DEFAULT_EXAMPLES]
    known = [int(size) for value in sizes if (size := number(value)) is not None]
    return _predicted(canonical_json(model), min(known)) if mapping(model) else None


def stride_of(trial: TrialRecord, layers: int) -> float:
    """Hidden layers between two measured outputs; 1 if the network is not an MLP."""
    hidden = number(at(trial.content, "model.params.hidden_layers_num"))
    return hidden / (layers - 1) if hidden and layers > 1 else 1.0


def slopes_table(found: Sequence[Slopes]) -> Table:
    """Measured and predicted slopes, a row per condition."""
    rows: list[list[str]] = []
    for item in found:
        prediction = item.prediction
        row = [item.condition.name, item.agreement or "no prediction", *_ends(item.start), str(len(item.each))]
        row += ["", ""] if prediction is None else [_four(prediction.slope), _four(prediction.tolerance)]
        for interval in (item.first, item.last):
            row += [*_ends(interval), str(interval.n) if interval is not None else ""]
        rows.append([*row, plain(item.limit, 1), item.excluded])
    columns = ["condition", "theory", "at initialization", "95% low", "95% high", "seeds", "predicted", "tolerance"]
    for when in ("after epoch 1", "at the end"):
        columns += [when, f"{when}: 95% low", f"{when}: 95% high", f"{when}: seeds"]
    return table("slopes", [*columns, "depth limit (layers)", "excluded"], rows, texts=2)


def sources(found: Sequence[Slopes]) -> list[tuple[str, str]]:
    """Each rule behind a prediction, and the conditions that it applies to."""
    rules: dict[str, list[str]] = {}
    for item in found:
        if item.prediction is not None:
            rules.setdefault(item.prediction.source, []).append(item.condition.name)
    return [(rule, "; ".join(names)) for rule, names in rules.items()]


def slopes_sentence(found: Sequence[Slopes]) -> str:
    """How many predictions agree, which do not, and which networks exceed their depth limit."""
    known = [item for item in found if item.agreement]
    if not known:
        return "No theoretical prediction is available for these networks."
    apart = [item.condition.name for item in known if item.agreement == "differs"]
    said = f"Theory matches {len(known) - len(apart)} of {len(known)} measured slopes at initialization."
    said += f" Mismatch: {'; '.join(apart)}." if apart else ""
    missing = [
        f"{item.condition.name} ({len(item.condition.trials) - len(item.each)} of {len(item.condition.trials)} seeds)"
        for item in found
        if len(item.each) < len(item.condition.trials)
    ]
    said += f" No slope at initialization: {'; '.join(missing)}." if missing else ""
    beyond = [item for item in known if item.limit is not None and (item.condition.depth or 0) > item.limit]
    if beyond:
        names = "; ".join(item.condition.name for item in beyond)
        said += f" Deeper than the predicted trainability limit: {names}."
    return said


def slopes_figure(found: Sequence[Slopes]) -> Figure:
    """Each seed's slope, the mean with its interval, and the prediction: a row per condition."""
    shown = found[:MOST_ROWS]
    points = [{"x": value, "y": place} for place, item in enumerate(shown) for value in item.each]
    means = [{"x": item.start.mean, "y": place} for place, item in enumerate(shown) if item.start]
    spans = [
        {"l": item.start.low, "h": item.start.high, "y": place}
        for place, item in enumerate(shown)
        if item.start and item.start.low is not None
    ]
    theory = [{"x": item.prediction.slope, "y": place} for place, item in enumerate(shown) if item.prediction]
    labels = [item.condition.name.removeprefix("initialization ") for item in shown]
    names = [{"y": place, "t": label} for place, label in enumerate(labels)]
    x: dict[str, Any] = {"field": "x", "type": "quantitative", "title": "slope at initialization (nats per layer)"}
    x |= {"scale": {"zero": True}, "axis": {"tickCount": 4}}
    scale = {"domain": [-0.6, len(shown) - 0.4], "nice": False, "reverse": True, "zero": False}
    y: dict[str, Any] = {"field": "y", "type": "quantitative", "axis": None, "scale": scale}
    both = {"x": x, "y": y}
    text = {"type": "text", "align": "right", "x": -8, "fontSize": 11, "color": "var(--muted)", "limit": 150}
    layers: list[dict[str, Any]] = [
        _layer([{"x": 0.0}], {"type": "rule", "color": "var(--ink)", "strokeWidth": 1}, {"x": x}),
        _layer(
            spans,
            {"type": "rule", "strokeWidth": 2.4, "color": COLORS[0]},
            {"x": {**x, "field": "l"}, "x2": {"field": "h"}, "y": y},
        ),
        _layer(points, {"type": "point", "filled": True, "size": 22, "color": COLORS[0], "opacity": 0.5}, both),
        _layer(means, {"type": "point", "filled": True, "size": 60, "color": COLORS[0]}, both),
        _layer(theory, _HOLLOW, both),
        _layer(names, text, {"y": y, "text": {"field": "t"}}),
    ]
    longest = max(map(len, labels), default=0)
    padding = {"left": 4 + longest, "right": 12, "top": 3, "bottom": 3}
    spec = {"width": 190, "height": 20 * len(shown) + 8, "padding": padding, "layer": layers}
    title = "Slope of the activation gradients at initialization"
    mean = "the mean with its 95% interval" if spans else "the mean"
    more = f" The first {len(shown)} of {len(found)} conditions are drawn." * (len(found) > len(shown))
    description = f"{title}: each seed, {mean}, and the predicted slope.{more}"
    keys = [Key("measured: mean and seeds", COLORS[0], shape="circle"), Key("predicted", COLORS[1], shape="diamond")]
    svg = drawn("slopes-figure", title, description, spec)
    return Figure("slopes-figure", title, description, svg, slopes_table(found), tuple(keys))


_HOLLOW = {"type": "point", "shape": "diamond", "size": 130, "color": COLORS[1], "strokeWidth": 2, "filled": False}


def _layer(values: list[dict[str, Any]], mark: dict[str, Any], encoding: dict[str, Any]) -> dict[str, Any]:
    return {"data": {"values": values}, "mark": mark, "encoding": encoding}


def _slopes(condition: Condition, metric: str) -> Slopes | None:
    times: dict[str, list[float]] = {"start": [], "first": [], "last": []}
    for _, trial in condition.trials:
        for when, snapshot in _moments(trial.gradients).items():
            if when == "last" and trial.status != "finished":
                continue  # its last snapshot is not the end of training
            norms = snapshot["activation"]
            found = slope(norms, stride_of(trial, len(norms)))
            if found is not None:
                times[when].append(found)
    if not any(times.values()):
        return None
    intervals = {when: mean_interval(values) if values else None for when, values in times.items()}
    prediction = next((made for _, trial in condition.trials if (made := prediction_of(trial)) is not None), None)
    return Slopes(
        condition,
        intervals["start"],
        intervals["first"],
        intervals["last"],
        tuple(times["start"]),
        prediction,
        _limit(condition, prediction),
        condition.excluded(metric),
    )


def _moments(snapshots: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The snapshots at initialization, after the first epoch, and at the end, if available."""
    found: dict[str, Mapping[str, Any]] = {}
    if snapshots and snapshots[0]["step"] == 0:
        found["start"] = snapshots[0]
    after = [snapshot for snapshot in snapshots if snapshot["epoch"] >= 1]
    if after and after[0]["epoch"] == 1:
        found["first"] = after[0]
    if after and after[-1]["epoch"] > 1:
        found["last"] = after[-1]
    return found


def _limit(condition: Condition, prediction: Prediction | None) -> float | None:
    contents = [trial.content for _, trial in condition.trials if trial.content]
    if prediction is None or not contents or prediction.slope <= 0:
        return None
    options = mapping(at(contents[0], "model.params"))
    normalized = options.get("batch_norm") is True and options.get("residual") is not True
    return depth_limit(prediction.slope) if normalized else None


@lru_cache(maxsize=512)
def _predicted(model: str, batch_size: int) -> Prediction | None:
    import json

    return predict(json.loads(model), batch_size)


def _ends(interval: Interval | None) -> list[str]:
    if interval is None:
        return ["", "", ""]
    return [_four(interval.mean), _four(interval.low), _four(interval.high)]


def _four(value: float | None) -> str:
    return plain(value, 4)


def predicted_logs(trial: TrialRecord, measured: Sequence[float | None]) -> list[float]:
    """The predicted profile in decades, shifted to the mean of the measured one; empty without a prediction."""
    prediction = prediction_of(trial)
    known = [(place, value) for place, value in enumerate(measured) if value is not None]
    if prediction is None or not known or len(prediction.profile) != len(measured):
        return []
    decades = [value / math.log(10) for value in prediction.profile]
    shift = fmean(value - decades[place] for place, value in known)
    return [value + shift for value in decades]
