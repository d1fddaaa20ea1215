"""Which files are accepted: the published hash, or a SHA256SUMS that vouches; everything else is refused by name."""

import gzip
import hashlib
import random
from pathlib import Path

import numpy as np
import pytest

from fathomlab.base.problems import UserError
from fathomlab.data import folder as folder_module
from fathomlab.data import idx
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


def test_the_published_file_is_official(toy: Path) -> None:
    """Bytes and hash come back."""
    found = read_verified(toy / "toy" / "toy.bin", pin_of(CONTENT), toy, "toy")
    assert (found.data, found.official, found.sha256) == (CONTENT, True, hashlib.sha256(CONTENT).hexdigest())


def test_one_flipped_bit_is_always_found(toy: Path) -> None:
    """50 random places; the message names the file, both hashes and the command."""
    path, chance = toy / "toy" / "toy.bin", random.Random(1)
    for _ in range(50):
        damaged = bytearray(CONTENT)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(UserError) as caught:
            read_verified(path, pin_of(CONTENT), toy, "toy")
        for part in (str(path), pin_of(CONTENT).sha256, hashlib.sha256(damaged).hexdigest(), "data download toy"):
            assert part in str(caught.value)


@pytest.mark.parametrize("place", ["beside", "root", "star"])
def test_sums_vouch_for_another_copy(toy: Path, place: str) -> None:
    """Beside the file or in the data folder, in both spellings of sha256sum; it is then unofficial and said so."""
    path, other = toy / "toy" / "toy.bin", CONTENT + b"!"
    path.write_bytes(other)
    digest = hashlib.sha256(other).hexdigest()
    lines = {"beside": f"{digest}  toy.bin", "root": f"{digest}  toy/toy.bin", "star": f"{digest} *toy.bin"}
    (toy / ("" if place == "root" else "toy") / "SHA256SUMS").write_text(f"# a comment\n{lines[place]}\n")
    contents = folder_module.read_files(FACTS, Layout(("toy",), ((pin_of(CONTENT),),), ()), toy)
    assert contents.unofficial == ("toy.bin",)
    assert contents.files == {"toy.bin": digest}
    assert "toy.bin is an unofficial copy" in contents.notes[0]


def test_sums_for_another_name_or_hash_do_not_vouch(toy: Path) -> None:
    """The line must name this file with this hash."""
    path, other = toy / "toy" / "toy.bin", CONTENT + b"!"
    path.write_bytes(other)
    digest = hashlib.sha256(other).hexdigest()
    (toy / "toy" / "SHA256SUMS").write_text(f"{digest}  other.bin\n{'0' * 64}  toy.bin\n")
    (toy / "SHA256SUMS").write_text(f"{digest}  toy.bin\n")
    with pytest.raises(UserError, match="not the published file"):
        read_verified(path, pin_of(CONTENT), toy, "toy")


def test_vouch_replaces_older_lines(toy: Path) -> None:
    """One line a file."""
    vouch(toy, {"a": "1" * 64, "b": "2" * 64})
    vouch(toy, {"a": "3" * 64})
    assert (toy / "SHA256SUMS").read_text() == f"{'2' * 64}  b\n{'3' * 64}  a\n"


def test_a_file_is_hashed_once(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remembered by size and time of change; a change is seen; a torn memory is forgotten."""
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


def test_memory_goes_to_the_cache_where_the_folder_is_read_only(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write everywhere, so the question is answered by a stand-in."""
    monkeypatch.setattr("os.access", lambda path, _: Path(path) != toy)
    hash_of(toy / "toy" / "toy.bin", toy)
    assert not (toy / REMEMBERED).exists()
    assert (toy / "cache" / "verified.json").is_file()


def test_missing_files_are_named_with_the_manual_steps(toy: Path) -> None:
    """Offline: no attempt, but every file, hash and folder, and what needs no network."""
    with pytest.raises(UserError) as caught:
        folder_module.read_files(*_mnist(), toy)
    for part in (str(toy / "mnist" / "t10k-labels-idx1-ubyte.gz"), "f7ae60f92e00ec6d", "FATHOMLAB_OFFLINE", "shapes"):
        assert part in str(caught.value)


def _mnist() -> tuple[Facts, Layout]:
    from fathomlab.data import mnist

    return mnist.FACTS, mnist.LAYOUT


def test_idx_files_in_both_spellings() -> None:
    """Round trip; wrong lengths, headers, cut and endless gzip files are refused."""
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    data = idx.header(array.shape) + array.tobytes()
    assert data[:8] == bytes([0, 0, 8, 3, 0, 0, 0, 2])
    for name, stored in (("x", data), ("x.gz", gzip.compress(data))):
        assert idx.decode(stored, (2, 3, 4), name).tolist() == array.tolist()
    bad = [("x", data[:-1]), ("x", data + b"0"), ("x", b"1" + data[1:]), ("x.gz", gzip.compress(data)[:-4])]
    bad += [("x.gz", b"not gzip"), ("x.gz", gzip.compress(data + bytes(10**6)))]
    for name, stored in bad:
        with pytest.raises(UserError, match="x"):
            idx.decode(stored, (2, 3, 4), name)


def test_gunzip_never_inflates_beyond_what_is_asked() -> None:
    """A million zeros, ten wanted: eleven come."""
    assert len(idx.gunzip(gzip.compress(bytes(10**6)), 10, "x.gz")) == 11


def test_rows_of_labels_and_planes() -> None:
    """The last label byte is the class; other lengths and labels are refused."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3072), dtype=np.uint8)
    coarse, fine = np.arange(5, dtype=np.uint8), np.arange(5, 10, dtype=np.uint8)
    data = encode_rows([coarse, fine], pixels)
    images, labels = decode_rows([("train.bin", data)], 2, 100)
    assert labels.tolist() == [5, 6, 7, 8, 9]
    assert images[3, 1, 2, 7] == pixels[3, 1024 + 2 * 32 + 7]
    with pytest.raises(UserError, match=r"train\.bin: not made of rows"):
        decode_rows([("train.bin", data[:-1])], 2, 100)
    with pytest.raises(UserError, match="label 9"):
        decode_rows([("train.bin", data)], 2, 9)
