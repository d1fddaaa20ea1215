"""A2, B1-B3, B8: each system call of the writer fails, or the process dies in it; no promise is broken."""

from pathlib import Path

import pytest

from tests.faults.injection import CALLS, FAULTS, points, strace_works

TRACED = pytest.mark.skipif(not strace_works(), reason="strace is not here or may not trace")


@TRACED
def test_no_fault_breaks_the_replacement_of_a_file(fast: Path):
    """Old or new, never a part; what was promised is there; no temporary file is left."""
    found = points("replace", fast / "w", CALLS, FAULTS)
    assert [found.counts[fault] for fault in FAULTS] == [6] * 5
    found.must_hold()


@TRACED
def test_a_naive_writer_is_found_broken(fast: Path):
    """The harness itself: open, write, close does not survive it."""
    found = points("naive", fast / "w", ("write",), ("KILL", "ENOSPC"))
    assert any("KILL" in failure for failure in found.failures)
    assert any("ENOSPC" in failure for failure in found.failures)


@TRACED
def test_some_kills_of_a_trial_lose_nothing(fast: Path):
    """Logs, states, result: every seventh write and rename; the slow tests take every one."""
    found = points("trial", fast / "w", ("write", "fsync", "rename"), ("KILL",), step=4)
    assert found.counts["KILL"] >= 3
    found.must_hold()


def test_without_a_tracer_faults_are_raised_by_the_functions(fast: Path):
    """The fallback: the functions of `os` raise, or kill."""
    found = points("replace", fast / "w", ("fsync", "rename"), ("KILL", "EIO"), traced=False)
    assert (found.counts["KILL"], found.counts["EIO"]) == (3, 3)
    found.must_hold()


@TRACED
@pytest.mark.slow
@pytest.mark.parametrize("program", ["trial", "aside", "experiment"])
def test_no_fault_breaks_a_durable_path(fast: Path, program: str):
    """All system calls, all faults."""
    found = points(program, fast / "w", CALLS, FAULTS)
    assert all(found.counts[fault] for fault in FAULTS)
    found.must_hold()


@TRACED
def test_data_are_durable_before_the_name_is(fast: Path):
    """Power loss: write, fsync, rename, fsync of the folder, in this order and in this folder."""
    from tests.faults.injection import prepare, run

    prepare("replace", fast / "w")
    run("replace", fast / "w", "write,fsync,rename", 60_000, "EIO")
    log = (fast / "w.strace").read_text()
    calls = [line.split("(")[0].split()[-1] for line in log.splitlines() if "(" in line]
    assert calls == ["write", "fsync", "rename", "fsync"]
