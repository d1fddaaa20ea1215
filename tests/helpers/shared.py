"""Folders that are built once per test session, also if pytest-xdist runs it in several workers."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from fathomlab.report.page import write_index, write_report
from fathomlab.store.reading import Store
from tests.helpers import stores


def build_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Path:
    """Return the folder `name` of the session. The first worker that needs it calls `build` with it."""
    base = factory.getbasetemp()
    session = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, ready = session / name, session / f"{name}.ready"
    with FileLock(session / f"{name}.lock"):
        if not ready.exists():
            folder.mkdir()
            build(folder)
            ready.touch()
    return folder


def write_pages(root: Path) -> None:
    """Write a store with four synthetic experiments, their reports, and the index."""
    stores.write_all(root)
    store = Store(root)
    for experiment in store.experiments():
        write_report(store, experiment.name)
    write_index(store)
