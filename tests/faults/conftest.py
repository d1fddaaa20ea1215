"""Folders in memory, a fork server, and the seeds that were used."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.chance import USED
from tests.faults.forks import Server, server

Mount = Callable[..., Path]


@pytest.fixture
def fast(tmp_path: Path) -> Iterator[Path]:
    """An empty folder, in memory where there is such a place: fsync costs nothing there, and a kill cannot tell."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="fathomlab-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One process with torch loaded, which forks commands."""
    with server(tmp_path_factory.mktemp("forks")) as made:
        yield made


@pytest.fixture(scope="session")
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A second one, for two commands at once."""
    with server(tmp_path_factory.mktemp("others")) as made:
        yield made


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mount]:
    """Mounts for this test alone; skips where this user may not mount."""
    made: list[Path] = []

    def mount(place: Path, *words: str) -> Path:
        place.mkdir(exist_ok=True)
        if shutil.which("mount") is None:
            pytest.skip("there is no mount command here")
        done = subprocess.run(["mount", *words, str(place)], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"this user may not mount: {done.stderr.strip()}")
        made.append(place)
        return place

    try:
        yield mount
    finally:
        for place in reversed(made):
            subprocess.run(["umount", "-l", str(place)], check=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how to replay."""
    if USED:
        seeds = ", ".join(f"{name} {seed}" for name, seed in USED.items())
        terminalreporter.write_line(f"seeds of random faults (FATHOMLAB_FAULT_SEED replays one): {seeds}")
