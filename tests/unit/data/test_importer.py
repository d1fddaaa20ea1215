"""What torchvision leaves on a disk is recognized, verified, and written in our layout (more in tests/cases)."""

import gzip
import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fathomlab.base.errors import UserError
from fathomlab.data import cifar100, idx, import_folder, recognize
from fathomlab.data.checksums import trust_checksums

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 3072), dtype=np.uint8)
LABELS = [3, 1, 4, 1, 5, 9]


def sha256(path: Path) -> str:
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def trust_all(folder: Path) -> None:
    """A SHA256SUMS for every file in the folder."""
    trust_checksums(folder, {path.name: sha256(path) for path in folder.iterdir() if path.is_file()})


@pytest.mark.parametrize(("folder", "name"), [("MNIST/raw", "mnist"), ("FashionMNIST/raw", "fashion-mnist")])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_import_accepts_listed_idx_files(tmp_path: Path, folder: str, name: str, suffix: str) -> None:
    """Other files under the published names are copied with their sums; the folder decides between the datasets."""
    source = tmp_path / "data" / folder
    source.mkdir(parents=True)
    data = idx.header((6, 2, 2)) + bytes(range(24))
    for stem in idx.NAMES:
        (source / (stem + suffix)).write_bytes(gzip.compress(data) if suffix else data)
    trust_all(source)
    report = import_folder(tmp_path / "data", tmp_path / "out")
    assert [(file.name, file.file, file.official) for file in report.files] == [
        (name, stem + suffix, False) for stem in sorted(idx.NAMES)
    ]
    for stem in idx.NAMES:
        assert (tmp_path / "out" / name / (stem + suffix)).read_bytes() == (source / (stem + suffix)).read_bytes()
    assert (tmp_path / "out" / name / "SHA256SUMS").read_text().count(sha256(source / (idx.NAMES[0] + suffix))) == 4


def test_import_requires_sums_for_other_batches(tmp_path: Path) -> None:
    """The error contains the line that accepts the file; the imported rows are then listed, too."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "test_batch").write_bytes(pickle.dumps({b"labels": LABELS, b"data": PIXELS}, 2))
    with pytest.raises(UserError, match=f"{sha256(folder / 'test_batch')}  test_batch") as caught:
        import_folder(tmp_path, tmp_path / "out")
    assert caught.value.code == "checksum-mismatch"
    assert not (tmp_path / "out").exists()
    trust_all(folder)
    assert [file.official for file in import_folder(folder, tmp_path / "out").files] == [False]
    written = tmp_path / "out" / "cifar-10-batches-bin" / "test_batch.bin"
    assert f"{sha256(written)}  test_batch.bin" in (written.parent / "SHA256SUMS").read_text()


def test_import_trusts_the_md5_of_cifar100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two label bytes per row, coarse and fine, under any name."""
    data = pickle.dumps({b"coarse_labels": LABELS, b"fine_labels": [90 + label for label in LABELS], b"data": PIXELS})
    (tmp_path / "anything").write_bytes(data)
    files = tuple((replace(spellings[0], size=6 * 3074),) for spellings in cifar100.LAYOUT.files)
    monkeypatch.setattr(cifar100, "LAYOUT", replace(cifar100.LAYOUT, files=files))
    digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
    monkeypatch.setattr(recognize, "CIFAR100_MD5", {"train": "", "test": digest})
    report = import_folder(tmp_path, tmp_path / "out")
    assert [(file.name, file.file) for file in report.files] == [("cifar-100", cifar100.TEST.name)]
    rows = np.frombuffer((tmp_path / "out" / "cifar-100-binary" / "test.bin").read_bytes(), np.uint8).reshape(6, 3074)
    assert rows[:, 0].tolist() == LABELS
    assert rows[:, 1].tolist() == [90 + label for label in LABELS]
    assert np.array_equal(rows[:, 2:], PIXELS)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({b"labels": LABELS[:-1]}, "labels"),
        ({b"labels": [*LABELS[:-1], 256]}, "labels"),
        ({b"data": PIXELS[:, 1:]}, "pixels"),
        ({b"data": 0}, "pixels"),
    ],
)
def test_import_rejects_incomplete_batches(tmp_path: Path, change: dict[bytes, object], part: str) -> None:
    (tmp_path / "data_batch_2").write_bytes(pickle.dumps({b"labels": LABELS, b"data": PIXELS} | change, 2))
    with pytest.raises(UserError, match=f"data_batch_2.*{part}") as caught:
        import_folder(tmp_path, tmp_path / "out")
    assert caught.value.code == "invalid-data-file"


def test_import_rejects_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none") as caught:
        import_folder(tmp_path / "none", tmp_path / "out")
    assert caught.value.code == "no-such-folder"
