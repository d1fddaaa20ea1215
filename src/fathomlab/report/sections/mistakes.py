"""Which classes the networks confuse, and the test images that most of them get wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.mistakes import Confusion, Predictions, WrongImage, predictions, wrong_in_all
from fathomlab.analysis.pairing import emulated_mistakes
from fathomlab.analysis.study import Condition, Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.report.numbers import NBSP, capital, count, plain
from fathomlab.report.pictures import Picture, pictures
from fathomlab.report.section import Section
from fathomlab.report.tables import Table, table

MAX_CLASSES = 20  # of a matrix; with more classes, only the most frequent confusions are listed
MAX_ALL = 4  # conditions that are all shown at once
MAX_SHOWN = 8
MAX_FOLDED = 24
MAX_LEVEL = 2  # letters of a name above a column
NAMED_PAIRS = 3
LISTED_PAIRS = 12
MAX_IMAGES = 8
TIMES = "\u00d7"
SHADE = 50  # percent of the color of a cell with all images


@dataclass(frozen=True)
class Cell:
    """A cell of a matrix: the share of the images of a class (%), and its shade (% of the color)."""

    text: str
    title: str
    shade: int
    correct: bool


@dataclass(frozen=True)
class Matrix:
    """A row per class, a column per predicted class.

    Attributes:
        upright: Whether the names above the columns are too long for them.
    """

    classes: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    upright: bool


@dataclass(frozen=True)
class Mistaken:
    """A test image that most seeds get wrong.

    Attributes:
        label: Its class.
        predicted: The most frequent wrong predictions with the number of seeds.
        description: The same for screen readers, with its position in the test set.
        picture: The image; None if the dataset is not on this machine.
    """

    label: str
    predicted: str
    description: str
    picture: Picture | None


@dataclass(frozen=True)
class ConditionMistakes:
    """The mistakes of one condition.

    Attributes:
        sentence: Its most frequent confusions.
        matrix: None with many classes; `table` then lists the most frequent confusions.
        wrong: How many images all seeds get wrong.
    """

    name: str
    anchor: str
    sentence: str
    matrix: Matrix | None
    table: Table
    wrong: str
    images: tuple[Mistaken, ...]


@dataclass(frozen=True)
class Mistakes:
    """The content of the section.

    Attributes:
        sentence: The most frequent confusion of the best condition.
        shown: The most informative conditions.
        folded: Further conditions, without images.
        left_out: Number of conditions that are not on the page.
        missing: Title of a dataset whose images are not on this machine; "" if there is none.
    """

    sentence: str
    shown: tuple[ConditionMistakes, ...]
    folded: tuple[ConditionMistakes, ...]
    left_out: int
    missing: str


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section | None:
    """Confusion matrices and the images most often wrong; None if no predictions are stored."""
    chosen = informative_conditions(study)
    shown = [item for condition in chosen if (item := predictions(condition)) is not None]
    if not shown:
        return None
    others = [condition for condition in study.conditions if condition not in chosen and condition.count("finished")]
    folded = [item for condition in others[:MAX_FOLDED] if (item := predictions(condition)) is not None]
    numbers = {condition.name: number for number, condition in enumerate(study.conditions, start=1)}
    images = [_most_wrong(item, shown) for item in shown]
    drawn = _pictures(shown, images)
    missing = [item for item, wrong, pictures in zip(shown, images, drawn, strict=True) if wrong and not pictures]
    info = missing[0].trial.dataset if missing else None
    content = Mistakes(
        sentence=_sentence(study, shown),
        shown=tuple(
            _mistakes(study, item, numbers[item.condition.name], wrong, pictures)
            for item, wrong, pictures in zip(shown, images, drawn, strict=True)
        ),
        folded=tuple(_mistakes(study, item, numbers[item.condition.name], (), {}) for item in folded),
        left_out=max(0, len(others) - MAX_FOLDED),
        missing=(info.title if info is not None else "the dataset") if missing else "",
    )
    return Section("mistakes", "Which images are classified wrongly", content, link="Mistakes")


def informative_conditions(study: Study) -> list[Condition]:
    """All conditions if there are few, otherwise the best and the worst of each role and series."""
    finished = [condition for condition in study.conditions if condition.outcomes(study.metric)]
    if len(finished) <= MAX_ALL:
        return finished
    groups: dict[tuple[str, str], list[Condition]] = {}
    for condition in finished:
        groups.setdefault((condition.record.role, condition.series), []).append(condition)
    chosen: list[str] = []
    for group in groups.values():
        ordered = sorted(group, key=lambda item: -_accuracy(study, item))
        chosen += dict.fromkeys([ordered[0].name, ordered[-1].name])
    return [condition for condition in finished if condition.name in chosen[:MAX_SHOWN]]


def matrix(item: Predictions) -> Matrix:
    """The confusion matrix over all seeds, each row in percent of the images of a class."""
    rows = [
        tuple(_cell(item, true, predicted) for predicted in range(len(item.classes)))
        for true in range(len(item.classes))
    ]
    return Matrix(item.classes, tuple(rows), max(map(len, item.classes)) > MAX_LEVEL)


def confusion_table(item: Predictions, name: str, limit: int) -> Table:
    """The most frequent confusions."""
    rows = [
        [item.classes[cell.true], item.classes[cell.predicted], plain(100 * cell.share), str(cell.count)]
        for cell in item.confusions(limit)
    ]
    columns = ["class", "predicted class", "share of the class (%)", "images"]
    return table(name, columns, rows, texts=2)


def _matrix_table(item: Predictions, name: str) -> Table:
    rows = [[label, *(_share(item, i, j) for j in range(len(item.classes)))] for i, label in enumerate(item.classes)]
    return table(name, ["class, predicted as (%)", *item.classes], rows)


def _share(item: Predictions, true: int, predicted: int) -> str:
    cell = item.cells.get((true, predicted))
    return plain(100 * cell.share if cell is not None else 0.0)


def _cell(item: Predictions, true: int, predicted: int) -> Cell:
    cell = item.cells.get((true, predicted))
    share = 0.0 if cell is None else cell.share
    text = f"{100 * share:.0f}" if share > 0.005 else ""
    title = f"{item.classes[true]} predicted as {item.classes[predicted]}: {plain(100 * share, 1)}%"
    return Cell(text, title, round(SHADE * share**0.5), true == predicted)


def _accuracy(study: Study, condition: Condition) -> float:
    return fmean(condition.outcomes(study.metric).values())


def _sentence(study: Study, shown: Sequence[Predictions]) -> str:
    correct = [item for item in shown if not emulated_mistakes(item.condition)]
    best = max(correct or shown, key=lambda item: _accuracy(study, item.condition))
    worst = best.confusions(1)
    if not worst:
        return f"{capital(best.condition.name)} classifies every test image correctly."
    cell = worst[0]
    true, predicted = best.classes[cell.true], best.classes[cell.predicted]
    seeds = "" if best.seeds == 1 else f", mean over {count(best.seeds, 'seed')}"
    where = "" if len(study.conditions) == 1 else f" (best condition: {best.condition.name}{seeds})"
    return f"Most frequent confusion: {true} is predicted as {predicted} in {_percent(cell)} of its test images{where}."


def _most_wrong(item: Predictions, shown: Sequence[Predictions]) -> list[WrongImage]:
    same = [other for other in shown if other.trial.labels == item.trial.labels]
    return item.most_wrong(MAX_IMAGES, wrong_in_all(same))


def _pictures(shown: Sequence[Predictions], images: Sequence[Sequence[WrongImage]]) -> list[Mapping[int, Picture]]:
    """The images of each condition; each dataset is read once."""
    groups: dict[object, list[int]] = {}
    for number, item in enumerate(shown):
        groups.setdefault(item.trial.labels, []).append(number)
    drawn: dict[int, Mapping[int, Picture]] = {}
    for numbers in groups.values():
        indices = {image.index for number in numbers for image in images[number]}
        drawn |= dict.fromkeys(numbers, pictures(shown[numbers[0]].trial, indices, "test"))
    return [drawn[number] for number in range(len(shown))]


def _mistakes(
    study: Study, item: Predictions, number: int, images: Sequence[WrongImage], drawn: Mapping[int, Picture]
) -> ConditionMistakes:
    name, small = f"confusion-{number}", len(item.classes) <= MAX_CLASSES
    pairs = [
        f"{item.classes[cell.true]} as {item.classes[cell.predicted]} ({_percent(cell)})"
        for cell in item.confusions(NAMED_PAIRS)
    ]
    excluded = item.condition.excluded(study.metric)
    total = int((item.wrong == item.seeds).sum())
    seeds = {1: "the only seed gets", 2: "both seeds get"}.get(item.seeds, f"all {item.seeds} seeds get")
    return ConditionMistakes(
        name=f"{item.condition.name} ({excluded})" if excluded else item.condition.name,
        anchor=name,
        sentence=f"Most frequent: {', '.join(pairs)}." if pairs else "No test image is classified wrongly.",
        matrix=matrix(item) if small else None,
        table=_matrix_table(item, name) if small else confusion_table(item, name, LISTED_PAIRS),
        wrong=capital(f"{seeds} {total:,} of {len(item.labels):,} test images wrong."),
        images=tuple(_mistaken(item, image, drawn.get(image.index)) for image in images),
    )


def _mistaken(item: Predictions, image: WrongImage, drawn: Picture | None) -> Mistaken:
    label = item.classes[image.true]
    shown = [f"{item.classes[class_]}{NBSP}{TIMES}{seeds}" for class_, seeds in image.predicted[:NAMED_PAIRS]]
    more = len(image.predicted) - NAMED_PAIRS
    shown += [count(more, "other")] if more > 0 else []
    spoken = " and ".join(f"{item.classes[class_]} by {count(seeds, 'seed')}" for class_, seeds in image.predicted)
    return Mistaken(label, ", ".join(shown), f"Test image {image.index:,}, class {label}, predicted as {spoken}", drawn)


def _percent(cell: Confusion) -> str:
    return f"{plain(100 * cell.share, 1)}%"
