"""The restricted reader accepts the pickles of CIFAR in every protocol and rejects hostile ones."""

import builtins
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fathomlab.base.errors import UserError
from fathomlab.data.pickles import read_batch

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 3072), dtype=np.uint8)
# A Python 2 pickle (protocol 2) of {b"labels": [6], b"data": a 1 x 2 array of bytes 7, 8}, as CIFAR's files are.
PYTHON2 = (
    b"\x80\x02}q\x01(U\x06labelsq\x02]q\x03K\x06aU\x04dataq\x04cnumpy.core.multiarray\n_reconstruct\nq\x05"
    b"cnumpy\nndarray\nq\x06K\x00\x85U\x01b\x87Rq\x07(K\x01K\x01K\x02\x86cnumpy\ndtype\nq\x08U\x02u1K\x00K\x01\x87R"
    b"q\t(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x02\x07\x08tbu."
)


class Hostile:
    """Is pickled as a call of `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: object):
        """Store the call."""
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        """Return the call that the standard loader would execute."""
        return self.call


def test_read_batch_reads_python_2_pickles() -> None:
    """Protocol and names of the published files."""
    batch = read_batch(PYTHON2, "data_batch_1")
    assert batch["labels"] == [6]
    assert batch["data"].tolist() == [[7, 8]]


def test_read_batch_reads_every_protocol() -> None:
    """Files may have been rewritten by a newer Python or NumPy."""
    for order in ["C", "F"]:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            data = {b"labels": [1, 2, 3], b"data": np.array(PIXELS, order=order), "batch_label": b"one"}  # type: ignore[call-overload]
            batch = read_batch(pickle.dumps(data, protocol), "batch")
            assert batch["labels"] == [1, 2, 3]
            assert np.array_equal(batch["data"], PIXELS)


def test_read_batch_executes_nothing(tmp_path: Path) -> None:
    """Twelve ways to execute code, each with a canary file."""
    canary = tmp_path / "canary"
    touch = f"open({str(canary)!r}, 'w').close()"
    payloads = [
        Hostile(os.system, f"touch {canary}"),
        Hostile(builtins.exec, touch),
        Hostile(builtins.eval, f"open({str(canary)!r}, 'w')"),
        Hostile(builtins.open, str(canary), "w"),
        Hostile(Path.touch, canary),
        Hostile(getattr, "text", "__class__"),
        Hostile(builtins.__import__, "os"),
        Hostile(np.load, str(canary), None, True),
        Hostile(np.save, str(canary), PIXELS),
        Hostile(pickle.loads, pickle.dumps(Hostile(os.system, f"touch {canary}"))),
        Hostile(os.mkdir, str(canary)),
    ]
    stored = [pickle.dumps({b"data": payload}, protocol) for payload in payloads for protocol in (0, 2, 4)]
    stored.append(f"cos\nsystem\n(S'touch {canary}'\ntR.".encode())
    for data in stored:
        with pytest.raises(UserError, match="data_batch_1") as caught:
            read_batch(data, "data_batch_1")
        assert caught.value.code == "invalid-data-file"
        assert not list(tmp_path.iterdir())
    pickle.loads(stored[0])
    assert canary.exists()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"garbage", id="garbage"),
        pytest.param(PYTHON2[:-20], id="cut"),
        pytest.param(pickle.dumps([1, 2]), id="list"),
        pytest.param(pickle.dumps({b"data": np.array([[object()]])}), id="objects"),
        pytest.param(pickle.dumps({b"data": np.zeros((2, 2))}), id="floats"),
        pytest.param(pickle.dumps({b"data": np.zeros(4, np.uint8)}), id="flat"),
        pytest.param(PYTHON2.replace(b"K\x01K\x02\x86", b"K\x09K\x02\x86"), id="lying shape"),
        pytest.param(b"\x80\x02cnumpy\ndtype\n}(X\x01\x00\x00\x00aK\x01ub.", id="state of a function"),
        pytest.param(b"\x80\x02cnumpy\nndarray\n)R.", id="array out of nothing"),
        pytest.param(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x04\x00\x00\x00zlib\x86R.", id="other codec"),
        pytest.param(
            b"\x80\x02}X\x01\x00\x00\x00kc_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86Rs.",
            id="codec inside",
        ),
        pytest.param(b"\x80\x02}X\x01\x00\x00\x00kcnumpy\ndtype\n}bs.", id="state inside"),
        pytest.param(pickle.dumps({b"data": np.zeros((2, 2), np.int8)}), id="signed"),
        pytest.param(b"(" * 100000, id="deep"),
    ],
)
def test_read_batch_rejects_other_contents(data: bytes) -> None:
    with pytest.raises(UserError, match="test_batch") as caught:
        read_batch(data, "test_batch")
    assert caught.value.code == "invalid-data-file"


def test_read_batch_rejects_nested_objects() -> None:
    """Objects cannot hide in a list."""
    with pytest.raises(UserError, match="batch") as caught:
        read_batch(pickle.dumps({b"labels": [Hostile(print, "x")]}), "batch")
    assert caught.value.code == "invalid-data-file"
