"""One store with the pages of four synthetic experiments."""

import pytest

from fathomlab.store.reading import Store
from tests.helpers.shared import build_once, write_pages


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with four experiments, their pages, and the index. Write only the same bytes again."""
    return Store(build_once(tmp_path_factory, "pages", write_pages))
