"""Small stand-ins for the published files, and a folder to import from."""

import gzip
import io
import pickle
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from fathomlab.data import cifar10, fashion_mnist, idx, mnist
from fathomlab.data.cifar_binary import encode_rows
from fathomlab.data.importer import ImportReport
from fathomlab.data.table import FileLayout, RemoteFile
from tests.helpers.data_files import pinned, tar_gz

SHAPES = ((12, 6, 6), (12,), (9, 6, 6), (9,))


BATCHES = ("data_batch_1.bin", "test_batch.bin")


class Files(NamedTuple):
    """The published files: contents of IDX files in the order of idx.NAMES, rows and pickles of CIFAR by name."""

    mnist: tuple[bytes, ...]
    fashion: tuple[bytes, ...]
    rows: dict[str, bytes]
    pickles: dict[str, bytes]
    archive: bytes
    keras: bytes


def compress(data: bytes) -> bytes:
    """The published gzip file of these bytes."""
    return gzip.compress(data, 6, mtime=0)


def npz(datas: tuple[bytes, ...]) -> bytes:
    """The arrays of IDX files as Keras stores them."""
    arrays = [idx.decode(data, shape, "x") for data, shape in zip(datas, SHAPES, strict=True)]
    buffer = io.BytesIO()
    np.savez(buffer, **dict(zip(("x_train", "y_train", "x_test", "y_test"), arrays, strict=True)))  # type: ignore[arg-type]
    return buffer.getvalue()


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Files:
    """Makes small files the published ones."""
    draw = np.random.default_rng(0)
    monkeypatch.setenv("FATHOMLAB_OFFLINE", "1")
    monkeypatch.setattr("fathomlab.data.checksums.user_cache_dir", lambda _: str(tmp_path / "cache"))
    monkeypatch.setattr(idx, "SHAPES", SHAPES)
    contents = []
    for module in (mnist, fashion_mnist):
        datas = tuple(idx.header(shape) + draw.integers(0, 9, shape, np.uint8).tobytes() for shape in SHAPES)
        published = tuple(
            (pinned(f"{name}.gz", compress(data)), pinned(name, data))
            for name, data in zip(idx.NAMES, datas, strict=True)
        )
        monkeypatch.setattr(module, "LAYOUT", replace(module.LAYOUT, files=published, remotes=()))
        contents.append(datas)
    rows, pickles = {}, {}
    for name in BATCHES:
        pixels, labels = draw.integers(0, 256, (4, 3072), np.uint8), draw.integers(0, 10, 4).tolist()
        rows[name] = encode_rows([np.array(labels)], pixels)
        pickles[name] = pickle.dumps({b"labels": labels, b"data": pixels}, 2)
    archive = tar_gz({f"set/{name}": data for name, data in rows.items()})
    batches = tuple(pinned(name, data) for name, data in rows.items())
    remote = RemoteFile(
        pinned("x.tar.gz", archive), ("https://localhost/x",), tuple((f"set/{file.name}", file) for file in batches)
    )
    monkeypatch.setattr(
        cifar10, "LAYOUT", FileLayout(("cifar-10-batches-bin",), tuple((file,) for file in batches), (remote,))
    )
    return Files(contents[0], contents[1], rows, pickles, archive, npz(contents[0]))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An empty folder to import from."""
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


def write(path: Path, data: bytes) -> Path:
    """Write a file and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def write_mnist(folder: Path, files: Files) -> None:
    """The four files under their published names."""
    for name, data in zip(idx.NAMES, files.mnist, strict=True):
        write(folder / name, data)


def imported(report: ImportReport) -> list[tuple[str, str]]:
    """Dataset and name of each imported file."""
    return sorted((file.name, file.file) for file in report.files)


def skipped(report: ImportReport) -> int:
    """Number of skipped files."""
    return report.skip_count
