"""The formats of other programs (more in tests/cases/test_import.py)."""

import io
from pathlib import Path

import numpy as np
import pytest

from fathomlab.base.errors import UserError
from fathomlab.data import idx
from fathomlab.data.recognize import KERAS_KEYS, keras_contents

SHAPES = ((3, 2, 2), (3,), (2, 2, 2), (2,))


@pytest.fixture(autouse=True)
def _shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes small arrays the published ones."""
    monkeypatch.setattr(idx, "SHAPES", SHAPES)


def npz(**changes: np.ndarray) -> bytes:
    """The file of Keras with these arrays instead of its own."""
    arrays = {key: np.ones(shape, np.uint8) for key, shape in zip(KERAS_KEYS, SHAPES, strict=True)}
    buffer = io.BytesIO()
    np.savez(buffer, **(arrays | changes))  # type: ignore[arg-type]
    return buffer.getvalue()


def test_keras_contents_are_idx_files() -> None:
    contents = keras_contents(Path("mnist.npz"), npz())
    for content, name, shape in zip(contents, idx.NAMES, SHAPES, strict=True):
        assert content.targets[0].file.name == name
        assert idx.decode(content.data, shape, name).tolist() == np.ones(shape).tolist()


@pytest.mark.parametrize(
    "array",
    [np.ones((3, 2, 2), np.int64), np.ones((3, 2, 3), np.uint8), np.array([None])],
    ids=["dtype", "shape", "objects"],
)
def test_keras_contents_rejects_other_arrays(array: np.ndarray) -> None:
    with pytest.raises(UserError) as caught:
        keras_contents(Path("mnist.npz"), npz(x_train=array))
    assert caught.value.code == "invalid-data-file"
    assert "mnist.npz" in str(caught.value)
