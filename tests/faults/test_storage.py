"""Full, read-only, shared, and remote storage."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fathomlab.store.checkpoints import latest_checkpoint
from fathomlab.store.lock import is_locked, lock_failure, locks_hold, network_fs_type, store_lock
from fathomlab.store.reading import Store
from tests.faults.forks import ENVIRONMENT, ROOT, Server
from tests.faults.injection import strace_works
from tests.faults.kills import command, differences, digest
from tests.faults.stops import LONG, wait_for_epochs


def fill(folder: Path) -> Path:
    """Fill a file system."""
    path = folder / "filler"
    with open(path, "wb", buffering=0) as file:
        for size in (2**16, 2**12, 2**8, 1):
            with contextlib.suppress(OSError):  # full
                while file.write(b"\0" * size):
                    pass
    return path


def test_run_resumes_after_a_full_disk(forks: Server, ram_dir: Path, mounted: Any):
    """Checkpoints remain valid, no trial is finished without its result, and the same command resumes."""
    item = ("training.epochs=30", "--progress", "plain")
    assert forks.run(command(ram_dir, ram_dir / "golden", *item), report=False)[0] == 0
    disk = mounted(ram_dir / "disk", "-t", "tmpfs", "-o", "size=16m", "tmpfs")
    runs = disk / "runs"
    running = forks.start(command(ram_dir, runs, *item, "run.checkpoint_seconds=0.02"), report=False)
    assert wait_for_epochs(runs)
    filler = fill(disk)
    assert running.wait(120) == 1 or "cannot write the experiment's record" in running.printed()
    printed = running.printed()
    assert "No space left on device" in printed
    assert "MB free" in printed
    assert "Traceback" not in printed
    assert 0 < printed.count("could not write checkpoint") < 20  # once each time that the disk is full
    store = Store(runs)
    trials = store.trials()
    assert {store.trial(trial).status for trial in trials} <= {"interrupted", "finished"}
    assert any(latest_checkpoint(runs / "trials" / trial) for trial in trials)
    filler.unlink()
    assert forks.run(command(ram_dir, runs, *item), report=False)[0] == 0
    assert not differences(digest(ram_dir / "golden"), digest(runs))


def test_too_little_space_is_reported_before_training(forks: Server, ram_dir: Path, mounted: Any):
    """A run that will not fit does not start."""
    disk = mounted(ram_dir / "disk", "-t", "tmpfs", "-o", "size=512k", "tmpfs")
    status, printed = forks.run(command(ram_dir, disk / "runs"))
    assert status == 2
    assert "MB free" in printed
    assert "MB needed" in printed
    assert not list((disk / "runs" / "trials").iterdir())


def test_lock_is_released_when_its_holder_dies(forks: Server, ram_dir: Path):
    """Whatever the lock file contains."""
    runs = ram_dir / "runs"
    running = forks.start(command(ram_dir, runs, LONG), report=False)
    assert wait_for_epochs(runs)
    assert is_locked(runs)
    running.signal(signal.SIGKILL)
    assert running.wait(60) == -signal.SIGKILL
    with store_lock(runs, False, lambda text: None):
        pass
    (runs / ".lock").write_text(f'{{"pid": {os.getpid()}, "host": "here", "since": "now"}}')
    with store_lock(runs, False, lambda text: None) as descriptor:
        assert descriptor is not None
    assert not is_locked(runs)


MOUNTS = """\
1 0 0:1 / / rw - ext4 /dev/sda rw
2 1 0:2 / /mnt/lab rw,relatime shared:1 - nfs4 server:/lab rw
3 2 0:3 / /mnt/lab/local rw - xfs /dev/sdb rw
4 1 0:4 / /mnt/my\\040disk rw - fuse.sshfs me@there rw
5 1 0:5 / /mnt/windows rw - cifs //there/share rw
6 1 0:6 / /content/drive rw - fuse.drive drive rw
7 1 0:7 / /mnt/cloud rw - fuse rclone rw
8 1 0:8 / /mnt/layers rw - fuse.fuse-overlayfs fuse-overlayfs rw
torn
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/runs", ""),
        ("/mnt/lab/runs", "nfs4"),
        ("/mnt/lab", "nfs4"),
        ("/mnt/laboratory", ""),
        ("/mnt/lab/local/runs", ""),
        ("/mnt/my disk/runs", "fuse.sshfs"),
        ("/mnt/windows/runs", "cifs"),
        ("/content/drive/MyDrive/runs", "fuse.drive, a mounted Google Drive"),
        ("/mnt/cloud", "fuse"),
        ("/mnt/layers", ""),
    ],
)
def test_network_file_systems_are_recognized(tmp_path: Path, path: str, kind: str):
    """By the longest mount point above the store."""
    (tmp_path / "mountinfo").write_text(MOUNTS)
    assert network_fs_type(Path(path), tmp_path / "mountinfo") == kind
    assert network_fs_type(Path(path), tmp_path / "none") == ""


def test_lock_failures_are_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without locks, and where a second holder gets the lock, too. Nothing is left behind."""
    assert lock_failure(tmp_path) == ""
    monkeypatch.setattr("fathomlab.store.lock._lock", lambda descriptor, shared: None)
    assert lock_failure(tmp_path) == "two holders at the same time"

    def fail(descriptor: int, shared: bool) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fathomlab.store.lock._lock", fail)
    assert lock_failure(tmp_path) == "no locks (Operation not supported)"
    assert list(tmp_path.iterdir()) == []


def test_cloud_drive_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In one line; the run continues. Other network file systems have leases, and need no warning."""
    printed: list[str] = []
    for kind in ("fuse.drivefs", "nfs4"):
        monkeypatch.setattr("fathomlab.store.lock.network_fs_type", lambda root, kind=kind: kind)
        with store_lock(tmp_path, False, printed.append):
            assert not locks_hold(tmp_path)
    (message,) = printed
    assert str(tmp_path) in message
    assert "fuse.drivefs" in message


@pytest.mark.parametrize("obstacle", ["read-only", "file", "file above"])
def test_unwritable_store_is_reported_before_training(forks: Server, ram_dir: Path, mounted: Any, obstacle: str):
    """With path and remedy, and exit status 2."""
    path = ram_dir / "path"
    if obstacle == "read-only":
        mounted(path, "-t", "tmpfs", "-o", "ro", "tmpfs")
        runs, reason = path, "Read-only file system"
    else:
        path.write_text("")
        runs, reason = (path, "Not a directory") if obstacle == "file" else (path / "runs", "Not a directory")
    words = command(ram_dir, runs)
    status, printed = forks.run(words)
    assert status == 2
    assert [part for part in (str(runs), reason, "--runs") if part not in printed] == []


@pytest.mark.skipif(not strace_works(), reason="strace is not here or may not trace")
def test_renames_stay_in_one_directory(ram_dir: Path, tmp_path: Path):
    """Temporary files are created next to their target, whatever TMPDIR is."""
    (ram_dir / "runs").mkdir()
    log = ram_dir / "log"
    words = ["strace", "-f", "-qq", "-o", str(log), "-e", "trace=rename,renameat,renameat2,link,linkat,symlink"]
    subprocess.run(
        [*words, sys.executable, "-P", "-m", "tests.faults.writers", "trial", str(ram_dir / "runs")],
        env=ENVIRONMENT | {"TMPDIR": str(tmp_path)},
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    moves = [line for line in log.read_text().splitlines() if str(ram_dir) in line]
    assert len(moves) >= 7
    for line in moves:
        before, after = line.split('"')[1::2]
        assert Path(before).parent == Path(after).parent, line
