"""Tables of maps: images, networks, and classes of a probe with the figure `maps`."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fathomlab.analysis.study import study
from fathomlab.data import load
from fathomlab.probes.columns import Column
from fathomlab.report.maps import AGAINST, FOR, MapTable
from fathomlab.report.sections.probes import probe_figures
from fathomlab.store.reading import Store
from tests.helpers import stores

DATA = load("mnist-sample")
IMAGES = (7, 31)
ENTRIES = ["1", "2"]
CELLS = [f"{entry}/{row}/{column}" for entry in ENTRIES for row in (0, 1) for column in (0, 1)]


def snapshot(predicted: tuple[float, float], values: list[float]) -> dict[str, Any]:
    """A row of the log of the probe: two images with maps of 2 x 2 positions."""
    labels = [float(DATA.train_labels[index]) for index in IMAGES]
    return {
        "step": 10,
        "epoch": 2,
        "entries": ENTRIES,
        "cells": CELLS,
        "image": [float(index) for index in IMAGES],
        "label": labels,
        "predicted": list(predicted),
        "probability": [0.875, 0.5],
        "predicted_map": values,
        "label_map": values[::-1],
    }


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> MapTable:
    """Two conditions. The first network is right about both images, the second one about the first image."""
    root, conditions = tmp_path_factory.mktemp("runs"), list[Any]()
    right = tuple(float(DATA.train_labels[index]) for index in IMAGES)
    for width, predicted in ((32, right), (64, (right[0], (right[1] + 1) % 10))):
        factors = {"model.params.layers_dim": width}
        options: dict[str, Any] = {"labels": DATA.test_labels, "predicted": DATA.test_labels, "data": "mnist-sample"}
        trial = stores.write_trial(root, "a", factors, 42, 0.9, **options)
        values = [4.0, -2.0, 0.0, 1.0, -1.0, -3.0, 2.0, 3.0]
        rows = [snapshot((0, 0), [9.0] * 8) | {"step": 0, "epoch": 0}, snapshot(predicted, values)]
        (root / "trials" / trial / "cam.jsonl").write_text(stores.lines(rows))
        conditions.append(stores.condition(f"{width}", factors, None, [(42, trial)]))
    stores.write_experiment(root, "a", "A", conditions)
    store = Store(root)
    (figures,) = probe_figures(study(store, store.experiment("a")))
    (result,) = figures.maps
    return result


def pixels(uri: str) -> "np.ndarray[Any, Any]":
    """The pixels of a PNG data URI."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


def test_table_has_a_row_per_image_and_a_column_per_condition(table: MapTable) -> None:
    assert table.when == "Training images of seed 42 after epoch 2"
    assert len(table.conditions) == 2
    for row, index in zip(table.rows, IMAGES, strict=True):
        assert row.picture is not None
        assert np.array_equal(pixels(row.picture.data_uri), DATA.train_images[index, 0])


def test_map_of_the_true_class_is_shown_if_another_is_predicted(table: MapTable) -> None:
    label = int(DATA.train_labels[IMAGES[1]])
    assert [[len(cell) for cell in row.cells] for row in table.rows] == [[1, 1], [1, 2]]
    assert [item.text for item in table.rows[1].cells[1]] == [f"{(label + 1) % 10} (50%)", str(label)]


def test_colors_are_signed_and_scaled_to_the_largest_value(table: MapTable) -> None:
    (first,) = table.rows[0].cells[0]
    assert pixels(first.data_uri).tolist() == [
        [[*FOR, 255], [*AGAINST, 128]],
        [[*FOR, 0], [*FOR, 64]],
    ]
    assert first.description.endswith("most evidence in row 1 of 2, column 1 of 2")


def test_maps_need_the_axis_cell() -> None:
    with pytest.raises(ValueError, match="axis cell"):
        Column("A map", axis="point", figure="maps")
