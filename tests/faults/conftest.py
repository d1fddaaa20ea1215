"""Folders in memory, fork servers, and mounts."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.forks import Server, Servers

Mount = Callable[..., Path]


@pytest.fixture
def ram_dir(tmp_path: Path) -> Iterator[Path]:
    """An empty folder, in memory if possible: fsync is fast there, and a kill has the same effect."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="fathomlab-", dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Processes with torch loaded, which fork commands."""
    servers = Servers(tmp_path_factory.mktemp("servers"))
    yield servers
    servers.close()


@pytest.fixture
def forks(servers: Servers) -> Server:
    """The first of them."""
    return servers.first


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mount]:
    """Mounts for one test; skips if this user may not mount."""
    created: list[Path] = []

    def mount(place: Path, *words: str) -> Path:
        place.mkdir(exist_ok=True)
        if shutil.which("mount") is None or shutil.which("umount") is None:
            pytest.skip("there is no mount command here")
        done = subprocess.run(["mount", *words, str(place)], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"this user may not mount: {done.stderr.strip()}")
        created.append(place)
        return place

    try:
        yield mount
    finally:
        for place in reversed(created):
            subprocess.run(["umount", "-l", str(place)], check=False)
