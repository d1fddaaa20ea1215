"""The data layer as the command line uses it: what is there, what to do about the rest."""

import gzip
import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fathomlab.base.problems import UserError
from fathomlab.data import DATASETS, download, idx, load, make, mnist_sample, status
from fathomlab.data.folder import data_folder
from fathomlab.data.shapes import Shapes
from fathomlab.data.verify import vouch


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, without a network."""
    monkeypatch.setenv("FATHOMLAB_OFFLINE", "1")
    monkeypatch.setenv("FATHOMLAB_DATA", str(tmp_path))
    return tmp_path


def test_status_of_an_empty_folder(empty: Path) -> None:
    """Two data sets are built in; the others are missing, with the command that gets them."""
    rows = {row["name"]: row for row in status()}
    assert list(rows) == list(DATASETS)
    assert [name for name, row in rows.items() if row["present"]] == ["mnist-sample", "shapes"]
    assert rows["shapes"]["state"] == "built in"
    assert rows["cifar-10"]["state"] == "missing"
    assert rows["cifar-10"]["folder"] == str(empty / "cifar-10-batches-bin")
    assert "fathomlab data download cifar-10" in rows["cifar-10"]["remedy"]


def test_status_of_other_files(empty: Path) -> None:
    """Damaged until a SHA256SUMS vouches for them; a missing one among them decides."""
    folder = empty / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name in idx.NAMES:
        (folder / name).write_bytes(b"other bytes")
    row = status()[0]
    assert (row["state"], row["present"], row["bytes"], row["folder"]) == ("damaged", False, 44, str(folder))
    digest = hashlib.sha256(b"other bytes").hexdigest()
    vouch(folder, dict.fromkeys(idx.NAMES, digest))
    assert (status()[0]["state"], status()[0]["present"]) == ("unofficial", True)
    (folder / idx.NAMES[0]).unlink()
    assert status()[0]["state"] == "missing"


def test_files_in_another_folder_and_without_gzip(tmp_path: Path) -> None:
    """The real files as torchvision leaves them: the pins of what the gzip files hold are right."""
    source = data_folder() / "mnist"
    if not (source / f"{idx.NAMES[0]}.gz").is_file():
        pytest.skip("mnist: its files are not in the data folder (set FATHOMLAB_DATA)")
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in idx.NAMES[:2]:
        (raw / name).write_bytes(gzip.decompress((source / f"{name}.gz").read_bytes()))
    for name in idx.NAMES[2:]:
        shutil.copy(source / f"{name}.gz", raw)
    split = load("mnist", folder=tmp_path)
    assert split.unofficial == ()
    assert set(split.files) == {*idx.NAMES[:2], *(f"{name}.gz" for name in idx.NAMES[2:])}


def test_a_damaged_sample_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled file is checked like any other."""
    monkeypatch.setattr(mnist_sample, "FILE", replace(mnist_sample.FILE, sha256="0" * 64))
    with pytest.raises(UserError, match=r"mnist_sample\.npz: damaged"):
        load("mnist-sample")


def test_options_reach_the_data_set() -> None:
    """Strict, with defaults."""
    assert make("shapes", {"difficulty": 1}) == Shapes(difficulty=1.0)
    assert make("Shapes") == Shapes()


def test_built_in_sets_need_no_download() -> None:
    """Said so, and unknown names too."""
    with pytest.raises(UserError, match="needs no download"):
        download("shapes")
    with pytest.raises(UserError, match="no data set 'imagenet'"):
        download("imagenet")
