"""Users' datasets in a store: what is believed, and what is not."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fathomlab.base.errors import UserError
from fathomlab.base.identity import content_hash
from fathomlab.config.datasets import user_data
from fathomlab.data.arrays import Arrays, content_sha256, describe
from fathomlab.data.users import UserDataset
from fathomlab.store.checksums import CorruptFileError, file_sha256, seal
from fathomlab.store.datasets import (
    arrays_path,
    change_of,
    dataset_files,
    dataset_info,
    facts_path,
    find_dataset,
    read_arrays,
    read_facts,
    write_dataset,
)
from fathomlab.store.maintenance import check_store
from fathomlab.store.reading import Store

LABELS = np.arange(12) % 2
IMAGES = np.arange(12 * 16, dtype=np.uint8).reshape(12, 1, 4, 4)
ARRAYS = Arrays(IMAGES, LABELS, IMAGES[:4], LABELS[:4], ("cat", "dog"))


@pytest.fixture
def dataset(tmp_path: Path) -> UserDataset:
    """A stored dataset."""
    dataset = user_data(Path(), ARRAYS).given
    assert dataset is not None
    write_dataset(tmp_path, dataset, ARRAYS)
    return dataset


def content(dataset: UserDataset) -> dict[str, Any]:
    """The content of a trial."""
    return {"data": {"name": "arrays", "params": {}, "sha256": dataset.sha256}}


def test_trials_find_their_dataset(tmp_path: Path, dataset: UserDataset) -> None:
    """Built-in datasets have constants; others are unknown."""
    assert find_dataset(tmp_path, content(dataset)) == dataset
    assert dataset_info(tmp_path, content(dataset)) == dataset.info
    built_in = dataset_info(tmp_path, {"data": {"name": "shapes"}})
    assert built_in is not None
    assert built_in.classes == 10
    for data in ({"name": "x"}, {"name": ["x"]}, {"sha256": "0"}, {"name": "arrays", "sha256": None}, [], None, 3):
        assert dataset_info(tmp_path, {"data": data, "plugins": {"a": 1}}) is None
    nested: Any = {}
    for _ in range(3_000):
        nested = {"a": nested}
    assert dataset_info(tmp_path, {"data": {"name": "x", "params": nested, "sha256": "0"}}) is None
    assert Store(tmp_path)._dataset({"data": {"name": "x", "params": nested}}) is None


def test_arrays_are_verified_when_read(tmp_path: Path, dataset: UserDataset) -> None:
    """Every byte of the arrays counts; a link or a pickle is never followed."""
    path = arrays_path(tmp_path, dataset.sha256)
    intact = path.read_bytes()
    assert read_arrays(tmp_path, dataset).files == {path.name: dataset.sha256}
    start = intact.index(IMAGES[:1].tobytes())
    faults = [intact[: len(intact) // 2], b"", b"PK", intact[:start] + b"\xff" + intact[start + 1 :]]
    for fault in faults:
        path.write_bytes(fault)
        with pytest.raises(CorruptFileError):
            read_arrays(tmp_path, dataset)
    for other in (
        {"train_images": IMAGES[::-1]},
        {"train_images": np.array([{}], dtype=object)},
        {"train_labels": None},
    ):
        np.savez(path, **{**ARRAYS.by_name, **other})  # type: ignore[arg-type]
        with pytest.raises(CorruptFileError):
            read_arrays(tmp_path, dataset)
    np.savez_compressed(path, **ARRAYS.by_name)  # type: ignore[arg-type]
    with pytest.raises(CorruptFileError):
        read_arrays(tmp_path, dataset)
    with open(path, "wb") as file:
        np.save(file, IMAGES)
    with pytest.raises(CorruptFileError):
        read_arrays(tmp_path, dataset)
    path.unlink()
    with pytest.raises(CorruptFileError, match="missing"):
        read_arrays(tmp_path, dataset)
    path.with_name("other.npz").write_bytes(intact)
    path.symlink_to("other.npz")
    with pytest.raises(CorruptFileError):
        read_arrays(tmp_path, dataset)
    path.unlink()
    write_dataset(tmp_path, dataset, ARRAYS)
    assert path.read_bytes() == intact


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_are_not_waited_for(tmp_path: Path, dataset: UserDataset) -> None:
    """A pipe in the place of a file is a corrupted file."""
    for path in (arrays_path(tmp_path, dataset.sha256), facts_path(tmp_path, dataset.digest)):
        path.unlink()
        os.mkfifo(path)
    assert find_dataset(tmp_path, content(dataset)) is None
    with pytest.raises(CorruptFileError):
        read_arrays(tmp_path, dataset)
    with pytest.raises(OSError, match="not a file"):
        file_sha256(arrays_path(tmp_path, dataset.sha256))
    assert [problem.path.name for problem in check_store(tmp_path).problems] == sorted(
        path.name for path in dataset_files(tmp_path)
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"sha256": "../../etc/passwd"},
        {"sha256": 3},
        {"info": {"classes": 10**9}},
        {"info": {"classes": 0, "class_names": []}},
        {"info": {"height": 0}},
        {"info": {"mean": []}},
        {"info": None},
        {"params": {"other": 1}},
    ],
)
def test_facts_that_cannot_be_are_not_believed(tmp_path: Path, dataset: UserDataset, changes: dict[str, Any]) -> None:
    path = facts_path(tmp_path, dataset.digest)
    document = json.loads(path.read_text())
    for key, value in changes.items():
        document[key] = {**document[key], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(seal(document)))
    assert read_facts(tmp_path, dataset.identity) is None
    path.write_text("{" * 100_000)
    assert read_facts(tmp_path, dataset.identity) is None


def test_change_of_a_function_is_noticed(tmp_path: Path) -> None:
    """Not that of a folder or an object, which are other datasets then."""
    first, second = (
        UserDataset(describe(arrays, "f", "f"), content_sha256(arrays.by_name), {"x": 1}, "0" * 64)
        for arrays in (ARRAYS, Arrays(IMAGES, LABELS, IMAGES[:4], LABELS[:4] * 0))
    )
    assert change_of(tmp_path, first) == ""
    write_dataset(tmp_path, first, ARRAYS)
    assert first.digest == second.digest == content_hash({"name": "f", "params": {"x": 1}, "plugin": "0" * 64})
    assert change_of(tmp_path, first) == ""
    assert first.sha256[:12] in change_of(tmp_path, second)
    assert find_dataset(tmp_path, {"data": {"name": "f", "params": {"x": 1}}, "plugins": {"a.py": "0" * 64}}) == first


def test_user_data_rejects_what_is_no_dataset() -> None:
    with pytest.raises(UserError):
        user_data(Path(), {"train": 1})
