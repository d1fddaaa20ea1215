"""The synthetic store of the report's tests, written once for the browser."""

import importlib.util
from pathlib import Path

import pytest

from fathomlab.report.page import write_index, write_report
from fathomlab.store.reading import Store

GENERATOR = Path(__file__).parent.parent / "unit" / "report" / "stores.py"


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name to path of the pages of the four experiments and of the index."""
    spec = importlib.util.spec_from_file_location("synthetic_stores", GENERATOR)
    assert spec is not None
    assert spec.loader is not None
    stores = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stores)
    root = tmp_path_factory.mktemp("runs")
    stores.write_all(root)
    store = Store(root)
    found = {experiment.name: write_report(store, experiment.name) for experiment in store.experiments()}
    return {**found, "index": write_index(store)}
