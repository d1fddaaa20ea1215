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
    """Also after it was renamed."""
    assert api.find_experiment(store, file(tmp_path, "study.yaml", text)) == expected
    assert api.find_experiment(store, file(tmp_path, "renamed.yml", text)) == expected


@pytest.mark.parametrize(
    ("name", "text", "code", "named"),
    [
        ("study.yaml", "three", "no-such-experiment", "study-00000001, study-00000002. "),
        ("other.yaml", "deep", "ambiguous-experiment", "deep-00000003, deep-quick-00000004"),
        ("new.yaml", "new", "no-such-experiment", "study-00000001"),
        ("study.yaml", "", "no-such-experiment", "study-00000001"),
        ("study", "three", "no-such-experiment", "study-00000001"),
    ],
)
def test_other_files_are_not_experiments(store: Store, tmp_path: Path, name: str, text: str, code: str, named: str):
    """Not those of a similar name, whose results would pass for those of the file."""
    with pytest.raises(UserError, match=named) as error:
        api.find_experiment(store, file(tmp_path, name, text))
    assert error.value.code == code


def test_encoding_does_not_matter(store: Store, tmp_path: Path):
    """A byte-order mark is not part of the text that is stored."""
    assert api.find_experiment(store, file(tmp_path, "study.yaml", "\ufefftwo")) == "study-00000002"


@pytest.mark.parametrize(
    ("name", "code"), [("/proc/self/mem", "unreadable-file"), (f"{'a' * 300}.yaml", "no-such-experiment")]
)
def test_unreadable_names_are_messages(store: Store, name: str, code: str):
    if name.startswith("/proc") and not Path(name).exists():
        pytest.skip("this system has no /proc")
    with pytest.raises(UserError) as error:
        api.find_experiment(store, name)
    assert error.value.code == code
