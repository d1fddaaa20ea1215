"""Writing files: whole or not at all, whatever fails on the way."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from fathomlab.base import files
from fathomlab.base.files import atomic_write


def test_bytes_and_text_are_written(tmp_path: Path) -> None:
    """UTF-8, no translation of line ends, no file beside it."""
    atomic_write(tmp_path / "a", b"\x00\r\n")
    atomic_write(tmp_path / "b", "line\nsign \N{GREEK SMALL LETTER ALPHA}")
    assert (tmp_path / "a").read_bytes() == b"\x00\r\n"
    assert (tmp_path / "b").read_bytes() == b"line\nsign \xce\xb1"
    atomic_write(tmp_path / "a", "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert (tmp_path / "a").read_text() == "new"


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_the_old_file_survives(
    call: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full or the user stops it: the old content stays, the temporary file is gone, the error is told."""
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


def test_a_new_file_is_not_left_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there was none there is none afterwards."""

    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        atomic_write(tmp_path / "new", b"x" * 10_000)
    assert list(tmp_path.iterdir()) == []


def test_the_error_is_that_of_writing_and_not_of_cleaning_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary file that cannot be removed either hides nothing."""

    def fail(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def refuse(*_: Any) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(os, "replace", fail)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(OSError, match="No space left"):
        atomic_write(tmp_path / "a", b"x")


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    """No folder is made on the way."""
    with pytest.raises(FileNotFoundError):
        atomic_write(tmp_path / "none" / "a", b"x")


def test_data_reach_the_disk_before_the_name_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync of the file, rename, fsync of the folder, in that order."""
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        kind = "folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file"
        assert kind == "folder" or os.fstat(descriptor).st_size == 3
        calls.append(f"fsync {kind}")
        fsync(descriptor)

    def renamed(before: Any, after: Any) -> None:
        assert Path(before).parent == Path(after).parent
        calls.append("rename")
        replace(before, after)

    monkeypatch.setattr(files.os, "fsync", synced)
    monkeypatch.setattr(files.os, "replace", renamed)
    atomic_write(tmp_path / "a", b"abc")
    assert calls == ["fsync file", "rename", "fsync folder"]
