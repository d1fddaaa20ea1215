"""Atomic file writes, with failures at every step."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from fathomlab.base import files
from fathomlab.base.files import atomic_write


def test_atomic_write_writes_bytes_and_text(tmp_path: Path) -> None:
    """UTF-8, no conversion of line ends, and no other file in the directory."""
    atomic_write(tmp_path / "a", b"\x00\r\n")
    atomic_write(tmp_path / "b", "line\nsign \N{GREEK SMALL LETTER ALPHA}")
    assert (tmp_path / "a").read_bytes() == b"\x00\r\n"
    assert (tmp_path / "b").read_bytes() == b"line\nsign \xce\xb1"
    atomic_write(tmp_path / "a", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert (tmp_path / "a").read_text() == "new"


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_atomic_write_keeps_old_file_on_errors(
    call: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full or the user interrupts: the temporary file is removed and the error is raised."""
    path = tmp_path / "result.json"
    path.write_text("old")

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(type(error)):
        atomic_write(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_write_leaves_no_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        atomic_write(tmp_path / "new", b"x" * 10_000)
    assert list(tmp_path.iterdir()) == []


def test_atomic_write_raises_first_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error during the cleanup does not hide the error of the write."""

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def refuse(*_: Any) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(os, "replace", fail)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OSError, match="No space left"):
        atomic_write(tmp_path / "a", b"x")


def test_atomic_write_rejects_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        atomic_write(tmp_path / "none" / "a", b"x")


def test_atomic_write_syncs_before_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync of the file, rename, fsync of the directory, in that order."""
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor: int) -> None:
        kind = "folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file"
        assert kind == "folder" or os.fstat(descriptor).st_size == 3
        calls.append(f"fsync {kind}")
        fsync(descriptor)

    def record_rename(before: Any, after: Any) -> None:
        assert Path(before).parent == Path(after).parent
        calls.append("rename")
        replace(before, after)

    monkeypatch.setattr(files.os, "fsync", record_fsync)
    monkeypatch.setattr(files.os, "replace", record_rename)
    atomic_write(tmp_path / "a", b"abc")
    assert calls == ["fsync file", "rename", "fsync folder"]
