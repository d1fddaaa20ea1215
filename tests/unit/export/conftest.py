"""The store with four synthetic experiments; do not change it."""

from pathlib import Path

import pytest

from fathomlab.analysis.study import Study, study
from fathomlab.store.reading import Store
from tests.helpers.shared import build_once, write_pages


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results directory."""
    return build_once(tmp_path_factory, "pages", write_pages)


@pytest.fixture(scope="session")
def depths(root: Path) -> Study:
    """Experiment 1_2 with gradients; one trial diverged, one failed."""
    store = Store(root)
    return study(store, store.experiment("1_2"))


@pytest.fixture(scope="session")
def blocks(root: Path) -> Study:
    """Experiment 1_3, whose levels are lists."""
    store = Store(root)
    return study(store, store.experiment("1_3"))
