"""`data import` decides by content: hostile names, links, and folders, with small stand-ins for the published files."""

import gzip
import hashlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from fathomlab.base.errors import UserError
from fathomlab.data import cifar10, cifar100, fashion_mnist, idx, import_folder, importer, mnist, recognize
from fathomlab.data.cache import file_state, locate, read_files
from fathomlab.data.checksums import trust_checksums
from fathomlab.data.cifar_binary import encode_rows
from fathomlab.data.importer import ImportReport
from fathomlab.data.table import FileLayout, RemoteFile
from tests.helpers.commands import Command, command_in_process
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


def test_import_replaces_a_corrupted_spelling(tmp_path: Path, source: Path, files: Files) -> None:
    """A corrupted gzip file in the data folder must not hide the intact file that is imported."""
    write(tmp_path / "out" / "mnist" / f"{idx.NAMES[0]}.gz", b"corrupted")
    write_mnist(source, files)
    assert import_folder(source, tmp_path / "out").missing == {"mnist": ()}
    assert (tmp_path / "out" / "mnist" / f"{idx.NAMES[0]}.gz.corrupt").read_bytes() == b"corrupted"


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
