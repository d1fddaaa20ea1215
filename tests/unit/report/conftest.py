"""The generator of synthetic stores, and one store with the pages of the four experiments."""

from types import ModuleType

import pytest

from fathomlab.report.page import write_index, write_report
from fathomlab.store.reading import Store
from tests.helpers import stores as generator


@pytest.fixture(scope="session")
def stores() -> ModuleType:
    """The generator of synthetic stores."""
    return generator


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
