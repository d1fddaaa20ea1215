"""`data import` decides by content, whatever files and folders are called, with small stand-ins for the published files."""

import gzip
import hashlib
import io
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fathomlab.base.errors import UserError
from fathomlab.data import cifar100, idx, import_folder, mnist, recognize
from fathomlab.data.cache import file_state, locate, read_files
from fathomlab.data.checksums import trust_checksums
from tests.helpers.commands import Command, command_in_process
from tests.unit.data.conftest import BATCHES, Files, compress, imported, skipped, write, write_mnist

NAMES = [
    "train-images.idx3-ubyte",
    "TRAIN-IMAGES-IDX3-UBYTE",
    "train-images-idx3-ubyte (1)",
    "MNIST\\raw\\train-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
    "a/b/c/d/e/f/g/images.dat",
    "data_batch_1",
    "mnist.npz",
    "line\nbreak\x1b[31m",
    os.fsdecode(b"caf\xe9"),
]


def test_import_ignores_file_names(tmp_path: Path, source: Path, files: Files) -> None:
    """Any name that the file system accepts, plain or compressed at any level."""
    imported_names = 0
    for name in NAMES:
        for number, encode in enumerate((bytes, compress, lambda data: gzip.compress(data, 1))):
            folder = source / f"{NAMES.index(name)}-{number}"
            out = tmp_path / f"out-{folder.name}"
            try:
                path = write(folder / name, encode(files.mnist[0]))
            except (OSError, UnicodeError):
                continue
            report = import_folder(folder, out)
            (file,) = report.files
            assert (file.name, file.source, file.official) == ("mnist", path, True)
            assert file_state(locate(mnist.LAYOUT, out)[0], out) == "official"
            assert skipped(report) == 0
            assert len(report.missing["mnist"]) == 3
            imported_names += 1
    assert imported_names >= 24


def test_import_ignores_folder_names(tmp_path: Path, source: Path, files: Files) -> None:
    write(source / "MNIST" / "raw" / idx.NAMES[0], files.fashion[0])
    write(source / "FashionMNIST" / "raw" / idx.NAMES[1], files.mnist[1])
    report = import_folder(source, tmp_path / "out")
    assert imported(report) == [("fashion-mnist", idx.NAMES[0]), ("mnist", idx.NAMES[1])]


def test_import_reads_gzip_variants(tmp_path: Path, source: Path, files: Files) -> None:
    """Another name inside; a file in two members; the last one is cut and skipped."""
    buffer = io.BytesIO()
    with gzip.GzipFile("../../evil", "wb", fileobj=buffer) as file:
        file.write(files.mnist[0])
    write(source / "a.gz", buffer.getvalue())
    write(source / "b.gz", gzip.compress(files.mnist[1][:9]) + gzip.compress(files.mnist[1][9:]))
    write(source / "c.gz", gzip.compress(files.mnist[2])[:-9])
    report = import_folder(source, tmp_path / "out")
    assert imported(report) == [("mnist", idx.NAMES[0]), ("mnist", idx.NAMES[1])]
    assert [entry.example for entry in report.skipped] == [source / "c.gz"]


@pytest.mark.parametrize("kind", ["rows", "pickles", "archive", "keras"])
def test_import_recognizes_formats(tmp_path: Path, source: Path, files: Files, kind: str) -> None:
    """CIFAR rows, pickles and archive, and the file of Keras, under names that say nothing."""
    stored: Any = getattr(files, kind)
    for number, data in enumerate(stored.values() if isinstance(stored, dict) else [stored]):
        write(source / f"file{number}", data)
    report = import_folder(source, tmp_path / "out")
    expected = [("mnist", name) for name in idx.NAMES] if kind == "keras" else [("cifar-10", name) for name in BATCHES]
    assert imported(report) == sorted(expected)
    assert all(file.official for file in report.files)
    if kind != "keras":
        for name, data in files.rows.items():
            assert (tmp_path / "out" / "cifar-10-batches-bin" / name).read_bytes() == data


def test_import_takes_one_of_several_copies(tmp_path: Path, source: Path, files: Files) -> None:
    """Copies, hard links, and the compressed file next to the decompressed one."""
    write_mnist(source, files)
    write(source / "copy", files.mnist[0])
    (source / "hard").hardlink_to(source / idx.NAMES[1])
    write(source / f"{idx.NAMES[2]}.gz", compress(files.mnist[2]))
    report = import_folder(source, tmp_path / "out")
    assert len(report.files) == len({file.file for file in report.files}) == 4
    assert skipped(report) == 3
    assert len(read_files(mnist.INFO, mnist.LAYOUT, tmp_path / "out").files) == 4


@pytest.mark.parametrize("corrupted_first", [False, True])
def test_import_prefers_published_twins(tmp_path: Path, source: Path, files: Files, corrupted_first: bool) -> None:
    """Names that differ in case only, one of them corrupted: the order of the names does not matter."""
    names = ["TRAIN-images-idx3-ubyte", "train-images-idx3-ubyte"][:: -1 if corrupted_first else 1]
    write(source / names[0], files.mnist[0])
    write(source / "b" / names[1], files.mnist[0][:-1] + b"\xff")
    report = import_folder(source, tmp_path / "out")
    assert [file.source for file in report.files] == [source / names[0]]
    assert skipped(report) == 1


def test_import_replaces_a_corrupted_spelling(tmp_path: Path, source: Path, files: Files) -> None:
    """A corrupted gzip file in the data folder must not hide the intact file that is imported."""
    write(tmp_path / "out" / "mnist" / f"{idx.NAMES[0]}.gz", b"corrupted")
    write_mnist(source, files)
    assert import_folder(source, tmp_path / "out").missing == {"mnist": ()}
    assert (tmp_path / "out" / "mnist" / f"{idx.NAMES[0]}.gz.corrupt").read_bytes() == b"corrupted"


@pytest.fixture
def data_link(tmp_path: Path, files: Files) -> Path:
    """A data folder that is a link, with a linked folder of dotted names."""
    for name, data in zip(idx.NAMES, files.mnist, strict=True):
        write(tmp_path / "disk" / name.replace("-idx", ".idx"), data)
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "mnist").symlink_to(tmp_path / "disk")
    (tmp_path / "data").symlink_to("real")
    return tmp_path / "data"


def test_data_folder_may_contain_links_and_other_names(data_link: Path, files: Files) -> None:
    contents = read_files(mnist.INFO, mnist.LAYOUT, data_link)
    assert [file.data for file in contents.files] == list(files.mnist)
    assert list(contents.checksums) == list(idx.NAMES)
    assert contents.modified == ()


def test_import_writes_through_a_linked_data_folder(data_link: Path, source: Path, files: Files) -> None:
    """Also where the source is the data folder."""
    write(source / "x", files.fashion[0])
    import_folder(source, data_link)
    assert (data_link.parent / "real" / "fashion-mnist" / idx.NAMES[0]).read_bytes() == files.fashion[0]
    assert len(import_folder(data_link, data_link).files) == 5
    assert len(import_folder(data_link, data_link).files) == 5


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


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in this process."""
    return command_in_process(capsys)


def test_import_command_prints_readable_lines(
    tmp_path: Path, source: Path, files: Files, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    """No representations of Python objects, no control characters; --json has only JSON on standard output."""
    monkeypatch.setenv("FATHOMLAB_DATA", str(tmp_path / "out"))
    write_mnist(source, files)
    write(source / "odd\x1b[31m\nname", b"x")
    status, out, err = command("data", "import", str(source))
    assert (status, err) == (0, "")
    assert not any(part in out for part in ("ImportedFile", "Path(", "\x1b"))
    lines = out.splitlines()
    assert [line.split(":")[0] for line in lines[:4]] == ["mnist"] * 4
    assert len(lines) == 7
    status, out, err = command("data", "import", str(source), "--json")
    assert [sorted(entry) for entry in json.loads(out)] == [["file", "name", "official", "source"]] * 4
    assert r"odd\x1b[31m\nname" in err
    status, out, err = command("data", "import", str(tmp_path / "nowhere"))
    assert (status, out) == (2, "")
    assert str(tmp_path / "nowhere") in err


def test_import_follows_links(tmp_path: Path, source: Path, files: Files) -> None:
    """A linked folder, a chain of links to a file, and a link as the source itself."""
    elsewhere = tmp_path / "elsewhere"
    write(elsewhere / idx.NAMES[0], files.mnist[0])
    write(tmp_path / "single", files.mnist[1])
    (source / "MNIST").symlink_to(elsewhere)
    (source / "second").symlink_to("first")
    (source / "first").symlink_to(tmp_path / "single")
    (tmp_path / "link").symlink_to(source)
    report = import_folder(tmp_path / "link", tmp_path / "out")
    assert imported(report) == [("mnist", idx.NAMES[0]), ("mnist", idx.NAMES[1])]
    assert skipped(report) == 1  # the second link to one file


@pytest.mark.parametrize("target", [".", "..", "../..", "/", "a", "a/..", "../source"])
def test_import_visits_each_folder_once(tmp_path: Path, source: Path, files: Files, target: str) -> None:
    """Loops, links to parents, and two links to one folder."""
    write_mnist(source / "a", files)
    (source / "a" / "loop").symlink_to(source / target)
    (source / "b").symlink_to(source / target)
    report = import_folder(source, tmp_path / "out")
    assert len(report.files) == 4
    assert skipped(report) == 2


def test_import_prefers_real_folders_to_links(tmp_path: Path, source: Path, files: Files) -> None:
    """A link that comes first by name does not hide the folder that it leads to."""
    write_mnist(source / "z", files)
    (source / "a").symlink_to(source / "z")
    assert {file.source.parent for file in import_folder(source, tmp_path / "out").files} == {source / "z"}
