"""The data layer as the command line uses it: which datasets are there, and how to get the others."""

import gzip
import hashlib
import shutil
from pathlib import Path

import pytest

from fathomlab.base.errors import UserError
from fathomlab.data import DATASETS, download_dataset, idx, load, make, status
from fathomlab.data.cache import data_dir
from fathomlab.data.checksums import trust_checksums
from fathomlab.data.shapes import Shapes


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, without a network."""
    monkeypatch.setenv("FATHOMLAB_OFFLINE", "1")
    monkeypatch.setenv("FATHOMLAB_DATA", str(tmp_path))
    return tmp_path


def test_status_of_an_empty_folder(empty: Path) -> None:
    """Two datasets are built in; the others are missing, with the command that gets them."""
    rows = {row.name: row for row in status()}
    assert list(rows) == list(DATASETS)
    assert [name for name, row in rows.items() if row.present] == ["mnist-sample", "shapes"]
    assert rows["shapes"].state == "built in"
    assert rows["cifar-10"].state == "missing"
    assert rows["cifar-10"].folder == str(empty / "cifar-10-batches-bin")
    assert "fathomlab data download cifar-10" in rows["cifar-10"].remedy


def test_status_of_other_files(empty: Path) -> None:
    """Corrupted unless a SHA256SUMS lists them; a missing file takes precedence."""
    folder = empty / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name in idx.NAMES:
        (folder / name).write_bytes(b"other bytes")
    row = status()[0]
    assert (row.state, row.present, row.bytes, row.folder) == ("corrupted", False, 44, str(folder))
    digest = hashlib.sha256(b"other bytes").hexdigest()
    trust_checksums(folder, dict.fromkeys(idx.NAMES, digest))
    assert (status()[0].state, status()[0].present) == ("unofficial", True)
    (folder / idx.NAMES[0]).unlink()
    assert status()[0].state == "missing"


def test_load_reads_the_folders_of_torchvision(tmp_path: Path) -> None:
    """The published files, some decompressed: the hashes of their contents are right."""
    source = data_dir() / "mnist"
    if not (source / f"{idx.NAMES[0]}.gz").is_file():
        pytest.skip("mnist: its files are not in the data folder (set FATHOMLAB_DATA)")
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in idx.NAMES[:2]:
        (raw / name).write_bytes(gzip.decompress((source / f"{name}.gz").read_bytes()))
    for name in idx.NAMES[2:]:
        shutil.copy(source / f"{name}.gz", raw)
    arrays = load("mnist", folder=tmp_path)
    assert arrays.modified == ()
    assert set(arrays.files) == {*idx.NAMES[:2], *(f"{name}.gz" for name in idx.NAMES[2:])}


def test_make_passes_options() -> None:
    """Strict, with defaults."""
    assert make("shapes", {"difficulty": 1}) == Shapes(difficulty=1.0)
    assert make("Shapes") == Shapes()


@pytest.mark.parametrize(("name", "code"), [("shapes", "nothing-to-download"), ("imagenet", "unknown-dataset")])
def test_download_rejects_other_names(name: str, code: str) -> None:
    """Built-in and unknown datasets."""
    with pytest.raises(UserError) as caught:
        download_dataset(name)
    assert caught.value.code == code
