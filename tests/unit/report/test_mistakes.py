"""Confusion matrices and images on the page."""

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fathomlab.analysis.mistakes import predictions
from fathomlab.analysis.study import Study, study
from fathomlab.data import load
from fathomlab.report.page import write_report
from fathomlab.report.pictures import MAX_SIDE, picture, pictures
from fathomlab.report.sections import mistakes
from fathomlab.store.reading import Store
from tests.helpers import stores

LABELS = load("mnist-sample").test_labels.tolist()
WRONG = (3, 17, 250)  # test images that every seed gets wrong


def write(
    root: Path, labels: list[int] = LABELS, wrong: tuple[tuple[int, ...], ...] = (WRONG, (*WRONG, 5)), **options: Any
) -> Store:
    """A store with one condition of two seeds; the second one also gets image 5 wrong."""
    rows = [[(label + 1) % 10 if i in images else label for i, label in enumerate(labels)] for images in wrong]
    trials = [
        (seed, stores.write_trial(root, "a", {}, seed, 0.9, labels=labels, predicted=row, **options))
        for seed, row in enumerate(rows)
    ]
    stores.write_experiment(root, "a", "A", [stores.condition("a", {}, None, trials)])
    return Store(root)


def content(store: Store) -> mistakes.Mistakes:
    """The content of the section."""
    section = mistakes.section(study(store, store.experiment("a")), (), ())
    assert section is not None
    assert isinstance(section.content, mistakes.Mistakes)
    return section.content


def pixels(uri: str) -> "np.ndarray[Any, Any]":
    """The pixels of a PNG data URI."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


def test_pictures_are_the_images_of_the_dataset(tmp_path: Path) -> None:
    images = content(write(tmp_path, data="mnist-sample")).shown[0].images
    expected = load("mnist-sample").test_images
    assert [image.predicted.split("\u00a0")[1] for image in images] == ["\u00d72"] * 3 + ["\u00d71"]
    for image, index in zip(images, (*WRONG, 5), strict=True):
        assert image.label == str(LABELS[index])
        assert image.picture is not None
        assert np.array_equal(pixels(image.picture.data_uri), expected[index, 0])


def test_missing_or_changed_dataset_lists_positions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FATHOMLAB_DATA", str(tmp_path / "none"))
    missing = content(write(tmp_path / "a", data="mnist"))
    changed = content(write(tmp_path / "b", labels=[LABELS[0] + 1, *LABELS[1:]], data="mnist-sample"))
    for item, title in ((missing, "MNIST"), (changed, "MNIST sample")):
        assert item.missing == title
        assert [image.picture for image in item.shown[0].images] == [None] * 4
        assert item.shown[0].images[2].description.startswith("Test image 250, class ")


def test_page_is_equal_when_written_again(tmp_path: Path) -> None:
    store = write(tmp_path, data="mnist-sample")
    first = write_report(store, "a").read_bytes()
    assert write_report(Store(tmp_path), "a").read_bytes() == first
    assert len(re.findall(rb"data:image/png", first)) == 4


def test_matrix_has_percentages_of_the_class(tmp_path: Path) -> None:
    item = content(write(tmp_path, data="mnist-sample")).shown[0]
    assert item.matrix is not None
    counts = np.zeros((10, 10))
    for wrong in (WRONG, (*WRONG, 5)):
        for index, label in enumerate(LABELS):
            counts[label, (label + (index in wrong)) % 10] += 1
    shares = 100 * counts / counts.sum(1, keepdims=True)
    assert [[float(cell) for cell in row[1:]] for row in item.table.rows] == shares.round(2).tolist()
    assert [[cell.correct for cell in row] for row in item.matrix.rows] == np.eye(10, dtype=bool).tolist()
    assert all(cell.shade == mistakes.SHADE for row in item.matrix.rows for cell in row if cell.text == "100")


def test_many_classes_list_the_most_frequent_confusions(tmp_path: Path) -> None:
    item = content(write(tmp_path, labels=[index % 25 for index in range(500)])).shown[0]
    assert item.matrix is None
    assert item.table.columns == ("class", "predicted class", "share of the class (%)", "images")
    assert item.table.rows[0] == ("0", "1", "5.00", "2")


def test_perfect_networks_have_no_confusions(tmp_path: Path) -> None:
    result = content(write(tmp_path, wrong=((), ())))
    assert result.sentence == "A classifies every test image correctly."
    assert (result.shown[0].table.rows[0][1], result.shown[0].images, result.missing) == ("100.00", (), "")


def test_best_and_worst_condition_of_each_series_are_shown(written: Store) -> None:
    """Series of 1.2 are plain and residual networks; 1.1 has one series per width."""
    for name, number in (("1_1", 6), ("1_2", 4)):
        chosen = mistakes.informative_conditions(study(written, written.experiment(name)))
        assert len(chosen) == number
        assert {item.depth for item in chosen} >= {10 if name == "1_1" else 5, 40}


def test_conditions_beyond_the_limits_are_folded(written: Store) -> None:
    result: Study = study(written, written.experiment("1_1"))
    section = mistakes.section(result, (), ())
    assert section is not None
    assert isinstance(section.content, mistakes.Mistakes)
    assert (len(section.content.shown), len(section.content.folded), section.content.left_out) == (6, 3, 0)
    assert not any(item.images for item in section.content.folded)


def test_large_and_float_images_are_reduced_and_scaled() -> None:
    image = np.linspace(-3, 5, 3 * 100 * 50, dtype=np.float32).reshape(3, 100, 50)
    drawn = picture(image)
    assert (drawn.width, drawn.height) == (MAX_SIDE // 2, MAX_SIDE)
    flat = pixels(picture(np.array([[[-2.0, 2.0], [0.0, 1.0]]], np.float32)).data_uri)
    assert flat.tolist() == [[0, 255], [128, 191]]


def test_pictures_read_no_dataset_without_indices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write(tmp_path, data="mnist-sample")
    condition = study(store, store.experiment("a")).conditions[0]
    found = predictions(condition)
    assert found is not None
    monkeypatch.setattr("fathomlab.report.pictures.installed_arrays", None)  # not callable
    assert pictures(found.trial, [], "test") == {}
