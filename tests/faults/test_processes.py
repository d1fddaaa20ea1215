"""No loader workers: which processes a run starts, and a full /dev/shm."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.forks import ENVIRONMENT, Server
from tests.faults.kills import command, differences, digest

CENSUS = """\
import sys
assert "subprocess" not in sys.modules
import json, os, _posixsubprocess
started, real = [], _posixsubprocess.fork_exec
def seen(words, *rest):
    started.append(os.path.basename(os.fsdecode(words[0])))
    return real(words, *rest)
_posixsubprocess.fork_exec = seen
STARTS = ("os.fork", "os.forkpty", "os.posix_spawn", "os.system")
sys.addaudithook(lambda event, given: started.append(event) if event in STARTS else None)
answer, *words = sys.argv[1:]
room = os.statvfs("/dev/shm")
status = 0
try:
    if words:
        from fathomlab.cli import main
        main(words)
    else:
        import multiprocessing, subprocess
        subprocess.run([sys.executable, "-c", ""], check=True)
        for kind in ("fork", "spawn"):
            process = multiprocessing.get_context(kind).Process(target=int)
            process.start()
            process.join()
except SystemExit as leaving:
    status = leaving.code or 0
with open(answer, "w") as file:
    json.dump({"status": status, "started": started, "room": [room.f_blocks * room.f_frsize, room.f_bavail]}, file)
"""
FULL = (
    'mount -t tmpfs -o size=1m tmpfs /dev/shm || exit 99; dd if=/dev/zero of=/dev/shm/full bs=4k 2>/dev/null; exec "$@"'
)


def census(folder: Path, *words: str, full: bool) -> dict[str, Any]:
    """Return what a command has started, optionally with a full, private /dev/shm of 1 MiB."""
    answer = folder / "answer.json"
    line = [sys.executable, "-c", CENSUS, str(answer), *words]
    line = ["unshare", "-m", "sh", "-c", FULL, "sh", *line] if full else line
    try:
        done = subprocess.run(
            line, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if full and not answer.exists() and done.returncode in (1, 99):
        pytest.skip(f"this user may not mount: {done.stderr.strip()[-200:]}")
    assert answer.exists(), done.stderr[-2000:]
    result = json.loads(answer.read_text())
    answer.unlink()
    return result


def test_census_detects_child_processes(tmp_path: Path):
    """The control: a command, a forked child, a spawned one."""
    result = census(tmp_path, full=False)
    assert result["started"][0].startswith("python")
    assert result["started"][1] == "os.fork"
    assert any(name.startswith("python") for name in result["started"][2:])


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_run_starts_no_loader_workers(forks: Server, tmp_path: Path, times: int):
    """With `num_workers: 4` and a full /dev/shm: no worker process, and the same bits."""
    assert forks.run(command(tmp_path, tmp_path / "golden"), report=False)[0] == 0
    golden = digest(tmp_path / "golden")
    for number in range(times):
        runs = tmp_path / f"runs-{number}"
        result = census(tmp_path, *command(tmp_path, runs, "data.num_workers=4"), full=True)
        assert result["room"] == [2**20, 0]
        assert result["status"] == 0
        # git, uname, and ldconfig are allowed; a loader worker would be a fork or a Python process
        assert [name for name in result["started"] if name.startswith(("python", "os."))] == []
        assert not differences(golden, digest(runs))
