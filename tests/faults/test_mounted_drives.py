"""Mounted cloud drives lack locks, fsync of directories, renames of directories, or hard links. Training works there."""

import errno
import os
import shutil
import stat
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fathomlab.base.files import atomic_write
from fathomlab.store.directory import check_disk_space
from fathomlab.store.lock import is_locked
from fathomlab.store.reading import Store
from tests.helpers.commands import EXPERIMENT, RUN, TRIALS, command_in_process

fcntl = pytest.importorskip("fcntl", reason="this operating system has no flock")


class Usage(NamedTuple):
    """What `shutil.disk_usage` returns."""

    total: int
    used: int
    free: int


def mount(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Let calls fail as on a mounted drive: locks with `code`, directories and hard links because they are not supported."""
    fsync, rename = os.fsync, os.rename

    def no_locks(*arguments: Any) -> None:
        raise OSError(code, os.strerror(code))

    def fsync_of_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    def rename_of_files(source: Any, target: Any) -> None:
        if os.path.isdir(source):
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        rename(source, target)

    def no_links(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setattr(os, "fsync", fsync_of_files)
    monkeypatch.setattr(os, "rename", rename_of_files)
    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 0))


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOTSUP, errno.EIO], ids=errno.errorcode.get)
def test_run_on_a_mounted_drive_warns_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
):
    """And a corrupted trial is moved to `damaged` and trained again."""
    monkeypatch.chdir(tmp_path)
    mount(monkeypatch, code)
    monkeypatch.setattr("fathomlab.store.lock.network_fs_type", lambda root: "fuse.drivefs")
    monkeypatch.setattr("fathomlab.report.page.report_html", lambda *_: "")  # takes longer than training
    (tmp_path / "tiny.yaml").write_text(EXPERIMENT)
    command = command_in_process(capsys)
    first = command(*RUN, "--progress", "plain")
    assert first.status == 0
    assert first.err.count("Run one fathomlab at a time") == 1
    assert not is_locked(tmp_path / "runs")

    store = Store(tmp_path / "runs")
    trial = sorted(store.trials())[0]
    log = tmp_path / "runs" / "trials" / trial / "metrics.jsonl"
    log.write_bytes(log.read_bytes()[:-2])
    assert command(*RUN).status == 0
    assert [path.name for path in (tmp_path / "runs" / "damaged").iterdir()] == [f"{trial}-1"]
    store = Store(tmp_path / "runs")
    assert [store.trial(name).status for name in store.trials()] == ["finished"] * TRIALS


def test_errors_of_supported_calls_are_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A disk that fails is not a drive without fsync."""

    def failing(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        atomic_write(tmp_path / "file", "text")
    assert list(tmp_path.iterdir()) == []


def test_unknown_disk_space_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 0))
    check_disk_space(tmp_path, 10**9)
