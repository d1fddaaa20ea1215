"""One bit or one cut in any kind of data file is detected before use, with both hashes and the remedy."""

import gzip
import hashlib
import io
import random
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fathomlab.base.errors import UserError
from fathomlab.data import DATASETS, checksums, idx, mnist_sample
from fathomlab.data.cache import VerifiedFiles, read_files
from fathomlab.data.cifar_binary import encode_rows
from fathomlab.data.table import DatasetInfo, FileLayout, PinnedFile, RemoteFile

INFO = DatasetInfo("toy", "Toy", 1, 2, 2, 2, ("a", "b"), 1, 1, (0.5,), (0.5,), "here", "none")
DRAW = np.random.default_rng(0)
IDX = idx.header((40, 28, 28)) + DRAW.integers(0, 256, (40, 28, 28), dtype=np.uint8).tobytes()
ROWS = encode_rows([np.arange(10)], DRAW.integers(0, 256, (10, 3072), dtype=np.uint8))


def pinned(name: str, data: bytes) -> PinnedFile:
    """The published file with these bytes."""
    return PinnedFile(name, hashlib.sha256(data).hexdigest(), len(data))


def archive_of(name: str, data: bytes) -> bytes:
    """A tar.gz file of one member."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), mtime=0)


# Each kind: the file that is corrupted, its published bytes, and the layout that needs it.
STORED = archive_of("toy/rows.bin", ROWS)
KINDS: dict[str, tuple[str, bytes, FileLayout]] = {
    "MNIST, compressed": ("toy/images.gz", gzip.compress(IDX, mtime=0), FileLayout(("toy",), (), ())),
    "MNIST, extracted": ("toy/images", IDX, FileLayout(("toy",), (), ())),
    "CIFAR, extracted": ("toy/rows.bin", ROWS, FileLayout(("toy",), (), ())),
    "CIFAR, archive": (
        "rows.tar.gz",
        STORED,
        FileLayout(
            ("toy",),
            ((pinned("rows.bin", ROWS),),),
            (
                RemoteFile(
                    pinned("rows.tar.gz", STORED),
                    ("https://localhost/x",),
                    (("toy/rows.bin", pinned("rows.bin", ROWS)),),
                ),
            ),
        ),
    ),
}


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes], VerifiedFiles]:
    """Reads a kind of dataset whose file has these bytes, from a new folder, without a network."""
    monkeypatch.setenv("FATHOMLAB_OFFLINE", "1")
    monkeypatch.setattr(checksums, "user_cache_dir", lambda _: str(tmp_path / "cache"))

    def reading(kind: str, data: bytes) -> VerifiedFiles:
        name, published, layout = KINDS[kind]
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        if not layout.files:
            layout = FileLayout(layout.folders, ((pinned(path.name, published),),), ())
        return read_files(INFO, layout, tmp_path / "data")

    return reading


def corrupted(published: bytes, chance: random.Random) -> bytes:
    """Flip a bit, or sometimes cut the file or add a byte."""
    changed = bytearray(published)
    kind = chance.randrange(10)
    position = chance.randrange(len(changed))
    if kind == 0:
        return bytes(changed[:position])
    if kind == 1:
        return bytes(changed + b"\0")
    changed[position] ^= 1 << chance.randrange(8)
    return bytes(changed)


def check_detection(read: Callable[[str, bytes], VerifiedFiles], kind: str, times: int, chance: random.Random) -> None:
    """Each error contains the file, both hashes, and the command."""
    name, published, _ = KINDS[kind]
    assert read(kind, published).modified == ()
    for _ in range(times):
        data = corrupted(published, chance)
        with pytest.raises(UserError) as caught:
            read(kind, data)
        assert caught.value.code in ("checksum-mismatch", "download-failed")
        for part in (Path(name).name, *(hashlib.sha256(bytes_of).hexdigest() for bytes_of in (published, data))):
            assert part in str(caught.value)
        assert "fathomlab data download toy" in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_corruption_is_detected(read: Callable[[str, bytes], VerifiedFiles], chance: random.Random, kind: str):
    """20 positions."""
    check_detection(read, kind, 20, chance)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_corruption_is_detected_at_length(
    read: Callable[[str, bytes], VerifiedFiles], chance: random.Random, kind: str
):
    """500 positions."""
    check_detection(read, kind, 500, chance)


def test_sample_corruption_is_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chance: random.Random):
    """The file that is part of the package."""
    published = Path(mnist_sample.__file__).with_name(mnist_sample.FILE.name).read_bytes()
    monkeypatch.setattr(mnist_sample, "__file__", str(tmp_path / "mnist_sample.py"))
    for data in (corrupted(published, chance) for _ in range(20)):
        (tmp_path / mnist_sample.FILE.name).write_bytes(data)
        with pytest.raises(UserError) as caught:
            DATASETS["mnist-sample"]().load()
        assert caught.value.code == "invalid-data-file"
        for part in (mnist_sample.FILE.name, mnist_sample.FILE.sha256, hashlib.sha256(data).hexdigest()):
            assert part in str(caught.value)


def test_unreadable_files_raise(read: Callable[[str, bytes], VerifiedFiles], monkeypatch: pytest.MonkeyPatch):
    """A read error of the disk has the file and the reason."""

    def fails(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fails)
    with pytest.raises(UserError, match=r"rows\.bin.*Input/output error") as caught:
        read("CIFAR, extracted", ROWS)
    assert caught.value.code == "unreadable-file"


def test_large_files_are_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The error contains the hash nevertheless."""
    monkeypatch.setattr(checksums, "MAX_BYTES", 1000)
    path = tmp_path / "rows.bin"
    path.write_bytes(ROWS)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("read into memory"))
    with pytest.raises(UserError, match=hashlib.sha256(ROWS).hexdigest()):
        checksums.read_verified(path, pinned("rows.bin", b"small"), tmp_path, "toy")
