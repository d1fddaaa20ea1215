"""The data folder: where it is, which files count, and what replaces missing or corrupted ones."""

import hashlib
from pathlib import Path

import pytest

from fathomlab.base.errors import UserError
from fathomlab.data import DATASETS, cache, checksums, load_installed, mnist
from fathomlab.data.cache import data_dir, ensure_downloaded, missing_files, read_files
from fathomlab.data.download import DownloadError
from fathomlab.data.table import FileLayout, RemoteFile
from tests.helpers.data_files import INFO, pinned, tar_gz

CONTENT = b"the published bytes" * 50


LAYOUT = FileLayout(
    ("toy",),
    ((pinned("toy.bin", CONTENT),),),
    (RemoteFile(pinned("toy.bin", CONTENT), ("https://localhost/toy.bin",)),),
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, offline."""
    monkeypatch.setenv("FATHOMLAB_OFFLINE", "1")
    monkeypatch.setattr(checksums, "user_cache_dir", lambda _: str(tmp_path / "cache"))
    (tmp_path / "toy").mkdir()
    return tmp_path


@pytest.mark.parametrize("kind", ["next to it", "root", "star", "windows"])
def test_read_files_accepts_listed_copies(root: Path, kind: str) -> None:
    """Next to the file or in the data folder, in the spellings of sha256sum and of Windows."""
    other = CONTENT + b"!"
    (root / "toy" / "toy.bin").write_bytes(other)
    digest = hashlib.sha256(other).hexdigest()
    names = {"next to it": "  toy.bin", "root": "  toy/toy.bin", "star": " *toy.bin", "windows": "  .\\toy\\toy.bin\r"}
    folder = root if kind in ("root", "windows") else root / "toy"
    (folder / "SHA256SUMS").write_bytes(f"# a comment\n{digest}{names[kind]}\n".encode("utf-8-sig"))
    verified = read_files(INFO, LAYOUT, root)
    assert verified.modified == ("toy.bin",)
    assert verified.checksums == {"toy.bin": digest}
    assert "toy.bin" in verified.notes[0]


def test_missing_files_raise_with_manual_steps(root: Path) -> None:
    """Offline: every file, hash, and folder, and the datasets that need no network."""
    with pytest.raises(UserError) as caught:
        read_files(mnist.INFO, mnist.LAYOUT, root)
    assert caught.value.code == "download-failed"
    for part in (str(root / "mnist" / "t10k-labels-idx1-ubyte.gz"), "f7ae60f92e00ec6d", "FATHOMLAB_OFFLINE", "shapes"):
        assert part in str(caught.value)


def test_offline_downloads_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "download_files", lambda *_: pytest.fail("tried"))
    with pytest.raises(UserError) as caught:
        ensure_downloaded(INFO, LAYOUT, root)
    assert caught.value.code == "download-failed"
    assert "FATHOMLAB_OFFLINE" in str(caught.value)


@pytest.mark.parametrize("error", [DownloadError(["the cause"]), OSError(28, "the cause")], ids=["mirrors", "disk"])
def test_failed_downloads_raise_with_the_cause(root: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Mirrors and a full disk have the same code, and the manual steps."""

    def fails(*_: object) -> None:
        raise error

    monkeypatch.delenv("FATHOMLAB_OFFLINE")
    monkeypatch.setattr(cache, "download_files", fails)
    with pytest.raises(UserError) as caught:
        ensure_downloaded(INFO, LAYOUT, root)
    assert caught.value.code == "download-failed"
    for part in ("the cause", str(root / "toy" / "toy.bin"), "https://localhost/toy.bin", "data import"):
        assert part in str(caught.value)


def test_manually_installed_archives_need_no_network(root: Path) -> None:
    """The archive of the manual steps, in the data folder."""
    packed = tar_gz({"set/toy.bin": CONTENT})
    remote = RemoteFile(pinned("toy.tar.gz", packed), ("https://localhost/x",), (("set/toy.bin", LAYOUT.files[0][0]),))
    layout = FileLayout(("toy",), LAYOUT.files, (remote,))
    (root / "toy.tar.gz").write_bytes(packed[:-1])
    with pytest.raises(UserError) as caught:
        read_files(INFO, layout, root)
    assert caught.value.code == "download-failed"
    assert hashlib.sha256(packed[:-1]).hexdigest() in str(caught.value)
    (root / "toy.tar.gz").write_bytes(packed)
    verified = read_files(INFO, layout, root)
    assert verified.files[0].data == CONTENT
    assert verified.modified == ()


def test_missing_files_include_corrupted_ones(root: Path) -> None:
    assert missing_files(LAYOUT, root) == ("toy.bin",)
    (root / "toy" / "toy.bin").write_bytes(CONTENT)
    assert missing_files(LAYOUT, root) == ()
    (root / "toy" / "toy.bin").write_bytes(CONTENT[:-1])
    assert missing_files(LAYOUT, root) == ("toy.bin",)


def test_data_dir_rejects_unknown_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unusable FATHOMLAB_DATA is an error with its name."""
    monkeypatch.setenv("FATHOMLAB_DATA", "~no-such-user-here/data")
    with pytest.raises(UserError) as caught:
        data_dir()
    assert caught.value.code == "no-such-folder"
    assert "FATHOMLAB_DATA" in str(caught.value)


def test_load_installed_returns_none_without_usable_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing files are not downloaded, and corrupted ones are not read."""
    monkeypatch.setenv("FATHOMLAB_DATA", str(tmp_path))
    monkeypatch.setattr("fathomlab.data.cache.ensure_downloaded", None)  # not callable
    layout = DATASETS["mnist"].layout
    assert layout is not None
    assert load_installed("mnist") is None
    folder = tmp_path / layout.folders[0]
    folder.mkdir()
    for spellings in layout.files:
        (folder / spellings[0].name).write_bytes(b"other bytes")
    assert load_installed("mnist") is None
    assert load_installed("no-such-dataset") is None
    assert load_installed("shapes", {"difficulty": 7}) is None
    loaded = load_installed("mnist-sample")
    assert loaded is not None
    assert len(loaded.test_labels) == 1000
