"""Which experiment of a store a name or a file means."""

from pathlib import Path

import pytest

from fathomlab import api
from fathomlab.base.errors import UserError
from fathomlab.store.directory import write_experiment
from fathomlab.store.reading import Store
from fathomlab.store.records import ExperimentRecord


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Experiments of three files: two of the same name, and one that was run in two forms."""
    texts = {"study-00000001": "one", "study-00000002": "two", "deep-00000003": "deep", "deep-quick-00000004": "deep"}
    for name, text in texts.items():
        write_experiment(tmp_path, ExperimentRecord(name, tmp_path, yaml=text, source=f"{name[:-9]}.yaml"))
    return Store(tmp_path)


def file(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_bytes(text.encode())
    return str(path)


@pytest.mark.parametrize(("text", "expected"), [("one", "study-00000001"), ("two", "study-00000002")])
def test_file_means_the_experiment_with_its_text(store: Store, tmp_path: Path, text: str, expected: str):
    """Also after it was renamed; a file that was changed has its name only."""
    assert api.find_experiment(store, file(tmp_path, "study.yaml", text)) == expected
    assert api.find_experiment(store, file(tmp_path, "renamed.yml", text)) == expected


@pytest.mark.parametrize(
    ("name", "text", "code", "named"),
    [
        ("study.yaml", "three", "ambiguous-experiment", "study-00000002"),
        ("deep.yaml", "deep", "ambiguous-experiment", "deep-quick-00000004"),
        ("new.yaml", "new", "no-such-experiment", "study-00000001"),
    ],
)
def test_other_files_are_found_by_name(store: Store, tmp_path: Path, name: str, text: str, code: str, named: str):
    """Also if several experiments have the text."""
    with pytest.raises(UserError, match=named) as error:
        api.find_experiment(store, file(tmp_path, name, text))
    assert error.value.code == code
