"""Confusions and images most often wrong equal loops over trials and images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fathomlab.analysis.mistakes import Predictions, predictions, wrong_in_all
from fathomlab.analysis.study import Study, study
from fathomlab.store.predictions import PREDICTIONS
from fathomlab.store.reading import Store
from tests.helpers import stores

LABELS = [0, 0, 1, 1, 1, 2, 2, 2, 2, 2]
PREDICTED = [
    [0, 1, 1, 1, 2, 2, 2, 2, 2, 0],
    [0, 1, 1, 0, 2, 2, 2, 2, 1, 1],
    [1, 2, 1, 1, 2, 2, 2, 0, 2, 0],
]


def small_study(root: Path, rows: list[list[int]], **options: Any) -> Study:
    """A study of one condition with a trial per row of predictions."""
    trials = [
        (seed, stores.write_trial(root, "small", {}, seed, 0.5, labels=LABELS, predicted=row, epochs=1, **options))
        for seed, row in enumerate(rows)
    ]
    stores.write_experiment(root, "small", "Small", [stores.condition("a", {}, None, trials)])
    store = Store(root)
    return study(store, store.experiment("small"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Predictions:
    result = predictions(small_study(tmp_path_factory.mktemp("runs"), PREDICTED).conditions[0])
    assert result is not None
    return result


def test_cells_equal_a_loop(small: Predictions) -> None:
    counts: dict[tuple[int, int], int] = {}
    for row in PREDICTED:
        for true, predicted in zip(LABELS, row, strict=True):
            counts[true, predicted] = counts.get((true, predicted), 0) + 1
    assert {key: cell.count for key, cell in small.cells.items()} == counts
    assert {key: cell.share for key, cell in small.cells.items()} == {
        (true, predicted): count / (3 * LABELS.count(true)) for (true, predicted), count in counts.items()
    }


def test_confusions_are_sorted_by_share_of_the_class(small: Predictions) -> None:
    """0 as 1: 3 of 6; 1 as 2: 3 of 9; 2 as 0: 3 of 15, which occurs as often; then 0 as 2: 1 of 6."""
    confusions = [(cell.true, cell.predicted, cell.count) for cell in small.confusions(4)]
    assert confusions == [(0, 1, 3), (1, 2, 3), (2, 0, 3), (0, 2, 1)]


def test_most_wrong_images_equal_a_loop(small: Predictions) -> None:
    wrong = [sum(row[index] != label for row in PREDICTED) for index, label in enumerate(LABELS)]
    images = small.most_wrong(10)
    assert [(image.index, image.seeds) for image in images] == sorted(
        ((index, number) for index, number in enumerate(wrong) if number), key=lambda item: (-item[1], item[0])
    )
    assert {image.index: image.predicted for image in images}[1] == ((1, 2), (2, 1))
    assert {image.index: image.predicted for image in images}[3] == ((0, 1),)
    assert {image.index: image.true for image in images}[9] == 2


def test_images_wrong_elsewhere_come_first_among_equals(small: Predictions) -> None:
    """Images 1, 4, and 9 are wrong in all seeds."""
    elsewhere = np.array([0, 5, 0, 0, 9, 0, 0, 0, 0, 7])
    assert [image.index for image in small.most_wrong(3, elsewhere)] == [4, 9, 1]
    assert wrong_in_all([small, small]).tolist() == [2 * number for number in small.wrong]


def test_corrupted_and_diverged_trials_are_left_out(tmp_path: Path) -> None:
    written = small_study(tmp_path, PREDICTED)
    (written.conditions[0].trials[1][1].folder / PREDICTIONS).write_bytes(b"\0" * 20)
    store = Store(tmp_path)
    result = predictions(study(store, store.experiment("small")).conditions[0])
    assert result is not None
    assert result.predicted.tolist() == [PREDICTED[0], PREDICTED[2]]
    diverged = small_study(tmp_path / "diverged", PREDICTED, status="diverged", cause="the loss was not finite")
    assert predictions(diverged.conditions[0]) is None
