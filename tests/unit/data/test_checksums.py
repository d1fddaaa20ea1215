"""Files are accepted with the published hash or a line in a SHA256SUMS; all others are rejected."""

import hashlib
import random
from pathlib import Path

import pytest

from fathomlab.base.errors import UserError
from fathomlab.data import checksums
from fathomlab.data.checksums import CACHE, read_verified, sha256_of, trust_checksums, trusted_checksums
from fathomlab.data.table import PinnedFile

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


def test_read_verified_detects_a_flipped_bit(root: Path) -> None:
    """50 random positions; the message contains the file, both hashes, and the command."""
    path, chance = root / "toy" / "toy.bin", random.Random(1)
    for _ in range(50):
        corrupted = bytearray(CONTENT)
        corrupted[chance.randrange(len(corrupted))] ^= 1 << chance.randrange(8)
        path.write_bytes(corrupted)
        with pytest.raises(UserError) as caught:
            read_verified(path, PUBLISHED, root, "toy")
        assert caught.value.code == "checksum-mismatch"
        for part in (str(path), PUBLISHED.sha256, hashlib.sha256(corrupted).hexdigest(), "data download toy"):
            assert part in str(caught.value)


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
