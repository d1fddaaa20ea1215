"""How activation gradients change from layer to layer: the slope fitted per trial, and the prediction of theory."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from statistics import fmean
from typing import TYPE_CHECKING

from fathomlab.analysis.options import network, number
from fathomlab.analysis.statistics import Interval, mean_interval
from fathomlab.analysis.study import Condition, Study
from fathomlab.analysis.theory import Prediction, depth_limit, predict
from fathomlab.models.mlp import MLP
from fathomlab.report.charts import Chart, LegendEntry, drawn_seeds
from fathomlab.report.figures.rows import Point, Row, row_figure
from fathomlab.report.figures.scales import linear_axis, range_of
from fathomlab.report.figures.style import HALF
from fathomlab.report.numbers import plain
from fathomlab.report.tables import Table, table
from fathomlab.store.records import ProbeSnapshot, TrialRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEFAULT_EXAMPLES = 128
MAX_ROWS = 40
TIMES = ("start", "first", "last")  # of the slopes of a trial


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


def trial_slopes(trial: TrialRecord) -> Mapping[str, float]:
    """The slopes of a trial: at the `start`, after the `first` epoch, and at the `last` step, as far as it has them."""
    slopes: dict[str, float] = {}
    for when, snapshot in _moments(trial.probes.get("gradients", ())).items():
        if when == "last" and trial.status != "finished":
            continue  # its last snapshot is not the end of training
        norms = snapshot.columns["activation"]
        fitted = slope(norms, stride_of(trial, len(norms)))
        if fitted is not None:
            slopes[when] = fitted
    return slopes


def condition_slopes(
    study: Study, slopes_of: Callable[[TrialRecord], Mapping[str, float]] = trial_slopes
) -> list[Slopes]:
    """The slopes of all conditions whose trials measured activation gradients at three or more layers.

    Args:
        study: The experiment.
        slopes_of: The slopes of a trial, as `trial_slopes` gives them.
    """
    fitted = (_slopes(condition, study.metric, slopes_of) for condition in study.conditions)
    return [slopes for slopes in fitted if slopes is not None]


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
    total = sum((layer - center) ** 2 for layer in range(len(logs)))
    return sum((center - layer) * value for layer, value in enumerate(logs)) / total / stride


def prediction_of(trial: TrialRecord) -> Prediction | None:
    """Predicted slope of a trial's network at initialization, for the batch size of the probe."""
    model, examples = network(trial), number(trial, "probes.gradients.examples") or DEFAULT_EXAMPLES
    batch_size = int(min(examples, number(trial, "data.batch_size") or examples))
    component = model.component if model is not None else None
    return _predicted(component, batch_size) if isinstance(component, MLP) else None


def stride_of(trial: TrialRecord, layers: int) -> float:
    """Hidden layers between two measured outputs; 1 if the network is not an MLP."""
    hidden = number(trial, "model.params.hidden_layers_num")
    return hidden / (layers - 1) if hidden and layers > 1 else 1.0


def slopes_table(slopes: Sequence[Slopes]) -> Table:
    """Measured and predicted slopes, a row per condition."""
    rows: list[list[str]] = []
    for item in slopes:
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


def sources(slopes: Sequence[Slopes]) -> list[tuple[str, str]]:
    """Each rule behind a prediction, and the conditions that it applies to."""
    rules: dict[str, list[str]] = {}
    for item in slopes:
        if item.prediction is not None:
            rules.setdefault(item.prediction.source, []).append(item.condition.name)
    return [(rule, "; ".join(names)) for rule, names in rules.items()]


def slopes_sentence(slopes: Sequence[Slopes]) -> str:
    """How many predictions agree, which do not, and which networks exceed their depth limit."""
    known = [item for item in slopes if item.agreement]
    if not known:
        return "No theoretical prediction is available for these networks."
    mismatches = [item.condition.name for item in known if item.agreement == "differs"]
    text = f"Theory matches {len(known) - len(mismatches)} of {len(known)} measured slopes at initialization."
    text += f" Mismatch: {'; '.join(mismatches)}." if mismatches else ""
    missing = [
        f"{item.condition.name} ({len(item.condition.trials) - len(item.each)} of {len(item.condition.trials)} seeds)"
        for item in slopes
        if len(item.each) < len(item.condition.trials)
    ]
    text += f" No slope at initialization: {'; '.join(missing)}." if missing else ""
    beyond = [item for item in known if item.limit is not None and (item.condition.depth or 0) > item.limit]
    if beyond:
        names = "; ".join(item.condition.name for item in beyond)
        text += f" Deeper than the predicted trainability limit: {names}."
    return text


def slopes_figure(shown: Sequence[Slopes], width: int = HALF) -> "Figure":
    """Draw each seed's slope, the mean with its interval, and the prediction: a row per condition."""
    rows = [
        Row(
            item.condition.name.removeprefix("initialization "),
            tuple(map(Point, drawn_seeds(item.each))),
            item.start,
            predicted=item.prediction.slope if item.prediction else None,
        )
        for item in shown
    ]
    values = [value for row in rows for value in (row.predicted, *(point.value for point in row.points)) if value]
    ends = [end for row in rows if row.mean for end in (row.mean.low, row.mean.high) if end is not None]
    x = linear_axis("slope at initialization (nats per layer)", *range_of([*values, *ends, 0.0]), 4)
    return row_figure(rows, x, width, zero=True)


def slopes_chart(slopes: Sequence[Slopes]) -> Chart:
    """The slopes of the first conditions, with the table of all."""
    shown = slopes[:MAX_ROWS]
    title = "Slope of the activation gradients at initialization"
    known = any(item.start and item.start.low is not None for item in shown)
    mean = "the mean with its 95% interval" if known else "the mean"
    more = f" The first {len(shown)} of {len(slopes)} conditions are drawn." * (len(slopes) > len(shown))
    predicted = any(item.prediction for item in shown)
    what = f"each seed, {mean}, and the predicted slope" if predicted else f"each seed and {mean}"
    description = f"{title}: {what}.{more}"
    keys = (LegendEntry("measured: mean and seeds", 0, shape="circle"),)
    keys += (LegendEntry("predicted", 1, shape="diamond-hollow"),) * predicted
    return Chart("slopes-figure", title, description, partial(slopes_figure, shown), slopes_table(slopes), keys)


def _slopes(
    condition: Condition, metric: str, slopes_of: Callable[[TrialRecord], Mapping[str, float]]
) -> Slopes | None:
    times: dict[str, list[float]] = {when: [] for when in TIMES}
    for _, trial in condition.trials:
        for when, fitted in slopes_of(trial).items():
            times[when].append(fitted)
    if not any(times.values()):
        return None
    intervals = {when: mean_interval(values) if values else None for when, values in times.items()}
    prediction = next((rule for _, trial in condition.trials if (rule := prediction_of(trial)) is not None), None)
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


def _moments(snapshots: Sequence[ProbeSnapshot]) -> dict[str, ProbeSnapshot]:
    """The snapshots at initialization, after the first epoch, and at the end, if available."""
    moments: dict[str, ProbeSnapshot] = {}
    if snapshots and snapshots[0].step == 0:
        moments["start"] = snapshots[0]
    after = [snapshot for snapshot in snapshots if snapshot.epoch >= 1]
    if after and after[0].epoch == 1:
        moments["first"] = after[0]
    if after and after[-1].epoch > 1:
        moments["last"] = after[-1]
    return moments


def _limit(condition: Condition, prediction: Prediction | None) -> float | None:
    models = [model.component for _, trial in condition.trials if (model := network(trial)) is not None]
    if prediction is None or not models or prediction.slope <= 0:
        return None
    normalized = isinstance(models[0], MLP) and models[0].batch_norm and not models[0].residual
    return depth_limit(prediction.slope) if normalized else None


@lru_cache(maxsize=512)
def _predicted(model: MLP, batch_size: int) -> Prediction | None:
    return predict(model, batch_size)


def _ends(interval: Interval | None) -> list[str]:
    if interval is None:
        return ["", "", ""]
    return [_four(interval.mean), _four(interval.low), _four(interval.high)]


def _four(value: float | None) -> str:
    return plain(value, 4)


def predicted_logs(trial: TrialRecord, measured: Sequence[float | None]) -> list[float]:
    """The predicted profile in decades, shifted to the mean of the measured one; empty without a prediction."""
    prediction = prediction_of(trial)
    known = [(layer, value) for layer, value in enumerate(measured) if value is not None]
    if prediction is None or not known or len(prediction.profile) != len(measured):
        return []
    decades = [value / math.log(10) for value in prediction.profile]
    shift = fmean(value - decades[layer] for layer, value in known)
    return [value + shift for value in decades]
