"""How activation gradients change from layer to layer: the slope fitted in each trial, beside the one that theory predicts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean
from typing import Any

from fathomlab.analysis.statistics import Interval, mean_interval
from fathomlab.analysis.theory import Prediction, depth_limit, predicted
from fathomlab.base.identity import canonical_json
from fathomlab.report.figures import COLOURS, Figure, Key, drawn
from fathomlab.report.loose import at, mapping, number
from fathomlab.report.numbers import plain
from fathomlab.report.study import Condition, Study
from fathomlab.report.tables import Table, table
from fathomlab.store.records import TrialRecord

DEFAULT_EXAMPLES = 128
MOST_ROWS = 40


@dataclass(frozen=True)
class Slopes:
    """The slopes of one condition over its seeds [nats a layer], positive where gradients grow towards the input.

    Attributes:
        start: At initialisation.
        first: After the first epoch.
        last: At the end of training; None where that is the first epoch.
        each: Every seed's slope at initialisation.
        prediction: What theory says of the start, where it says anything.
        limit: The depth limit of a batch-normalised plain net [layers], where one is predicted.
    """

    condition: Condition
    start: Interval | None
    first: Interval | None
    last: Interval | None
    each: tuple[float, ...]
    prediction: Prediction | None
    limit: float | None

    @property
    def agreement(self) -> str:
        """Whether measurement and prediction agree, in words; "" where one is missing."""
        if self.start is None or self.prediction is None:
            return ""
        low = self.start.mean if self.start.low is None else self.start.low
        high = self.start.mean if self.start.high is None else self.start.high
        allowed = self.prediction.tolerance
        return "agrees" if low - allowed <= self.prediction.slope <= high + allowed else "differs"


def condition_slopes(study: Study) -> list[Slopes]:
    """The slopes of all conditions whose trials measured activation gradients at three layers or more."""
    return [found for condition in study.conditions if (found := _slopes(condition)) is not None]


def slope(norms: Sequence[float | None], stride: float = 1.0) -> float | None:
    """Minus the least-squares slope of ln of the norms over the layers [nats a layer]; None where a norm is 0 or missing.

    Args:
        norms: One for each layer, or block of `stride` layers, from the input to the output; at least three.
        stride: Layers between two norms.

    Example:
        >>> round(slope([1.0, 2.0, 4.0]), 3)
        -0.693
    """
    if len(norms) < 3 or any(norm is None or norm <= 0 for norm in norms):
        return None
    logs = [math.log(norm) for norm in norms if norm is not None]
    centre = (len(logs) - 1) / 2
    total = sum((place - centre) ** 2 for place in range(len(logs)))
    return sum((centre - place) * value for place, value in enumerate(logs)) / total / stride


def prediction_of(trial: TrialRecord) -> Prediction | None:
    """What theory predicts of a trial's network at its start, on the batch that the probe took."""
    model = trial.content.get("model")
    sizes = [at(trial.content, "data.batch_size"), at(trial.content, "probes.gradients.examples") or DEFAULT_EXAMPLES]
    known = [int(size) for value in sizes if (size := number(value)) is not None]
    return _predicted(canonical_json(model), min(known)) if mapping(model) else None


def stride_of(trial: TrialRecord, layers: int) -> float:
    """Hidden layers between two measured outputs; 1 where the network is no MLP."""
    hidden = number(at(trial.content, "model.params.hidden_layers_num"))
    return hidden / (layers - 1) if hidden and layers > 1 else 1.0


def slopes_table(found: Sequence[Slopes]) -> Table:
    """Measured and predicted, condition by condition."""
    rows: list[list[str]] = []
    for item in found:
        prediction = item.prediction
        row = [item.condition.name, item.agreement or "no prediction", *_ends(item.start)]
        row += ["", ""] if prediction is None else [_four(prediction.slope), _four(prediction.tolerance)]
        rows.append([*row, *_ends(item.first), *_ends(item.last), plain(item.limit, 1), str(len(item.each))])
    columns = [
        "condition",
        "measured and predicted",
        "at initialisation",
        "95 % low",
        "95 % high",
        "predicted",
        "allowed",
    ]
    for when in ("after epoch 1", "at the end"):
        columns += [when, f"{when}: low", f"{when}: high"]
    return table("slopes", [*columns, "depth limit [layers]", "n"], rows, texts=2)


def sources(found: Sequence[Slopes]) -> list[tuple[str, str]]:
    """Each rule behind a prediction, and the conditions that it is for."""
    rules: dict[str, list[str]] = {}
    for item in found:
        if item.prediction is not None:
            rules.setdefault(item.prediction.source, []).append(item.condition.name)
    return [(rule, ", ".join(names)) for rule, names in rules.items()]


def slopes_sentence(found: Sequence[Slopes]) -> str:
    """How many predictions agree, which do not, and which nets lie beyond their depth limit."""
    known = [item for item in found if item.agreement]
    if not known:
        return "No closed form predicts the slope of these networks."
    apart = [item.condition.name for item in known if item.agreement == "differs"]
    said = f"At initialisation {len(known) - len(apart)} of {len(known)} predicted slopes agree with the measured ones"
    said += f"; not in {', '.join(apart)}." if apart else "."
    beyond = [item for item in known if item.limit is not None and (item.condition.depth or 0) > item.limit]
    if beyond:
        names = ", ".join(item.condition.name for item in beyond)
        said += f" Beyond the depth at which batch-normalised nets cease to train: {names}."
    return said


def slopes_figure(found: Sequence[Slopes]) -> Figure:
    """Every seed's slope, mean and interval, and the prediction, a row for each condition."""
    shown = found[:MOST_ROWS]
    points = [{"x": value, "y": place} for place, item in enumerate(shown) for value in item.each]
    means = [{"x": item.start.mean, "y": place} for place, item in enumerate(shown) if item.start]
    spans = [
        {"l": item.start.low, "h": item.start.high, "y": place}
        for place, item in enumerate(shown)
        if item.start and item.start.low is not None
    ]
    theory = [{"x": item.prediction.slope, "y": place} for place, item in enumerate(shown) if item.prediction]
    labels = [item.condition.name.removeprefix("init ") for item in shown]
    names = [{"y": place, "t": label} for place, label in enumerate(labels)]
    x: dict[str, Any] = {"field": "x", "type": "quantitative", "title": "slope at initialisation [nats a layer]"}
    x |= {"scale": {"zero": True}, "axis": {"tickCount": 4}}
    scale = {"domain": [-0.6, len(shown) - 0.4], "nice": False, "reverse": True, "zero": False}
    y: dict[str, Any] = {"field": "y", "type": "quantitative", "axis": None, "scale": scale}
    both = {"x": x, "y": y}
    text = {"type": "text", "align": "right", "x": -8, "fontSize": 11, "color": "var(--muted)", "limit": 150}
    layers: list[dict[str, Any]] = [
        _layer([{"x": 0.0}], {"type": "rule", "color": "var(--ink)", "strokeWidth": 1}, {"x": x}),
        _layer(
            spans,
            {"type": "rule", "strokeWidth": 2.4, "color": COLOURS[0]},
            {"x": {**x, "field": "l"}, "x2": {"field": "h"}, "y": y},
        ),
        _layer(points, {"type": "point", "filled": True, "size": 22, "color": COLOURS[0], "opacity": 0.5}, both),
        _layer(means, {"type": "point", "filled": True, "size": 60, "color": COLOURS[0]}, both),
        _layer(theory, _HOLLOW, both),
        _layer(names, text, {"y": y, "text": {"field": "t"}}),
    ]
    longest = max(map(len, labels), default=0)
    padding = {"left": 4 + longest, "right": 12, "top": 3, "bottom": 3}
    spec = {"width": 190, "height": 20 * len(shown) + 8, "padding": padding, "layer": layers}
    title = "Slope of ln |dLoss/dh| over the layers"
    description = f"{title} at initialisation: every seed, the mean with its 95 % interval, and the predicted slope."
    keys = [Key("measured: mean and seeds", COLOURS[0], shape="circle"), Key("predicted", COLOURS[1], shape="diamond")]
    svg = drawn("slopes-figure", title, description, spec)
    return Figure("slopes-figure", title, description, svg, slopes_table(found), tuple(keys))


_HOLLOW = {"type": "point", "shape": "diamond", "size": 130, "color": COLOURS[1], "strokeWidth": 2, "filled": False}


def _layer(values: list[dict[str, Any]], mark: dict[str, Any], encoding: dict[str, Any]) -> dict[str, Any]:
    return {"data": {"values": values}, "mark": mark, "encoding": encoding}


def _slopes(condition: Condition) -> Slopes | None:
    times: dict[str, list[float]] = {"start": [], "first": [], "last": []}
    for _, trial in condition.trials:
        for when, snapshot in _moments(trial.gradients).items():
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
    )


def _moments(snapshots: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The snapshots at initialisation, after the first epoch and at the end, as far as there are any."""
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
    normalised = options.get("batch_norm") is True and options.get("residual") is not True
    return depth_limit(prediction.slope) if normalised else None


@lru_cache(maxsize=512)
def _predicted(model: str, batch_size: int) -> Prediction | None:
    import json

    return predicted(json.loads(model), batch_size)


def _ends(interval: Interval | None) -> list[str]:
    if interval is None:
        return ["", "", ""]
    return [_four(interval.mean), _four(interval.low), _four(interval.high)]


def _four(value: float | None) -> str:
    return plain(value, 4)


def predicted_logs(trial: TrialRecord, measured: Sequence[float | None]) -> list[float]:
    """The predicted profile in decades at the measured layers, laid over the measured one; empty without a prediction."""
    prediction = prediction_of(trial)
    known = [(place, value) for place, value in enumerate(measured) if value is not None]
    if prediction is None or not known or len(prediction.profile) != len(measured):
        return []
    decades = [value / math.log(10) for value in prediction.profile]
    shift = fmean(value - decades[place] for place, value in known)
    return [value + shift for value in decades]
