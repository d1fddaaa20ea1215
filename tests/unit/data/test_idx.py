"""The IDX format: contents decide, not the suffix."""

import gzip

import numpy as np
import pytest

from fathomlab.base.errors import UserError
from fathomlab.data import idx

ARRAY = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
DATA = idx.header(ARRAY.shape) + ARRAY.tobytes()


def test_header_contains_type_and_shape() -> None:
    assert DATA[:8] == bytes([0, 0, 8, 3, 0, 0, 0, 2])


def test_decode_accepts_both_spellings() -> None:
    for name in ["x", "x.gz"]:
        for stored in [DATA, gzip.compress(DATA)]:
            array = idx.decode(stored, ARRAY.shape, name)
            assert array.tolist() == ARRAY.tolist()
            assert array.flags.writeable


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(DATA[:-1], id="shorter"),
        pytest.param(DATA + b"0", id="longer"),
        pytest.param(b"1" + DATA[1:], id="other header"),
        pytest.param(gzip.compress(DATA)[:-4], id="truncated gzip"),
        pytest.param(b"\x1f\x8bnot gzip", id="corrupted gzip"),
        pytest.param(gzip.compress(DATA + bytes(10**6)), id="endless gzip"),
    ],
)
def test_decode_rejects_other_contents(stored: bytes) -> None:
    with pytest.raises(UserError) as caught:
        idx.decode(stored, ARRAY.shape, "images.gz")
    assert caught.value.code == "invalid-data-file"
    assert "images.gz" in str(caught.value)


def test_gunzip_stops_after_the_expected_size() -> None:
    """One byte more, so that the caller notices."""
    assert len(idx.gunzip(gzip.compress(bytes(10**6)), 10, "x.gz")) == 11
