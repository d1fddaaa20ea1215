"""Which classes the networks of a condition confuse, and which test images they get wrong."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from fathomlab.analysis.study import Condition
from fathomlab.store.predictions import read_classes
from fathomlab.store.records import TrialRecord

if TYPE_CHECKING:
    import numpy.typing as npt

CODE = 2**16  # classes are stored in 16 bits


@dataclass(frozen=True)
class Confusion:
    """How often the images of one class are predicted as another.

    Attributes:
        true: Index of the class.
        predicted: Index of the predicted class.
        count: Number of predictions, over all seeds.
        share: Fraction of the predictions for images of the class.
    """

    true: int
    predicted: int
    count: int
    share: float


@dataclass(frozen=True)
class WrongImage:
    """A test image that some seeds get wrong.

    Attributes:
        index: Its position in the test set, from 0.
        true: Index of its class.
        predicted: Wrongly predicted class and number of seeds, the most frequent first.
        seeds: Number of seeds that get it wrong.
    """

    index: int
    true: int
    predicted: tuple[tuple[int, int], ...]
    seeds: int


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions of the finished trials of a condition.

    Attributes:
        trial: One of the trials.
        labels: Class of each test image, (n,).
        predicted: Class that each trial predicts, (seeds, n).
    """

    condition: Condition
    trial: TrialRecord
    labels: "npt.NDArray[np.uint16]"
    predicted: "npt.NDArray[np.uint16]"

    @property
    def seeds(self) -> int:
        """Number of trials."""
        return len(self.predicted)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; their numbers if the dataset is unknown or lacks a class that was predicted."""
        names = self.trial.dataset.class_names if self.trial.dataset is not None else ()
        number = 1 + int(max(self.labels.max(), self.predicted.max()))
        return names if len(names) >= number else tuple(map(str, range(number)))

    @cached_property
    def wrong(self) -> "npt.NDArray[np.int64]":
        """Number of seeds that get each test image wrong, (n,)."""
        return (self.predicted != self.labels).sum(0)

    @cached_property
    def cells(self) -> dict[tuple[int, int], Confusion]:
        """(class, predicted class) to how often it occurs. Pairs that do not occur are left out."""
        codes, counts = np.unique(self.labels.astype(np.int64) * CODE + self.predicted, return_counts=True)
        totals = Counter(dict(zip(*map(np.ndarray.tolist, np.unique(self.labels, return_counts=True)), strict=True)))
        cells: dict[tuple[int, int], Confusion] = {}
        for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
            true, predicted = divmod(code, CODE)
            cells[true, predicted] = Confusion(true, predicted, count, count / (self.seeds * totals[true]))
        return cells

    def confusions(self, limit: int) -> list[Confusion]:
        """The most frequent confusions by share of the class, at most `limit`."""
        pairs = [cell for cell in self.cells.values() if cell.true != cell.predicted]
        return sorted(pairs, key=lambda cell: (-cell.share, -cell.count, cell.true, cell.predicted))[:limit]

    def most_wrong(self, limit: int, elsewhere: "npt.NDArray[np.int64] | None" = None) -> list[WrongImage]:
        """The test images that most seeds get wrong, at most `limit`.

        Args:
            limit: Number of images.
            elsewhere: Number of trials that get each image wrong, which decides between images of equally many seeds, (n,).
        """
        rank = self.wrong if elsewhere is None else elsewhere
        order = np.lexsort((np.arange(len(self.wrong)), -rank, -self.wrong))[:limit].tolist()
        return [self._image(index) for index in order if self.wrong[index]]

    def _image(self, index: int) -> WrongImage:
        true = int(self.labels[index])
        counts = Counter(self.predicted[:, index].tolist())
        del counts[true]
        predicted = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return WrongImage(index, true, tuple(predicted), int(self.wrong[index]))


def predictions(condition: Condition) -> Predictions | None:
    """The predictions of the finished trials of a condition; None if no trial has stored them.

    Trials whose files are corrupted are left out.
    """
    first: TrialRecord | None = None
    labels: npt.NDArray[np.uint16] | None = None
    rows: list[npt.NDArray[np.uint16]] = []
    for trial in (trial for _, trial in condition.trials if trial.status == "finished" and trial.labels is not None):
        if first is None:
            labels = test_labels(trial)
            first = None if labels is None or not len(labels) else trial
        row = trial.predictions() if first is not None and trial.labels == first.labels else None
        if row is not None and labels is not None and len(row) == len(labels):
            rows.append(row)
    if first is None or labels is None or not rows:
        return None
    return Predictions(condition, first, labels, np.stack(rows))


def test_labels(trial: TrialRecord) -> "npt.NDArray[np.uint16] | None":
    """The class of each test image; None if the labels are not stored or are corrupted."""
    return (
        None if trial.labels is None else read_classes(trial.labels.path(trial.folder.parents[1]), trial.labels.sha256)
    )


def wrong_in_all(items: Sequence[Predictions]) -> "npt.NDArray[np.int64]":
    """Number of trials that get each test image wrong, over conditions with the same test set, (n,)."""
    return np.sum([item.wrong for item in items], axis=0)
