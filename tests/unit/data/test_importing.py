"""What torchvision and Keras leave on a disk is recognised, checked, and written in our layout."""

import gzip
import hashlib
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fathomlab.base.problems import UserError
from fathomlab.data import cifar10, cifar100, idx, import_folder, importing, mnist
from fathomlab.data.rows import encode_rows
from fathomlab.data.table import Layout, Pin
from fathomlab.data.verify import vouch


class Hostile:
    """Pickles as a call that makes a file."""

    def __init__(self, canary: Path):
        """Keep the file."""
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., int], tuple[str]]:
        """What a pickle would run."""
        return os.system, (f"touch {self.canary}",)


RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (6, 3072), dtype=np.uint8)
LABELS = [3, 1, 4, 1, 5, 9]


def sha256(path: Path) -> str:
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def vouch_all(folder: Path) -> None:
    """A SHA256SUMS for every file in the folder."""
    vouch(folder, {path.name: sha256(path) for path in folder.iterdir() if path.is_file()})


def write_idx(folder: Path, name: str, suffix: str = "") -> bytes:
    """A small IDX file, compressed or not."""
    folder.mkdir(parents=True, exist_ok=True)
    data = idx.header((6, 2, 2)) + bytes(range(24))
    (folder / (name + suffix)).write_bytes(gzip.compress(data) if suffix else data)
    return data


@pytest.mark.parametrize(("folder", "name"), [("MNIST/raw", "mnist"), ("FashionMNIST/raw", "fashion-mnist")])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_folders_of_torchvision(tmp_path: Path, folder: str, name: str, suffix: str) -> None:
    """Vouched for, they are copied with their sums; the data set is told by the folder where no hash tells it."""
    source = tmp_path / "data" / folder
    for stem in idx.NAMES:
        write_idx(source, stem, suffix)
    vouch_all(source)
    made = import_folder(tmp_path / "data", tmp_path / "out")
    assert [(file.name, file.file, file.official) for file in made] == [
        (name, stem + suffix, False) for stem in sorted(idx.NAMES)
    ]
    for stem in idx.NAMES:
        assert (tmp_path / "out" / name / (stem + suffix)).read_bytes() == (source / (stem + suffix)).read_bytes()
    sums = (tmp_path / "out" / name / "SHA256SUMS").read_text()
    assert sha256(source / (idx.NAMES[0] + suffix)) in sums


@pytest.mark.parametrize("inside", ["cifar-10-batches-py", "cifar-10-batches-py-target/cifar-10-batches-py"])
def test_published_batches_become_published_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: str) -> None:
    """With the pins of a small stand-in: nobody needs to vouch, for the rows have the published hash."""
    rows = encode_rows([np.array(LABELS)], PIXELS)
    pin = Pin("data_batch_1.bin", hashlib.sha256(rows).hexdigest(), len(rows))
    monkeypatch.setattr(cifar10, "BATCHES", (pin,))
    folder = tmp_path / "data" / inside
    folder.mkdir(parents=True)
    (folder / "data_batch_1").write_bytes(pickle.dumps({b"labels": LABELS, b"data": PIXELS}, 2))
    made = import_folder(tmp_path / "data", tmp_path / "out")
    assert [(file.name, file.file, file.official) for file in made] == [("cifar-10", "data_batch_1.bin", True)]
    assert (tmp_path / "out" / "cifar-10-batches-bin" / "data_batch_1.bin").read_bytes() == rows
    assert not (tmp_path / "out" / "cifar-10-batches-bin" / "SHA256SUMS").exists()


def test_unknown_batches_need_a_voucher(tmp_path: Path) -> None:
    """Refused with the line that would vouch; with that line taken over, and vouched for in turn."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "test_batch").write_bytes(pickle.dumps({b"labels": LABELS, b"data": PIXELS}, 2))
    with pytest.raises(UserError) as caught:
        import_folder(tmp_path, tmp_path / "out")
    assert f"{sha256(folder / 'test_batch')}  test_batch" in str(caught.value)
    assert not (tmp_path / "out").exists()
    vouch_all(folder)
    assert [file.official for file in import_folder(folder, tmp_path / "out")] == [False]
    written = tmp_path / "out" / "cifar-10-batches-bin" / "test_batch.bin"
    assert f"{sha256(written)}  test_batch.bin" in (written.parent / "SHA256SUMS").read_text()


def test_cifar100_by_its_published_md5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two label bytes a row, coarse then fine; the MD5 of the pickle is trusted."""
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    data = pickle.dumps({b"coarse_labels": LABELS, b"fine_labels": [90 + label for label in LABELS], b"data": PIXELS})
    (folder / "train").write_bytes(data)
    digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
    monkeypatch.setattr(importing, "CIFAR100_MD5", {"train": digest, "test": ""})
    made = import_folder(tmp_path, tmp_path / "out")
    assert [(file.name, file.file) for file in made] == [("cifar-100", cifar100.TRAIN.name)]
    rows = np.frombuffer((tmp_path / "out" / "cifar-100-binary" / "train.bin").read_bytes(), np.uint8).reshape(6, 3074)
    assert rows[:, 0].tolist() == LABELS
    assert rows[:, 1].tolist() == [90 + label for label in LABELS]
    assert np.array_equal(rows[:, 2:], PIXELS)


def test_mnist_of_keras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four arrays become four IDX files with the published hashes of a small stand-in."""
    shapes = ((6, 2, 2), (6,), (4, 2, 2), (4,))
    arrays = [RANDOM.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    datas = [idx.header(shape) + array.tobytes() for shape, array in zip(shapes, arrays, strict=True)]
    pins = tuple(
        (Pin(f"{name}.gz", "0" * 64, 1), Pin(name, hashlib.sha256(data).hexdigest(), len(data)))
        for name, data in zip(idx.NAMES, datas, strict=True)
    )
    monkeypatch.setattr(idx, "SHAPES", shapes)
    monkeypatch.setattr(mnist, "LAYOUT", Layout(("mnist",), pins, ()))
    keys = ("x_train", "y_train", "x_test", "y_test")
    np.savez(tmp_path / "mnist.npz", **dict(zip(keys, arrays, strict=True)))  # type: ignore[arg-type]
    made = import_folder(tmp_path, tmp_path / "out")
    assert [file.file for file in made] == list(idx.NAMES)
    assert all(file.official for file in made)
    assert [(tmp_path / "out" / "mnist" / name).read_bytes() for name in idx.NAMES] == datas


def test_hostile_sources_are_refused(tmp_path: Path) -> None:
    """Objects in an npz are never unpickled; a pickle that runs code runs none; links are not followed."""
    npz = tmp_path / "a" / "mnist.npz"
    npz.parent.mkdir()
    np.savez(npz, x_train=np.array([Hostile(tmp_path / "canary")], object), y_train=0, x_test=0, y_test=0)
    with pytest.raises(UserError, match=r"mnist\.npz: not Keras"):
        import_folder(npz.parent, tmp_path / "out")
    batch = tmp_path / "b" / "data_batch_1"
    batch.parent.mkdir()
    batch.write_bytes(f"cos\nsystem\n(S'touch {tmp_path / 'canary'}'\ntR.".encode())
    with pytest.raises(UserError, match="data_batch_1: refused"):
        import_folder(batch.parent, tmp_path / "out")
    assert not (tmp_path / "canary").exists()
    assert not (tmp_path / "out").exists()


def test_batches_without_pixels_or_labels_are_refused(tmp_path: Path) -> None:
    """A message that says which half is missing."""
    good = {b"labels": LABELS, b"data": PIXELS}
    for change, words in (
        ({b"labels": LABELS[:-1]}, "labels"),
        ({b"labels": [*LABELS[:-1], 256]}, "labels"),
        ({b"data": PIXELS[:, 1:]}, "pixels"),
        ({b"data": 0}, "pixels"),
    ):
        (tmp_path / "data_batch_2").write_bytes(pickle.dumps(good | change, 2))
        with pytest.raises(UserError, match=f"holds .*{words}"):
            import_folder(tmp_path, tmp_path / "out")


def test_folders_without_data_are_named(tmp_path: Path) -> None:
    """Empty, or not there at all."""
    with pytest.raises(UserError, match="no data of a known data set"):
        import_folder(tmp_path, tmp_path / "out")
    with pytest.raises(UserError, match="no such folder"):
        import_folder(tmp_path / "none", tmp_path / "out")


def test_published_idx_content_tells_the_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of Fashion-MNIST in a folder called MNIST is Fashion-MNIST."""
    from fathomlab.data import fashion_mnist

    data = write_idx(tmp_path / "MNIST" / "raw", idx.NAMES[0])
    gz, plain = fashion_mnist.LAYOUT.pieces[0]
    pieces = ((gz, replace(plain, sha256=hashlib.sha256(data).hexdigest())), *fashion_mnist.LAYOUT.pieces[1:])
    monkeypatch.setattr(fashion_mnist, "LAYOUT", replace(fashion_mnist.LAYOUT, pieces=pieces))
    made = import_folder(tmp_path, tmp_path / "out")
    assert [(file.name, file.official) for file in made] == [("fashion-mnist", True)]
