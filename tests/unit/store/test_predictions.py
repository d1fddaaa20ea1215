"""Predicted classes and test labels: their bytes, and what is read if a file is missing or corrupted."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fathomlab.base.identity import content_hash
from fathomlab.store.checksums import seal
from fathomlab.store.directory import TrialFolder
from fathomlab.store.maintenance import check_store, repair_store
from fathomlab.store.predictions import PREDICTIONS, StoredLabels, encode_classes, write_labels
from fathomlab.store.provenance import Provenance
from fathomlab.store.pruning import Pruning, prune_store
from fathomlab.store.reading import Store
from fathomlab.store.records import Result

DATA = '{"name":"mnist","params":{}}'
CONTENT = {"seed": 1}
LABELS = np.array([0, 1, 256, 65_535])


def finish(root: Path, predictions: np.ndarray = LABELS, content: dict[str, int] = CONTENT) -> TrialFolder:
    """A finished trial with predictions."""
    folder = TrialFolder(root, content_hash(content))
    folder.create(content)
    folder.write_provenance(Provenance())
    folder.write_bytes(PREDICTIONS, encode_classes(predictions))
    folder.finish(Result("finished", labels=write_labels(root, DATA, LABELS)))
    return folder


def labels_file(root: Path) -> Path:
    return root / "labels" / f"{hashlib.sha256(DATA.encode()).hexdigest()}.bin"


def test_classes_are_little_endian_uint16(tmp_path: Path):
    folder = finish(tmp_path)
    content = bytes([0, 0, 1, 0, 0, 1, 255, 255])
    assert (folder.path / PREDICTIONS).read_bytes() == content
    assert labels_file(tmp_path).read_bytes() == content
    stored = json.loads((folder.path / "result.json").read_text())["labels"]
    assert stored == {"data": labels_file(tmp_path).stem, "sha256": hashlib.sha256(content).hexdigest()}


@pytest.mark.parametrize("classes", [[-1], [65_536]])
def test_encode_classes_rejects_other_numbers(classes: list[int]):
    with pytest.raises(ValueError, match="65,535"):
        encode_classes(np.array(classes))


def test_correct_compares_predictions_with_labels(tmp_path: Path):
    record = Store(tmp_path).trial(finish(tmp_path, np.array([0, 2, 256, 0])).trial)
    predictions, correct = record.predictions(), record.correct()
    assert predictions is not None
    assert correct is not None
    assert (predictions.dtype, predictions.tolist()) == (np.uint16, [0, 2, 256, 0])
    assert correct.tolist() == [True, False, True, False]


@pytest.mark.parametrize("damage", ["flip", "cut", "delete", "link"])
@pytest.mark.parametrize("name", ["labels", "predictions"])
def test_corrupted_files_are_not_read(tmp_path: Path, name: str, damage: str):
    folder = finish(tmp_path)
    path = labels_file(tmp_path) if name == "labels" else folder.path / PREDICTIONS
    content = path.read_bytes()
    path.unlink()
    if damage == "link":
        (tmp_path / "elsewhere").write_bytes(content)
        path.symlink_to(tmp_path / "elsewhere")
    elif damage != "delete":
        path.write_bytes(content[:-2] if damage == "cut" else bytes([1]) + content[1:])
    record = Store(tmp_path).trial(folder.trial)
    assert record.correct() is None
    assert (record.predictions() is None) == (name == "predictions")
    if damage != "link":
        assert [problem.path for problem in check_store(tmp_path).problems] == [path]


def test_predictions_of_another_test_set_are_not_compared(tmp_path: Path):
    folder = finish(tmp_path, LABELS[:3])
    assert Store(tmp_path).trial(folder.trial).correct() is None


def test_write_labels_writes_once_and_replaces_corruption(tmp_path: Path):
    first = write_labels(tmp_path, DATA, LABELS)
    path = first.path(tmp_path)
    number = path.stat().st_ino
    assert write_labels(tmp_path, DATA, LABELS) == first
    assert path.stat().st_ino == number
    content = path.read_bytes()
    path.write_bytes(b"x")
    assert write_labels(tmp_path, DATA, LABELS) == first
    assert path.read_bytes() == content
    assert write_labels(tmp_path, "{}", LABELS).path(tmp_path) != path


@pytest.mark.parametrize("data", ["../../secret", "", "a" * 63, "A" * 64, "a" * 64 + "\n"])
def test_labels_are_read_only_inside_the_store(tmp_path: Path, data: str):
    with pytest.raises(ValueError, match="SHA-256"):
        StoredLabels(data, "")
    folder = finish(tmp_path)
    path = folder.path / "result.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(seal(document | {"labels": document["labels"] | {"data": data}})))
    record = Store(tmp_path).trial(folder.trial)
    assert (record.status, record.labels) == ("damaged", None)
    assert "labels" in str(record.cause)


def test_check_counts_labels_once(tmp_path: Path):
    finish(tmp_path)
    finish(tmp_path, content={"seed": 2})
    check = check_store(tmp_path)
    assert (check.trials, check.files, check.problems) == (2, 2 * 3 + 1, ())


def test_repair_renames_corrupted_labels(tmp_path: Path):
    finish(tmp_path)
    path = labels_file(tmp_path)
    assert repair_store(tmp_path) == []
    path.write_bytes(b"x")
    assert [change.path for change in repair_store(tmp_path)] == [path]
    assert not path.exists()
    assert path.with_name(f"{path.name}.corrupt").read_bytes() == b"x"
    finish(tmp_path, content={"seed": 2})
    assert check_store(tmp_path).problems == ()


def test_prune_removes_labels_that_no_trial_needs(tmp_path: Path):
    folder = finish(tmp_path)
    unused = write_labels(tmp_path, "{}", LABELS).path(tmp_path)
    for dry_run in (True, False):
        changes = prune_store(tmp_path, Pruning(dry_run=dry_run))
        assert [change.path for change in changes] == [unused]
        assert unused.exists() == dry_run
    changes = prune_store(tmp_path, Pruning(orphans=True, dry_run=True))
    assert [change.path for change in changes] == [folder.path, labels_file(tmp_path)]


def test_diverged_trials_have_no_labels(tmp_path: Path):
    folder = finish(tmp_path)
    folder.finish(replace(Result("diverged"), cause="x"))
    assert Store(tmp_path).trial(folder.trial).correct() is None
