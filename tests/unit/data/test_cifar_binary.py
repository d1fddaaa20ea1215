"""The binary format of CIFAR: label bytes, then three planes of pixels."""

import numpy as np
import pytest

from fathomlab.base.errors import UserError
from fathomlab.data.cifar_binary import decode_rows, encode_rows

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 3072), dtype=np.uint8)
DATA = encode_rows([np.arange(5, dtype=np.uint8), np.arange(5, 10, dtype=np.uint8)], PIXELS)


def test_decode_returns_labels_and_planes() -> None:
    """The last label byte is the class."""
    images, labels = decode_rows([("train.bin", DATA)], 2, 100)
    assert labels.tolist() == [5, 6, 7, 8, 9]
    assert images[3, 1, 2, 7] == PIXELS[3, 1024 + 2 * 32 + 7]


@pytest.mark.parametrize(
    ("data", "classes", "part"),
    [(DATA[:-1], 100, "3074"), (b"", 100, "3074"), (DATA, 9, "got 9")],
    ids=["length", "empty", "label"],
)
def test_decode_rejects_other_contents(data: bytes, classes: int, part: str) -> None:
    with pytest.raises(UserError) as caught:
        decode_rows([("train.bin", data)], 2, classes)
    assert caught.value.code == "invalid-data-file"
    assert "train.bin" in str(caught.value)
    assert part in str(caught.value)
