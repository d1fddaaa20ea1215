"""Files are accepted with the published hash or a line in a SHA256SUMS; all others are rejected."""

import gzip
import hashlib
import random
from pathlib import Path

import numpy as np
import pytest

from fathomlab.base.problems import UserError
from fathomlab.data import folder as folder_module
from fathomlab.data import idx, mnist
from fathomlab.data import verify as verify_module
from fathomlab.data.rows import decode_rows, encode_rows
from fathomlab.data.table import Facts, Layout, Pin
from fathomlab.data.verify import REMEMBERED, hash_of, read_verified, vouch

CONTENT = b"the published bytes" * 50
FACTS = Facts("toy", "Toy", 1, 2, 2, 2, ("a", "b"), 1, 1, (0.5,), (0.5,), "here", "none")


def pin_of(data: bytes, name: str = "toy.bin") -> Pin:
    """The pin of these bytes."""
    return Pin(name, hashlib.sha256(data).hexdigest(), len(data))


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with one right file."""
    monkeypatch.setenv("FATHOMLAB_OFFLINE", "1")
    monkeypatch.setattr(verify_module, "user_cache_dir", lambda _: str(tmp_path / "cache"))
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "toy.bin").write_bytes(CONTENT)
    return tmp_path


def test_read_verified_returns_bytes_and_hash(toy: Path) -> None:
    file = read_verified(toy / "toy" / "toy.bin", pin_of(CONTENT), toy, "toy")
    assert (file.data, file.official, file.sha256) == (CONTENT, True, hashlib.sha256(CONTENT).hexdigest())


def test_read_verified_detects_a_flipped_bit(toy: Path) -> None:
    """50 random positions; the message contains the file, both hashes, and the command."""
    path, chance = toy / "toy" / "toy.bin", random.Random(1)
    for _ in range(50):
        damaged = bytearray(CONTENT)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(UserError) as caught:
            read_verified(path, pin_of(CONTENT), toy, "toy")
        assert caught.value.code == "checksum-mismatch"
        for part in (str(path), pin_of(CONTENT).sha256, hashlib.sha256(damaged).hexdigest(), "data download toy"):
            assert part in str(caught.value)


@pytest.mark.parametrize("kind", ["next to it", "root", "star", "windows"])
def test_read_files_accepts_listed_copies(toy: Path, kind: str) -> None:
    """Next to the file or in the data folder, in the spellings of sha256sum and of Windows; it is then unofficial."""
    path, other = toy / "toy" / "toy.bin", CONTENT + b"!"
    path.write_bytes(other)
    digest = hashlib.sha256(other).hexdigest()
    names = {"next to it": "  toy.bin", "root": "  toy/toy.bin", "star": " *toy.bin", "windows": "  .\\toy\\toy.bin\r"}
    folder = toy if kind in ("root", "windows") else toy / "toy"
    (folder / "SHA256SUMS").write_bytes(f"# a comment\n{digest}{names[kind]}\n".encode("utf-8-sig"))
    contents = folder_module.read_files(FACTS, Layout(("toy",), ((pin_of(CONTENT),),), ()), toy)
    assert contents.unofficial == ("toy.bin",)
    assert contents.files == {"toy.bin": digest}
    assert "toy.bin" in contents.notes[0]


def test_read_verified_rejects_other_lines(toy: Path) -> None:
    """A line must contain this file with this hash."""
    path, other = toy / "toy" / "toy.bin", CONTENT + b"!"
    path.write_bytes(other)
    digest = hashlib.sha256(other).hexdigest()
    (toy / "toy" / "SHA256SUMS").write_text(f"{digest}  other.bin\n{'0' * 64}  toy.bin\n")
    (toy / "SHA256SUMS").write_text(f"{digest}  toy.bin\n")
    with pytest.raises(UserError) as caught:
        read_verified(path, pin_of(CONTENT), toy, "toy")
    assert caught.value.code == "checksum-mismatch"


def test_vouch_preserves_unreadable_lines(toy: Path) -> None:
    """Lines that are not UTF-8 stay as they are; a folder instead of a file is no list."""
    (toy / "SHA256SUMS").write_bytes(b"1" * 64 + b"  caf\xe9\n")
    vouch(toy, {"a": "3" * 64})
    assert (toy / "SHA256SUMS").read_bytes() == b"1" * 64 + b"  caf\xe9\n" + b"3" * 64 + b"  a\n"
    (toy / "toy" / "SHA256SUMS").mkdir()
    assert verify_module.vouched(toy / "toy" / "toy.bin", toy) == set()


def test_vouch_replaces_older_lines(toy: Path) -> None:
    """One line per file."""
    vouch(toy, {"a": "1" * 64, "b": "2" * 64})
    vouch(toy, {"a": "3" * 64})
    assert (toy / "SHA256SUMS").read_text() == f"{'2' * 64}  b\n{'3' * 64}  a\n"


def test_hash_of_reads_a_file_once(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cached by size and modification time. A change is noticed; a corrupted cache is ignored."""
    path = toy / "toy" / "toy.bin"
    digest = hash_of(path, toy)
    assert (toy / REMEMBERED).is_file()
    assert not (toy / "cache").exists()
    with monkeypatch.context() as patch:
        patch.setattr("hashlib.file_digest", lambda *_: pytest.fail("hashed again"))
        assert hash_of(path, toy) == digest
    path.write_bytes(CONTENT + b"!")
    assert hash_of(path, toy) != digest
    (toy / REMEMBERED).write_text("{torn")
    assert hash_of(path, toy) == hashlib.sha256(CONTENT + b"!").hexdigest()


def test_hash_of_uses_the_user_cache_if_read_only(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated, because root may write everywhere."""
    monkeypatch.setattr("os.access", lambda path, _: Path(path) != toy)
    hash_of(toy / "toy" / "toy.bin", toy)
    assert not (toy / REMEMBERED).exists()
    assert (toy / "cache" / "verified.json").is_file()


def test_missing_files_raise_with_manual_steps(toy: Path) -> None:
    """Offline: every file, hash, and folder, and the datasets that need no network."""
    with pytest.raises(UserError) as caught:
        folder_module.read_files(mnist.FACTS, mnist.LAYOUT, toy)
    assert caught.value.code == "download-failed"
    for part in (str(toy / "mnist" / "t10k-labels-idx1-ubyte.gz"), "f7ae60f92e00ec6d", "FATHOMLAB_OFFLINE", "shapes"):
        assert part in str(caught.value)


def test_data_folder_rejects_unknown_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unusable FATHOMLAB_DATA is an error with its name."""
    monkeypatch.setenv("FATHOMLAB_DATA", "~no-such-user-here/data")
    with pytest.raises(UserError, match="FATHOMLAB_DATA") as caught:
        folder_module.data_folder()
    assert caught.value.code == "no-such-folder"


def test_idx_decodes_both_spellings() -> None:
    """Contents decide, not the suffix. Wrong lengths and headers, truncated and endless gzip files are rejected."""
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    data = idx.header(array.shape) + array.tobytes()
    assert data[:8] == bytes([0, 0, 8, 3, 0, 0, 0, 2])
    for name, stored in (("x", data), ("x.gz", gzip.compress(data)), ("x.gz", data), ("x", gzip.compress(data))):
        assert idx.decode(stored, (2, 3, 4), name).tolist() == array.tolist()
    bad = [("x", data[:-1]), ("x", data + b"0"), ("x", b"1" + data[1:]), ("x.gz", gzip.compress(data)[:-4])]
    bad += [("x.gz", b"not gzip"), ("x.gz", gzip.compress(data + bytes(10**6)))]
    for name, stored in bad:
        with pytest.raises(UserError, match="x") as caught:
            idx.decode(stored, (2, 3, 4), name)
        assert caught.value.code == "invalid-data-file"


def test_gunzip_stops_after_the_expected_size() -> None:
    """One byte more, so that the caller notices."""
    assert len(idx.gunzip(gzip.compress(bytes(10**6)), 10, "x.gz")) == 11


def test_rows_decode_labels_and_planes() -> None:
    """The last label byte is the class; other lengths and labels are rejected."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3072), dtype=np.uint8)
    coarse, fine = np.arange(5, dtype=np.uint8), np.arange(5, 10, dtype=np.uint8)
    data = encode_rows([coarse, fine], pixels)
    images, labels = decode_rows([("train.bin", data)], 2, 100)
    assert labels.tolist() == [5, 6, 7, 8, 9]
    assert images[3, 1, 2, 7] == pixels[3, 1024 + 2 * 32 + 7]
    with pytest.raises(UserError, match=r"train\.bin.*3074"):
        decode_rows([("train.bin", data[:-1])], 2, 100)
    with pytest.raises(UserError, match=r"train\.bin.*9"):
        decode_rows([("train.bin", data)], 2, 9)
