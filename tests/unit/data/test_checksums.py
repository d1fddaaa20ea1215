"""Files are accepted with the published hash or a line in a SHA256SUMS; all others are rejected."""

import gzip
import hashlib
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fathomlab.base.errors import UserError
from fathomlab.data import DATASETS, checksums, idx, mnist_sample
from fathomlab.data.cache import VerifiedFiles, read_files
from fathomlab.data.checksums import CACHE, read_verified, sha256_of, trust_checksums, trusted_checksums
from fathomlab.data.cifar_binary import encode_rows
from fathomlab.data.table import FileLayout, PinnedFile, RemoteFile
from tests.helpers.data_files import INFO, pinned, tar_gz

CONTENT = b"the published bytes" * 50
PUBLISHED = PinnedFile("toy.bin", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with the published file."""
    monkeypatch.setattr(checksums, "user_cache_dir", lambda _: str(tmp_path / "cache"))
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "toy.bin").write_bytes(CONTENT)
    return tmp_path


def test_read_verified_returns_bytes_and_hash(root: Path) -> None:
    file = read_verified(root / "toy" / "toy.bin", PUBLISHED, root, "toy")
    assert (file.data, file.matches_published, file.sha256) == (CONTENT, True, PUBLISHED.sha256)


def test_read_verified_hashes_the_bytes_it_returns(root: Path) -> None:
    """A corrupted file of the same size and modification time is detected, although its hash is cached."""
    path = root / "toy" / "toy.bin"
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    assert sha256_of(path, root) == PUBLISHED.sha256
    path.write_bytes(CONTENT[:-1] + b"!")
    checksums.os.utime(path, ns=times)
    assert sha256_of(path, root) == PUBLISHED.sha256
    with pytest.raises(UserError) as caught:
        read_verified(path, PUBLISHED, root, "toy")
    assert caught.value.code == "checksum-mismatch"


def test_read_verified_rejects_other_lines(root: Path) -> None:
    """A line must contain this file with this hash."""
    path, other = root / "toy" / "toy.bin", CONTENT + b"!"
    path.write_bytes(other)
    digest = hashlib.sha256(other).hexdigest()
    (root / "toy" / "SHA256SUMS").write_text(f"{digest}  other.bin\n{'0' * 64}  toy.bin\n")
    (root / "SHA256SUMS").write_text(f"{digest}  toy.bin\n")
    with pytest.raises(UserError) as caught:
        read_verified(path, PUBLISHED, root, "toy")
    assert caught.value.code == "checksum-mismatch"


def test_trust_preserves_unreadable_lines(root: Path) -> None:
    """Lines that are not UTF-8 stay as they are; a folder instead of a file is no list."""
    (root / "SHA256SUMS").write_bytes(b"1" * 64 + b"  caf\xe9\n")
    trust_checksums(root, {"a": "3" * 64})
    assert (root / "SHA256SUMS").read_bytes() == b"1" * 64 + b"  caf\xe9\n" + b"3" * 64 + b"  a\n"
    (root / "toy" / "SHA256SUMS").mkdir()
    assert trusted_checksums(root / "toy" / "toy.bin", root) == set()


def test_trust_replaces_older_lines(root: Path) -> None:
    """One line per file."""
    trust_checksums(root, {"a": "1" * 64, "b": "2" * 64})
    trust_checksums(root, {"a": "3" * 64})
    assert (root / "SHA256SUMS").read_text() == f"{'2' * 64}  b\n{'3' * 64}  a\n"


def test_sha256_of_hashes_a_file_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cached by size and modification time. A change is noticed; a corrupted cache is ignored."""
    path = root / "toy" / "toy.bin"
    digest = sha256_of(path, root)
    assert (root / CACHE).is_file()
    assert not (root / "cache").exists()
    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", lambda *_: pytest.fail("hashed again"))
        assert sha256_of(path, root) == digest
    path.write_bytes(CONTENT + b"!")
    assert sha256_of(path, root) != digest
    (root / CACHE).write_text("{torn")
    assert sha256_of(path, root) == hashlib.sha256(CONTENT + b"!").hexdigest()


def test_sha256_of_uses_the_user_cache_if_read_only(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated, because root may write everywhere."""
    monkeypatch.setattr("os.access", lambda path, _: Path(path) != root)
    sha256_of(root / "toy" / "toy.bin", root)
    assert not (root / CACHE).exists()
    assert (root / "cache" / "verified.json").is_file()


DRAW = np.random.default_rng(0)
IDX = idx.header((40, 28, 28)) + DRAW.integers(0, 256, (40, 28, 28), dtype=np.uint8).tobytes()
ROWS = encode_rows([np.arange(10)], DRAW.integers(0, 256, (10, 3072), dtype=np.uint8))


# Each kind: the file that is corrupted, its published bytes, and the layout that needs it.
STORED = tar_gz({"toy/rows.bin": ROWS})
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


def corrupted(published: bytes, rng: random.Random) -> bytes:
    """Flip a bit, or sometimes cut the file or add a byte."""
    changed = bytearray(published)
    kind = rng.randrange(10)
    position = rng.randrange(len(changed))
    if kind == 0:
        return bytes(changed[:position])
    if kind == 1:
        return bytes(changed + b"\0")
    changed[position] ^= 1 << rng.randrange(8)
    return bytes(changed)


def check_detection(read: Callable[[str, bytes], VerifiedFiles], kind: str, times: int, rng: random.Random) -> None:
    """Each error contains the file, both hashes, and the command."""
    name, published, _ = KINDS[kind]
    assert read(kind, published).modified == ()
    for _ in range(times):
        data = corrupted(published, rng)
        with pytest.raises(UserError) as caught:
            read(kind, data)
        assert caught.value.code in ("checksum-mismatch", "download-failed")
        for part in (Path(name).name, *(hashlib.sha256(bytes_of).hexdigest() for bytes_of in (published, data))):
            assert part in str(caught.value)
        assert "fathomlab data download toy" in str(caught.value)


@pytest.mark.parametrize("times", [20, pytest.param(500, marks=pytest.mark.slow)])
def test_corruption_is_detected(read: Callable[[str, bytes], VerifiedFiles], rng: random.Random, times: int) -> None:
    """A flipped bit, a truncated file, or an additional byte in each kind of file."""
    for kind in KINDS:
        check_detection(read, kind, times, rng)


def test_sample_corruption_is_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: random.Random):
    """The file that is part of the package."""
    published = Path(mnist_sample.__file__).with_name(mnist_sample.FILE.name).read_bytes()
    monkeypatch.setattr(mnist_sample, "__file__", str(tmp_path / "mnist_sample.py"))
    for data in (corrupted(published, rng) for _ in range(20)):
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
