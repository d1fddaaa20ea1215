"""What `data import` skips, rejects, and never opens."""

import gzip
import hashlib
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fathomlab.base.errors import UserError
from fathomlab.data import fashion_mnist, idx, import_folder, importer, mnist, recognize
from fathomlab.data.cache import read_files
from tests.helpers.data_files import tar_gz
from tests.unit.data.conftest import Files, skipped, write, write_mnist

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 3072), dtype=np.uint8)


LABELS = [3, 1, 4, 1, 5, 9]


def test_import_reports_broken_links(tmp_path: Path, source: Path, files: Files) -> None:
    """A dangling link, a link to itself, and two that link to each other."""
    write_mnist(source, files)
    for name, target in {"dangling": "nowhere", "self": "self", "left": "right", "right": "left"}.items():
        (source / name).symlink_to(target)
    assert skipped(import_folder(source, tmp_path / "out")) == 4


def test_import_opens_only_regular_files(
    tmp_path: Path, source: Path, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A FIFO would block, a device would never end."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no FIFOs")
    write_mnist(source, files)
    os.mkfifo(source / "train-images-idx3-ubyte.gz")
    (source / "t10k-images-idx3-ubyte.gz").symlink_to("/dev/zero")
    report = import_folder(source, tmp_path / "out")
    assert len(report.files) == 4
    assert [(entry.count, entry.reason) for entry in report.skipped] == [(2, "not a regular file")]


def test_import_continues_after_unreadable_entries(
    tmp_path: Path, source: Path, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder and a file without permission (simulated, because root may read everything)."""
    write_mnist(source, files)
    write(source / "secret" / "x", b"x")
    locked = write(source / "locked", files.mnist[0])
    real_scan, real_open = os.scandir, open

    def scandir(path: Path) -> Any:
        if Path(path).name == "secret":
            raise PermissionError(13, "Permission denied", str(path))
        return real_scan(path)

    def opened(path: Any, *arguments: Any, **options: Any) -> Any:
        if path == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return real_open(path, *arguments, **options)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(recognize, "open", opened, raising=False)
    report = import_folder(source, tmp_path / "out")
    assert len(report.files) == 4
    assert skipped(report) == 2
    assert {entry.example.name for entry in report.skipped} <= {"secret", "locked"}


@pytest.mark.parametrize("change", ["grows", "shrinks", "vanishes"])
def test_import_survives_changing_files(
    tmp_path: Path, source: Path, files: Files, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """What is written is what was hashed; a growing file is read no further than its size when it was listed."""
    write_mnist(source, files)
    path = write(source / "growing", files.fashion[0])
    real = importer.scan_folder

    def scanned(*arguments: Any) -> list[tuple[Path, int]]:
        listed = real(*arguments)
        if change == "vanishes":
            path.unlink()
        else:
            path.write_bytes(files.fashion[0] * 9 if change == "grows" else files.fashion[0][:-5])
        return listed

    monkeypatch.setattr(importer, "scan_folder", scanned)
    report = import_folder(source, tmp_path / "out")
    assert {file.name for file in report.files} == {"mnist"}
    assert [entry.example for entry in report.skipped] == [path]
    if change == "grows":
        assert len(recognize.read_at_most(path, 100)) == 101


def test_import_rejects_corrupted_files(tmp_path: Path, source: Path, files: Files) -> None:
    """Every corrupted file is named with both hashes; intact files are imported; a SHA256SUMS accepts the rest."""
    for name, data in list(zip(idx.NAMES, files.mnist, strict=True))[1:]:
        write(source / name, data)
    write(source / "other.txt", b"x")
    images = write(source / "Train-Images.idx3-ubyte", files.mnist[0][:-1] + b"\xff")
    batch = write(source / "data_batch_1.bin", files.rows["data_batch_1.bin"][:-1])
    with pytest.raises(UserError) as caught:
        import_folder(source, tmp_path / "out")
    assert caught.value.code == "checksum-mismatch"
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (images, batch)]
    for part in (str(images), str(batch), mnist.LAYOUT.files[0][1].sha256, *digests, "SHA256SUMS"):
        assert part in str(caught.value)
    assert str(source / "other.txt") in str(caught.value)
    assert sorted(path.name for path in (tmp_path / "out" / "mnist").iterdir()) == sorted(idx.NAMES[1:])
    lines = [f"{digest.upper()} *{path.name}\r\n" for digest, path in zip(digests, (images, batch), strict=True)]
    (source / "SHA256SUMS").write_text("\ufeff" + "".join(lines), encoding="utf-8", newline="")
    report = import_folder(source, tmp_path / "out")
    assert [file.file for file in report.files if not file.official] == [idx.NAMES[0], "data_batch_1.bin"]
    assert read_files(mnist.INFO, mnist.LAYOUT, tmp_path / "out").modified == (idx.NAMES[0],)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty", None),
        ("train-images-idx3-ubyte.zip", "zip"),
        ("mnist.tar", "tar"),
        ("mnist.tar.gz", "tar.gz"),
        ("photo.jpg", b"\xff\xd8\xff" + bytes(200)),
        ("model.pkl", pickle.dumps({"weights": list(range(5000))})),
        ("kuzushiji", "idx"),
        ("data", b""),
    ],
)
def test_import_names_what_it_skips(
    tmp_path: Path, source: Path, files: Files, name: str, data: bytes | str | None
) -> None:
    """Nothing to import is an error with counts and reasons."""
    if data == "zip":
        with zipfile.ZipFile(source / name, "w") as archive:
            archive.writestr(idx.NAMES[0], files.mnist[0])
    elif data in ("tar", "tar.gz"):
        stored = tar_gz({"x": bytes(1000)})
        write(source / name, gzip.decompress(stored) if data == "tar" else stored)
    elif data == "idx":
        write(source / name, files.mnist[0][:-1] + b"\xff")
    elif isinstance(data, bytes):
        write(source / name, data)
    with pytest.raises(UserError) as caught:
        import_folder(source, tmp_path / "out")
    assert caught.value.code == "nothing-to-import"
    if data is not None:
        assert str(source / name) in str(caught.value)
        assert "1 entry" in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "data_batch_1", "mnist.npz", "test_batch.bin"])
def test_import_rejects_empty_named_files(tmp_path: Path, source: Path, files: Files, name: str) -> None:
    write(source / name, b"")
    with pytest.raises(UserError, match=name) as caught:
        import_folder(source, tmp_path / "out")
    assert caught.value.code in ("checksum-mismatch", "invalid-data-file")


@pytest.mark.parametrize("name", ["data_batch_1", "train-images.idx3-ubyte.gz", "mnist.npz", "anything"])
def test_import_reads_no_huge_files(
    tmp_path: Path, source: Path, files: Files, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whatever the name says, a file of 1 TB is not read (it is sparse)."""
    path = write(source / name, pickle.dumps({}))
    os.truncate(path, 1 << 40)
    monkeypatch.setattr(importer, "read_at_most", lambda *_: pytest.fail("read"))
    monkeypatch.setattr(recognize, "read_at_most", lambda *_: pytest.fail("read"))
    with pytest.raises(UserError, match=name) as caught:
        import_folder(source, tmp_path / "out")
    assert caught.value.code == ("nothing-to-import" if name == "anything" else "checksum-mismatch")


@pytest.mark.parametrize(("folder", "code"), [("exp100", "nothing-to-import"), ("CIFAR_100", "invalid-data-file")])
def test_import_knows_common_names_only_in_context(
    tmp_path: Path, source: Path, files: Files, folder: str, code: str
) -> None:
    """CIFAR-100 calls its files train and test, as many others do."""
    write(source / folder / "train", b"something else")
    with pytest.raises(UserError) as caught:
        import_folder(source, tmp_path / "out")
    assert caught.value.code == code


def test_import_reads_no_foreign_files(
    tmp_path: Path, source: Path, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 3,000 foreign files only the first bytes are read."""
    write_mnist(source, files)
    for number in range(3000):
        write(source / "photos" / f"{number}.jpg", b"\xff\xd8\xff" + bytes(300 + number))
    read: list[Path] = []
    real = recognize.read_at_most
    monkeypatch.setattr(recognize, "read_at_most", lambda path, size: (read.append(path), real(path, size))[1])
    report = import_folder(source, tmp_path / "out")
    assert len(report.files) == 4
    assert [entry.count for entry in report.skipped] == [3000]
    sizes = {
        file.size for layout in (mnist.LAYOUT, fashion_mnist.LAYOUT) for spellings in layout.files for file in spellings
    }
    assert len(read) <= 4 + len(sizes)


def test_import_bounds_the_search(tmp_path: Path, source: Path, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many entries are an error, folders that are too deep a skip."""
    monkeypatch.setattr(importer, "MAX_DEPTH", 3)
    write_mnist(source / "1" / "2" / "3", files)
    for name in ("x", "y"):
        write(source / "1" / "2" / "3" / "4" / name, b"x")
    assert skipped(import_folder(source, tmp_path / "out")) == 1
    monkeypatch.setattr(importer, "MAX_ENTRIES", 7)
    with pytest.raises(UserError) as caught:
        import_folder(source, tmp_path / "other")
    assert caught.value.code == "too-many-files"
    assert not (tmp_path / "other").exists()


def test_import_never_unpickles_objects(tmp_path: Path, source: Path, files: Files) -> None:
    """A pickle and an npz file that would run code when loaded, in size and name like the published ones."""

    class Hostile:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
            return os.system, (f"touch {tmp_path / 'canary'}",)

    write(source / "blob", pickle.dumps({b"labels": Hostile(), b"data": bytes(4 * 3072)}, 2))
    write(source / "data_batch_1", pickle.dumps({b"labels": Hostile(), b"data": bytes(4 * 3072)}, 2))
    np.savez(source / "mnist.npz", x_train=np.array([Hostile()], object), y_train=0, x_test=0, y_test=0)
    with pytest.raises(UserError) as caught:
        import_folder(source, tmp_path / "out")
    assert caught.value.code == "invalid-data-file"
    assert all(str(source / name) in str(caught.value) for name in ("data_batch_1", "mnist.npz"))
    assert not (tmp_path / "canary").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["file", "dangling", "loop", "taken"])
def test_import_names_an_unusable_data_folder(tmp_path: Path, source: Path, files: Files, kind: str) -> None:
    write_mnist(source, files)
    folder = tmp_path / "out"
    if kind == "file":
        folder.write_text("x")
    elif kind == "taken":
        (folder / "mnist" / idx.NAMES[3] / "x").mkdir(parents=True)
    else:
        folder.symlink_to("nowhere" if kind == "dangling" else "out")
    with pytest.raises(UserError, match="out") as caught:
        import_folder(source, folder)
    assert caught.value.code == "unwritable"


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
