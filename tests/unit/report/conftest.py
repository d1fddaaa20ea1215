"""The generator of synthetic stores, and one store with the pages of the four experiments."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from fathomlab.report.page import write_index, write_report
from fathomlab.store.reading import Store


@pytest.fixture(scope="session")
def stores() -> ModuleType:
    """The generator; loaded by path, so that no import mode matters."""
    spec = importlib.util.spec_from_file_location("synthetic_stores", Path(__file__).with_name("stores.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def written(stores: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with four experiments, their pages and the index."""
    root = tmp_path_factory.mktemp("runs")
    stores.write_all(root)
    store = Store(root)
    for experiment in store.experiments():
        write_report(store, experiment.name)
    write_index(store)
    return store
