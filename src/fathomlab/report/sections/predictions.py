"""What the networks predict: collapsed networks, and the calibration of confidences."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.options import option
from fathomlab.analysis.study import Condition, Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.report.charts import Chart, line_keys, line_name, panels, width_of
from fathomlab.report.effects import percentage
from fathomlab.report.figures.lines import Line, line_figure
from fathomlab.report.figures.rows import Point, Row, row_figure
from fathomlab.report.figures.scales import linear_axis
from fathomlab.report.figures.style import HALF
from fathomlab.report.numbers import count, percent, plain
from fathomlab.report.section import Section
from fathomlab.report.tables import Table, table
from fathomlab.store.records import TrialRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLLAPSED = 0.5
MAX_HISTOGRAMS = 6
MAX_CLASSES = 20  # of a histogram
MAX_PANELS = 3
MIN_IMAGES = 10  # of a bin that is drawn


@dataclass(frozen=True)
class Predictions:
    """The content of the section.

    Attributes:
        collapsed: The collapsed trials; None if there are none.
        histograms: Predicted classes of conditions with a collapsed trial.
        calibration: Calibration errors; None if no trial has one.
    """

    sentence: str
    collapsed: Table | None
    histograms: tuple[Chart, ...]
    calibration: Table | None
    reliability: tuple[Chart, ...]


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section | None:
    """Collapsed networks, and the calibration of confidences."""
    collapsed, calibration = collapses(study), calibration_table(study)
    if not collapsed and calibration is None:
        return None
    content = Predictions(
        sentence=collapse_sentence(study, collapsed),
        collapsed=collapse_table(collapsed) if collapsed else None,
        histograms=tuple(histogram_charts(study)),
        calibration=calibration,
        reliability=tuple(calibration_charts(study)),
    )
    return Section("predictions", "What the networks predict", content, link="Predictions")


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
    collapsed: list[tuple[str, int, TrialRecord, int, float]] = []
    for condition, seed, trial in study.trials:
        shares = _shares(trial)
        if shares and max(shares) > COLLAPSED:
            collapsed.append((condition.name, seed, trial, shares.index(max(shares)), max(shares)))
    truths: dict[tuple[str, int], float] = {}
    for _, _, trial, class_, share in collapsed:
        accuracy = trial.metrics.get("test/accuracy")
        if share == 1.0 and accuracy is not None:  # a constant prediction is right only on its class
            truths[_data(trial), class_] = accuracy
    return [
        Collapse(
            name,
            seed,
            _label(trial, class_),
            share,
            truths.get((_data(trial), class_)),
            trial.metrics.get("test/accuracy"),
        )
        for name, seed, trial, class_, share in collapsed
    ]


def collapse_sentence(study: Study, collapsed: Sequence[Collapse]) -> str:
    """How many trials collapsed, and how many of them predict one class for all images."""
    constant = sum(item.share == 1.0 for item in collapsed)
    finished = sum(condition.count("finished") for condition in study.every)
    predict = "predicts" if len(collapsed) == 1 else "predict"
    text = f"{len(collapsed):,} of {count(finished, 'finished trial')} {predict} one class for more than half of the test images"
    return f"{text}, {constant} of them for all." if constant else f"{text}."


def collapse_table(collapsed: Sequence[Collapse]) -> Table:
    """A row per collapsed trial."""
    rows = [
        [item.condition, str(item.seed), item.label, *map(percent, (item.share, item.truth, item.accuracy))]
        for item in collapsed
    ]
    columns = ["condition", "seed", "class", "share of predictions (%)", "share of the test set (%)"]
    return table("collapses", [*columns, "test accuracy (%)"], rows)


@dataclass(frozen=True)
class ClassShare:
    """How often one condition predicts one class.

    Attributes:
        label: Name of the class.
        mean: Mean share of the test set over seeds [%].
        seeds: Share of each seed [%].
    """

    label: str
    mean: float
    seeds: tuple[float, ...]


def predicted_classes(shares: Sequence[ClassShare], width: int = HALF) -> "Figure":
    """Draw a bar per class for the mean, and a dot per seed."""
    rows = [Row(item.label, tuple(Point(seed) for seed in item.seeds if seed > 0), bar=item.mean) for item in shares]
    return row_figure(rows, linear_axis("share of predictions (%)", 0, 100, 4), width, row=17)


def histogram_charts(study: Study) -> list[Chart]:
    """Predicted classes of each condition with a collapsed trial: each seed's share, and the mean as a bar."""
    collapsed = [
        condition
        for condition in study.conditions
        if any(shares and max(shares) > COLLAPSED for shares in map(_shares, (trial for _, trial in condition.trials)))
    ][:MAX_HISTOGRAMS]
    width = width_of(len(collapsed))
    return [_histogram(index, condition, study.metric, width) for index, condition in enumerate(collapsed, start=1)]


def calibration_table(study: Study) -> Table | None:
    """Expected calibration error of each condition; None if no trial has it."""
    rows: list[list[str]] = []
    for condition in study.conditions:
        trials = [trial for _, trial in condition.trials if trial.status == "finished"]
        mean = percentage([trial.outcome.calibration_error for trial in trials])
        ends = ["", "", ""] if mean is None else [plain(mean.mean), plain(mean.low), plain(mean.high)]
        rows.append([condition.name, *ends, str(mean.n if mean else 0), condition.excluded(study.metric)])
    columns = ["condition", "calibration error (%)", "95% low", "95% high", "seeds", "excluded"]
    return table("calibration", columns, rows) if any(row[1] for row in rows) else None


@dataclass(frozen=True)
class Bin:
    """The test images of one range of confidences, all finished seeds pooled.

    Attributes:
        number: Number of the bin, from 1 to 15.
        confidence: Mean probability of the predicted class [%].
        accuracy: Share of correct predictions [%].
        images: Number of images.
    """

    number: int
    confidence: float
    accuracy: float
    images: float


def reliability_diagram(names: Sequence[str], pools: Sequence[Sequence[Bin]], width: int = HALF) -> "Figure":
    """Draw accuracy against confidence, a line per condition, with the diagonal of perfect calibration."""
    drawn = [[item for item in pool if item.images >= MIN_IMAGES] for pool in pools]
    lines = [
        Line(
            line_name(name),
            tuple((item.confidence, item.accuracy) for item in pool),
            texts=tuple(
                f"{name}, mean confidence {item.confidence:.1f}%: accuracy {item.accuracy:.1f}% ({item.images:,.0f} images)"
                for item in pool
            ),
        )
        for name, pool in zip(names, drawn, strict=True)
    ]
    x, y = linear_axis("confidence (%)", 0, 100), linear_axis("accuracy (%)", 0, 100)
    return line_figure(lines, x, y, width, diagonal=True, marks=True)


def calibration_charts(study: Study) -> list[Chart]:
    """Accuracy against confidence, all seeds of a condition pooled, with the diagonal of perfect calibration."""
    shown = [
        (panel, known)
        for panel, conditions in panels(study)[:MAX_PANELS]
        if (known := [(condition, pool) for condition in conditions if (pool := _pooled(condition))])
    ]
    width = width_of(len(shown))
    return [
        _reliability(index, panel, pools, study.metric, width) for index, (panel, pools) in enumerate(shown, start=1)
    ]


def _reliability(
    index: int, panel: str, pools: Sequence[tuple[Condition, tuple[Bin, ...]]], metric: str, width: int
) -> Chart:
    name = f"reliability-{index}"
    names = [item.level or item.name for item, _ in pools]
    excluded = [item.excluded(metric) for item, _ in pools]
    texts = [f"{label} ({text})" if text else label for label, text in zip(names, excluded, strict=True)]
    title = f"Accuracy against confidence{f', {panel}' if panel else ''} (%)"
    description = (
        f"{title}: test images in 15 bins by the probability of the predicted class, all finished seeds pooled, bins of "
        f"{MIN_IMAGES} or more images, for {'; '.join(texts)}. Points on the diagonal are well calibrated; points below "
        "it are overconfident."
    )
    draw = partial(reliability_diagram, names, [pool for _, pool in pools], width)
    rows = [
        [text, str(item.number), plain(item.confidence), plain(item.accuracy), f"{item.images:.0f}"]
        for text, (_, pool) in zip(texts, pools, strict=True)
        for item in pool
    ]
    data = table(name, ["condition", "bin", "confidence (%)", "accuracy (%)", "images"], rows)
    return Chart(name, title, description, draw, data, line_keys(texts))


def _pooled(condition: Condition) -> tuple[Bin, ...]:
    """The bins of a condition, over all its finished seeds."""
    sums: dict[int, tuple[float, float, float]] = {}
    for trial in (trial for _, trial in condition.trials if trial.status == "finished"):
        for bin_number, bin_ in enumerate(trial.outcome.bins or (), start=1):
            confidence, accuracy, images = (*bin_, None, None, None)[:3]
            if confidence is not None and accuracy is not None and images:
                total = sums.get(bin_number, (0.0, 0.0, 0.0))
                sums[bin_number] = (total[0] + images * confidence, total[1] + images * accuracy, total[2] + images)
    return tuple(
        Bin(bin_number, 100 * confidence / images, 100 * accuracy / images, images)
        for bin_number, (confidence, accuracy, images) in sorted(sums.items())
    )


def _histogram(index: int, condition: Condition, metric: str, width: int) -> Chart:
    name = f"predicted-{index}"
    seeds = [(seed, trial, shares) for seed, trial in condition.trials if (shares := _shares(trial))]
    labels = [_label(seeds[0][1], class_) for class_ in range(len(seeds[0][2]))]
    seeds = [(seed, shares) for seed, _, shares in seeds if len(shares) == len(labels)]
    excluded = condition.excluded(metric)
    title = f"Predicted classes: {condition.name}{f', {excluded}' if excluded else ''} (%)"
    shown = [
        ClassShare(
            label,
            100 * fmean(shares[class_] for _, shares in seeds),
            tuple(100 * shares[class_] for _, shares in seeds),
        )
        for class_, label in enumerate(labels)
    ]
    rows = [[item.label, plain(item.mean), *map(plain, item.seeds)] for item in shown]
    top = max(shown, key=lambda item: item.mean)
    if len(shown) > MAX_CLASSES:
        least = sorted((item.mean for item in shown), reverse=True)[MAX_CLASSES - 1]
        shown = [item for item in shown if item.mean > 0 and item.mean >= least][:MAX_CLASSES]
        title = title.replace("Predicted classes:", "Most frequently predicted classes:", 1)
    description = f"{title}: share of the test set, each seed and the mean; largest: {top.label}, {top.mean:.1f}%."
    data = table(name, ["class", "mean (%)", *(f"seed {seed} (%)" for seed, _ in seeds)], rows)
    return Chart(name, title, description, partial(predicted_classes, shown, width), data)


def _shares(trial: TrialRecord) -> list[float]:
    """The share of the test images that a finished trial assigns to each class; empty if unknown."""
    counts = trial.outcome.predicted or ()
    total = sum(counts)
    return [value / total for value in counts] if total > 0 and trial.status == "finished" else []


def _data(trial: TrialRecord) -> str:
    """What identifies the dataset."""
    return repr([option(trial, key) for key in ("data.name", "data.params", "data.sha256", "plugins")])


def _label(trial: TrialRecord, class_: int) -> str:
    names = trial.dataset.class_names if trial.dataset is not None else ()
    return str(names[class_]) if class_ < len(names) else str(class_)
