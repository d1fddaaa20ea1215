"""What the networks predict: collapsed networks, and the calibration of confidences."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from fathomlab.analysis.statistics import mean_interval
from fathomlab.analysis.study import Condition, Study
from fathomlab.data import DATASETS
from fathomlab.report.curves import panels
from fathomlab.report.effects import bounded
from fathomlab.report.figures import COLORS, DASHES, Figure, channel, drawn, line_keys
from fathomlab.report.loose import at, entries, number, numbers
from fathomlab.report.numbers import count, plain
from fathomlab.report.tables import Table, table
from fathomlab.store.records import TrialRecord

COLLAPSED = 0.5
MOST_HISTOGRAMS = 6
MOST_PANELS = 3
FEWEST_IMAGES = 10  # of a bin that is drawn


@dataclass(frozen=True)
class Collapse:
    """A trial that predicts one class for more than half of the test images.

    Attributes:
        share: Fraction of its predictions in that class.
        truth: Fraction of the class in the test set; None if unknown.
    """

    condition: str
    seed: int
    label: str
    share: float
    truth: float | None
    accuracy: float | None


def collapses(study: Study) -> list[Collapse]:
    """All finished trials that predict one class for more than half of the test images."""
    found: list[tuple[str, int, TrialRecord, int, float]] = []
    for condition, seed, trial in study.trials:
        shares = _shares(trial)
        if shares and max(shares) > COLLAPSED:
            found.append((condition.name, seed, trial, shares.index(max(shares)), max(shares)))
    truths: dict[tuple[str, int], float] = {}
    for _, _, trial, place, share in found:
        accuracy = trial.metrics.get("test/accuracy")
        if share == 1.0 and accuracy is not None:  # a constant prediction is right only on its class
            truths[_data(trial), place] = accuracy
    return [
        Collapse(
            name,
            seed,
            _label(trial, place),
            share,
            truths.get((_data(trial), place)),
            trial.metrics.get("test/accuracy"),
        )
        for name, seed, trial, place, share in found
    ]


def collapse_sentence(study: Study, found: Sequence[Collapse]) -> str:
    """How many trials collapsed, and how many of them predict one class for all images."""
    alone = sum(item.share == 1.0 for item in found)
    finished = sum(condition.count("finished") for condition in study.conditions)
    predict = "predicts" if len(found) == 1 else "predict"
    text = f"{len(found):,} of {count(finished, 'finished trial')} {predict} one class for more than half of the test images"
    return f"{text}, {alone} of them for all." if alone else f"{text}."


def collapse_table(found: Sequence[Collapse]) -> Table:
    """A row per collapsed trial."""
    rows = [
        [
            item.condition,
            str(item.seed),
            item.label,
            _percent(item.share),
            _percent(item.truth),
            _percent(item.accuracy),
        ]
        for item in found
    ]
    columns = [
        "condition",
        "seed",
        "class",
        "share of predictions (%)",
        "share of the test set (%)",
        "test accuracy (%)",
    ]
    return table("collapses", columns, rows)


def histogram_figures(study: Study) -> list[Figure]:
    """Predicted classes of each condition with a collapsed trial: each seed's share, and the mean as a bar."""
    found = [
        condition
        for condition in study.conditions
        if any(shares and max(shares) > COLLAPSED for shares in map(_shares, (trial for _, trial in condition.trials)))
    ]
    return [
        _histogram(place, condition, study.metric) for place, condition in enumerate(found[:MOST_HISTOGRAMS], start=1)
    ]


def calibration_table(study: Study) -> Table | None:
    """Expected calibration error of each condition; None if no trial has it."""
    rows: list[list[str]] = []
    for condition in study.conditions:
        trials = [trial for _, trial in condition.trials if trial.status == "finished"]
        values = [number(trial.outcome.get("calibration_error")) for trial in trials]
        known = [100 * value for value in values if value is not None]
        mean = bounded(mean_interval(known)) if known else None
        ends = ["", "", ""] if mean is None else [plain(mean.mean), plain(mean.low), plain(mean.high)]
        rows.append([condition.name, *ends, str(len(known)), condition.excluded(study.metric)])
    columns = ["condition", "calibration error (%)", "95% low", "95% high", "seeds", "excluded"]
    return table("calibration", columns, rows) if any(row[1] for row in rows) else None


def calibration_figures(study: Study) -> list[Figure]:
    """Accuracy against confidence, all seeds of a condition pooled, with the diagonal of perfect calibration."""
    figures: list[Figure] = []
    for place, (panel, conditions) in enumerate(panels(study)[:MOST_PANELS], start=1):
        pools = [(condition, _pooled(condition)) for condition in conditions]
        known = [(condition, pool) for condition, pool in pools if pool]
        if known:
            figures.append(_reliability(place, panel, known, study.metric))
    return figures


def _reliability(
    place: int, panel: str, pools: Sequence[tuple[Condition, dict[int, list[float]]]], metric: str
) -> Figure:
    name = f"reliability-{place}"
    texts = [
        f"{item.level or item.name}{f' ({excluded})' if (excluded := item.excluded(metric)) else ''}"
        for item, _ in pools
    ]
    title = f"Accuracy against confidence{f', {panel}' if panel else ''} (%)"
    description = (
        f"{title}: test images in 15 bins by the probability of the predicted class, all finished seeds pooled, bins of "
        f"{FEWEST_IMAGES} or more images, for {'; '.join(texts)}. Points on the diagonal are well calibrated; points below "
        "it are overconfident."
    )
    points = [
        {"x": 100 * bin_[0], "v": 100 * bin_[1], "g": group}
        for group, (_, pool) in enumerate(pools)
        for bin_ in pool.values()
        if bin_[2] >= FEWEST_IMAGES
    ]
    scale = {"domain": [0, 100], "nice": False}
    x = {"field": "x", "type": "quantitative", "title": "confidence (%)", "scale": scale, "axis": {"tickCount": 5}}
    y = {"field": "v", "type": "quantitative", "scale": scale}
    color, dash = channel(COLORS, len(pools)), channel(DASHES, len(pools))
    honest = {"type": "line", "color": "var(--muted)", "strokeWidth": 1}
    spec = {
        "height": 190,
        "layer": [
            {
                "data": {"values": [{"x": 0, "v": 0}, {"x": 100, "v": 100}]},
                "mark": honest,
                "encoding": {"x": x, "y": y},
            },
            {
                "data": {"values": points},
                "mark": {"type": "line", "strokeWidth": 1.8, "point": {"size": 16}},
                "encoding": {"x": x, "y": y, "color": color, "strokeDash": dash},
            },
        ],
    }
    rows = [
        [text, str(bin_), plain(100 * values[0]), plain(100 * values[1]), f"{values[2]:.0f}"]
        for text, (_, pool) in zip(texts, pools, strict=True)
        for bin_, values in sorted(pool.items())
    ]
    data = table(name, ["condition", "bin", "confidence (%)", "accuracy (%)", "images"], rows)
    return Figure(name, title, description, drawn(name, title, description, spec), data, line_keys(texts))


def _pooled(condition: Condition) -> dict[int, list[float]]:
    """Bin to confidence, accuracy, and number of images, over all finished seeds of a condition."""
    pool: dict[int, list[float]] = {}
    for trial in (trial for _, trial in condition.trials if trial.status == "finished"):
        for place, bin_ in enumerate(entries(trial.outcome.get("bins")), start=1):
            confidence, accuracy, images = (*numbers(bin_), None, None, None)[:3]
            if confidence is not None and accuracy is not None and images:
                sums = pool.setdefault(place, [0.0, 0.0, 0.0])
                sums[0], sums[1], sums[2] = sums[0] + images * confidence, sums[1] + images * accuracy, sums[2] + images
    return {place: [own[0] / own[2], own[1] / own[2], own[2]] for place, own in pool.items()}


def _histogram(place: int, condition: Condition, metric: str) -> Figure:
    name = f"predicted-{place}"
    seeds = [(seed, trial, shares) for seed, trial in condition.trials if (shares := _shares(trial))]
    labels = [_label(seeds[0][1], class_) for class_ in range(len(seeds[0][2]))]
    seeds = [(seed, trial, shares) for seed, trial, shares in seeds if len(shares) == len(labels)]
    excluded = condition.excluded(metric)
    title = f"Predicted classes: {condition.name}{f', {excluded}' if excluded else ''} (%)"
    means = [fmean(shares[label] for _, _, shares in seeds) for label in range(len(labels))]
    bars = [{"x": label, "v": 100 * mean} for label, mean in zip(labels, means, strict=True)]
    points = [
        {"x": label, "v": 100 * share}
        for _, _, shares in seeds
        for label, share in zip(labels, shares, strict=True)
        if share > 0
    ]
    top = means.index(max(means))
    description = (
        f"{title}: share of the test set, each seed and the mean; largest: {labels[top]}, {100 * means[top]:.1f}%."
    )
    axis = {"labelAngle": 0 if max(map(len, labels)) < 4 else -40, "labelOverlap": False}
    x = {"field": "x", "type": "ordinal", "sort": labels, "title": None, "axis": axis}
    y = {"field": "v", "type": "quantitative", "scale": {"domain": [0, 100], "nice": False}}
    layers: list[dict[str, Any]] = [
        {"data": {"values": bars}, "mark": {"type": "bar", "color": COLORS[0], "opacity": 0.45}},
        {"data": {"values": points}, "mark": {"type": "point", "filled": True, "size": 30, "color": COLORS[0]}},
    ]
    spec = {"height": 120, "layer": [{**layer, "encoding": {"x": x, "y": y}} for layer in layers]}
    rows = [
        [label, _percent(means[class_]), *(_percent(shares[class_]) for _, _, shares in seeds)]
        for class_, label in enumerate(labels)
    ]
    data = table(name, ["class", "mean (%)", *(f"seed {seed} (%)" for seed, _, _ in seeds)], rows)
    return Figure(name, title, description, drawn(name, title, description, spec), data)


def _shares(trial: TrialRecord) -> list[float]:
    """The share of the test images that a finished trial assigns to each class; empty if unknown."""
    counts = [value or 0.0 for value in numbers(trial.outcome.get("predicted"))]
    total = sum(counts)
    return [value / total for value in counts] if total > 0 and trial.status == "finished" else []


def _data(trial: TrialRecord) -> str:
    return str(at(trial.content, "data.name"))


def _label(trial: TrialRecord, place: int) -> str:
    known = DATASETS.get(_data(trial))
    names = known.info.class_names if known is not None else ()
    return str(names[place]) if place < len(names) else str(place)


def _percent(share: float | None) -> str:
    return plain(None if share is None else 100 * share)
