"""B1, B2, B9-B17: full, read-only, shared, remote and foreign storage."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fathomlab.store.checkpoints import latest_checkpoint
from fathomlab.store.lock import is_locked, network_fs_type, store_lock
from fathomlab.store.reading import Store
from tests.faults.chance import chance
from tests.faults.forks import ROOT, SURROUNDINGS, Server
from tests.faults.injection import strace_works
from tests.faults.kills import command, digest, unlike
from tests.faults.sharing import drivers, writers
from tests.faults.stops import LONG, begun


def fill(folder: Path) -> Path:
    """Use all room that a file system has."""
    path = folder / "filler"
    with open(path, "wb", buffering=0) as file:
        for size in (2**16, 2**12, 2**8, 1):
            with contextlib.suppress(OSError):  # full
                while file.write(b"\0" * size):
                    pass
    return path


def test_a_disk_that_fills_up_is_told_and_room_is_all_it_takes(forks: Server, fast: Path, mounted: Any):
    """B1, B2: what was kept stays whole; no trial is finished without its result; the same command goes on afterwards."""
    own = ("training.epochs=60", "run.checkpoint_seconds=0.02", "--progress", "plain")
    assert forks.run(command(fast, fast / "golden", *own), report=False)[0] == 0
    disk = mounted(fast / "disk", "-t", "tmpfs", "-o", "size=16m", "tmpfs")
    runs = disk / "runs"
    running = forks.start(command(fast, runs, *own), report=False)
    assert begun(runs)
    filler = fill(disk)
    assert running.wait(120) == 1 or "cannot write the experiment's record" in running.said()
    said = running.said()
    assert "No space left on device" in said
    assert "MB free" in said
    assert "Traceback" not in said
    assert 0 < said.count("could not write checkpoint") < 20  # once each time that room runs out
    store = Store(runs)
    trials = store.trials()
    assert {store.trial(trial).status for trial in trials} <= {"interrupted", "finished"}
    assert any(latest_checkpoint(runs / "trials" / trial) for trial in trials)
    filler.unlink()
    assert forks.run(command(fast, runs, *own), report=False)[0] == 0
    assert not unlike(digest(fast / "golden"), digest(runs))


def test_too_little_room_is_told_before_training(forks: Server, fast: Path, mounted: Any):
    """What will not fit is not begun."""
    disk = mounted(fast / "disk", "-t", "tmpfs", "-o", "size=512k", "tmpfs")
    status, said = forks.run(command(fast, disk / "runs"))
    assert status == 2
    assert "MB free" in said
    assert "MB needed" in said
    assert not list((disk / "runs" / "trials").iterdir())


def test_a_few_writers_lose_no_record(fast: Path):
    """B9: 4 processes x 200 records, read all the while."""
    found = writers(fast / "runs", 4, 200)
    assert found.counts["rows"] == 800
    found.must_hold()


@pytest.mark.slow
def test_many_writers_lose_no_record(fast: Path):
    """B9: 8 processes x 1,000 records."""
    found = writers(fast / "runs", 8, 1000)
    assert found.counts["rows"] == 8000
    found.must_hold()


def test_two_drivers_train_nothing_twice(forks: Server, others: Server, fast: Path):
    """B10: the second names the first, or waits for it."""
    found = drivers(forks, others, fast, 4, chance("drivers"))
    assert found.counts["pairs"] == 4
    found.must_hold()


@pytest.mark.slow
def test_two_drivers_train_nothing_twice_again_and_again(forks: Server, others: Server, fast: Path):
    """B10 in full."""
    drivers(forks, others, fast, 50, chance("drivers", fresh=True)).must_hold()


def test_a_lock_is_free_as_soon_as_its_holder_is_dead(forks: Server, fast: Path):
    """B12: whatever the lock's file says."""
    runs = fast / "runs"
    running = forks.start(command(fast, runs, LONG), report=False)
    assert begun(runs)
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
torn
"""


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/home/me/runs", ""),
        ("/mnt/lab/runs", "nfs4"),
        ("/mnt/lab", "nfs4"),
        ("/mnt/laboratory", ""),
        ("/mnt/lab/local/runs", ""),
        ("/mnt/my disk/runs", "fuse.sshfs"),
        ("/mnt/windows/runs", "cifs"),
    ],
)
def test_network_file_systems_are_recognized(tmp_path: Path, place: str, kind: str):
    """B14: by the longest mount point above the store."""
    (tmp_path / "mountinfo").write_text(MOUNTS)
    assert network_fs_type(Path(place), tmp_path / "mountinfo") == kind
    assert network_fs_type(Path(place), tmp_path / "none") == ""


def test_a_network_file_system_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """B14: one line, and the run goes on."""
    said: list[str] = []
    monkeypatch.setattr("fathomlab.store.lock.network_fs_type", lambda root: "nfs4")
    with store_lock(tmp_path, False, said.append):
        pass
    (message,) = said
    assert str(tmp_path) in message
    assert "nfs4" in message


@pytest.mark.parametrize("obstacle", ["read-only", "file", "file above"])
def test_a_folder_that_cannot_be_written_is_told_at_once(forks: Server, fast: Path, mounted: Any, obstacle: str):
    """B15: path and remedy, exit status 2, before any training."""
    place = fast / "place"
    if obstacle == "read-only":
        mounted(place, "-t", "tmpfs", "-o", "ro", "tmpfs")
        runs, reason = place, "Read-only file system"
    else:
        place.write_text("")
        runs, reason = (place, "Not a directory") if obstacle == "file" else (place / "runs", "Not a directory")
    words = command(fast, runs)
    status, said = forks.run(words)
    assert status == 2
    assert [part for part in (str(runs), reason, "--runs") if part not in said] == []


@pytest.mark.skipif(not strace_works(), reason="strace is not here or may not trace")
def test_no_rename_crosses_file_systems(fast: Path, tmp_path: Path):
    """B16: temporary files lie beside what they become, wherever TMPDIR is."""
    (fast / "runs").mkdir()
    log = fast / "log"
    words = ["strace", "-f", "-qq", "-o", str(log), "-e", "trace=rename,renameat,renameat2,link,linkat,symlink"]
    subprocess.run(
        [*words, sys.executable, "-P", "-m", "tests.faults.writers", "trial", str(fast / "runs")],
        env=SURROUNDINGS | {"TMPDIR": str(tmp_path)},
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    moves = [line for line in log.read_text().splitlines() if str(fast) in line]
    assert len(moves) >= 7
    for line in moves:
        before, after = line.split('"')[1::2]
        assert Path(before).parent == Path(after).parent, line
