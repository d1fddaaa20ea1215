"""The writer of the store: what it writes the reader reads back, and nothing half-written looks finished."""

import errno
import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from fathomlab.base.identity import content_hash
from fathomlab.base.problems import UserError
from fathomlab.store.checksums import document_checksum, read_valid_records
from fathomlab.store.directory import TrialFolder, create_store, nan_to_none, write_experiment
from fathomlab.store.reading import Store

CONTENT = {"seed": 3, "model": {"type": "MLP"}}
TRIAL = content_hash(CONTENT)
FACTS = {"parameters": 10, "epochs": 1, "steps": 4, "seconds": 0.5}


def written(root: Path) -> TrialFolder:
    """A trial up to its result."""
    folder = TrialFolder(root, TRIAL)
    folder.create(CONTENT)
    folder.append("metrics.jsonl", {"epoch": 1, "train/loss": math.nan, "val/loss": 0.5})
    folder.append("metrics.jsonl", {"epoch": 2, "train/loss": math.inf, "val/loss": 0.25})
    folder.write("provenance.json", {"threads": 1})
    return folder


def test_what_is_written_is_read_back(tmp_path: Path):
    """Options, curves with null for what is not nan_to_none, the result."""
    written(tmp_path).finish("finished", None, {"test/loss": 0.125, "test/accuracy": math.nan}, FACTS)
    record = Store(tmp_path).trial(TRIAL)
    assert (record.status, record.cause) == ("finished", None)
    assert record.content == CONTENT
    assert record.curves == {"epoch": [1, 2], "train/loss": [None, None], "val/loss": [0.5, 0.25]}
    assert record.metrics == {"test/loss": 0.125, "test/accuracy": None}
    assert (record.parameters, record.seconds) == (10, 0.5)
    assert record.provenance == {"threads": 1}


def test_a_trial_is_finished_by_its_result_alone(tmp_path: Path):
    """Until then it is interrupted where nobody trains, whatever else is there."""
    folder = written(tmp_path)
    assert Store(tmp_path).trial(TRIAL).status == "interrupted"
    folder.finish("diverged", "the loss was not nan_to_none at step 2", {}, FACTS)
    record = Store(tmp_path).trial(TRIAL)
    assert (record.status, record.cause) == ("diverged", "the loss was not nan_to_none at step 2")


def test_a_second_attempt_keeps_nothing_of_the_first(tmp_path: Path):
    """Curves of two attempts never stand in one file."""
    folder = written(tmp_path)
    folder.finish("failed", "RuntimeError: x", {}, FACTS)
    (folder.path / "checkpoint.safetensors").write_bytes(b"x")
    TrialFolder(tmp_path, TRIAL).create(CONTENT)
    assert [path.name for path in folder.path.iterdir()] == ["trial.json"]
    assert Store(tmp_path).trial(TRIAL).status == "interrupted"


def test_the_result_is_returned_as_it_is_written(tmp_path: Path):
    """The event of a finished trial and its file say the same."""
    folder = written(tmp_path)
    result = folder.finish("finished", None, {"test/loss": 0.5}, FACTS)
    stored = json.loads((folder.path / "result.json").read_text())
    assert stored == result | {"seal": document_checksum(result)}
    files = result.pop("files")
    assert sorted(files) == ["metrics.jsonl", "provenance.json", "trial.json"]
    for name, about in files.items():
        data = (folder.path / name).read_bytes()
        assert about == {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    assert result == {
        "format": 2,
        "trial": TRIAL,
        "status": "finished",
        "cause": None,
        **FACTS,
        "metrics": {"test/loss": 0.5},
    }


def test_a_document_is_whole_or_not_there(tmp_path: Path):
    """What cannot be written leaves the old document and no litter."""
    folder = written(tmp_path)
    with pytest.raises(TypeError):
        folder.write("provenance.json", {"threads": object()})
    assert json.loads((folder.path / "provenance.json").read_text()) == {"threads": 1}
    assert sorted(path.name for path in folder.path.iterdir()) == ["metrics.jsonl", "provenance.json", "trial.json"]


def test_an_experiment_is_read_back(tmp_path: Path):
    """Under its name, with its format."""
    folder = write_experiment(tmp_path, "exp", {"title": "T", "seeds": [1, 2], "seconds": math.nan})
    record = Store(tmp_path).experiment("exp")
    assert (record.title, record.seeds, record.seconds, record.cause) == ("T", (1, 2), None, None)
    assert json.loads((folder / "experiment.json").read_text())["format"] == 2


def test_a_store_is_made_where_it_is_missing(tmp_path: Path):
    """With its two folders and no trace of the test for writing; opening it again changes nothing."""
    root = create_store(tmp_path / "a" / "b")
    assert sorted(path.name for path in root.iterdir()) == ["experiments", "trials"]
    (root / "trials" / "x").mkdir()
    assert create_store(root) == root
    assert (root / "trials" / "x").exists()


def test_a_store_that_cannot_be_is_told(tmp_path: Path):
    """A file in the way: the path, the system's reason, the remedy."""
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError) as caught:
        create_store(tmp_path / "runs")
    parts = (str(tmp_path / "runs"), "Not a directory", "--runs")
    assert [part for part in parts if part not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("value", "made"),
    [
        (math.nan, None),
        (-math.inf, None),
        (0.5, 0.5),
        (True, True),
        ({"a": [1.0, math.inf, ("x", math.nan)]}, {"a": [1.0, None, ["x", None]]}),
    ],
)
def test_only_finite_numbers_are_written(value: Any, made: Any):
    """JSON has no word for the others."""
    assert nan_to_none(value) == made
    assert json.loads(json.dumps(nan_to_none(value), allow_nan=False)) == made


def test_a_failed_attempt_is_replaced_and_a_damaged_result_is_kept(tmp_path: Path):
    """What is damaged goes to `damaged/`; nothing of a failed attempt needs to stay."""
    folder = written(tmp_path)
    folder.finish("failed", "RuntimeError: x", {}, FACTS)
    TrialFolder(tmp_path, TRIAL).create(CONTENT)
    assert not (tmp_path / "damaged").exists()
    folder = written(tmp_path)
    folder.finish("finished", None, {}, FACTS)
    (folder.path / "metrics.jsonl").write_text("x")
    TrialFolder(tmp_path, TRIAL).create(CONTENT)
    assert [path.name for path in (tmp_path / "damaged").iterdir()] == [f"{TRIAL}-1"]


def test_a_log_is_cut_back_to_a_state(tmp_path: Path):
    """Lines, whole logs and results of later are gone; torn ends and leavings of dead writers, too."""
    folder = written(tmp_path)
    state = dict(folder.lines)
    assert state == {"metrics.jsonl": 2}
    folder.append("metrics.jsonl", {"epoch": 3})
    folder.append("gradients.jsonl", {"step": 9})
    folder.finish("failed", "x", {}, FACTS)
    with open(folder.path / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 4')
    (folder.path / ".result.json.4000000.tmp").write_text("{")
    again = TrialFolder(tmp_path, TRIAL)
    assert again.has_lines(state)
    assert not again.has_lines({"metrics.jsonl": 4})
    assert not again.has_lines({"noise.jsonl": 1})
    again.resume(state)
    assert sorted(path.name for path in folder.path.iterdir()) == ["metrics.jsonl", "provenance.json", "trial.json"]
    again.append("metrics.jsonl", {"epoch": 3})
    assert [record["epoch"] for record in read_valid_records(folder.path / "metrics.jsonl")] == [1, 2, 3]


@pytest.mark.parametrize("written_before", [0, 7])
def test_what_the_disk_refuses_waits_and_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written_before: int
):
    """A full disk takes half a line and cannot even cut it off again: no line is lost, torn or doubled afterwards."""
    folder = written(tmp_path)
    path = folder.path / "metrics.jsonl"

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    class Full:
        """A file on a full disk."""

        def __init__(self, *given: Any, **more: Any):
            self.file = open(path, "ab", buffering=0)  # noqa: SIM115
            self.fileno, self.tell = self.file.fileno, self.file.tell

        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: Any) -> None:
            self.file.close()

        def write(self, data: bytes) -> None:
            self.file.write(data[:written_before])
            refuse()

    with monkeypatch.context() as patch:
        patch.setattr("fathomlab.store.directory.open", Full, raising=False)
        patch.setattr(os, "ftruncate", refuse)
        assert not folder.append("metrics.jsonl", {"epoch": 3})
    assert len(read_valid_records(path)) == 2
    assert folder.append("metrics.jsonl", {"epoch": 4})
    assert [record["epoch"] for record in read_valid_records(path)] == [1, 2, 3, 4]
    assert path.read_bytes().count(b"\n") == 4


def test_a_log_whose_fsync_failed_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The kernel says "synchronized" the second time whatever it has lost, so a new file takes the old one's place."""
    folder = written(tmp_path)
    path, real = folder.path / "metrics.jsonl", os.fsync
    before = path.stat().st_ino

    def refuse(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Input/output"):
        folder.flush()
    monkeypatch.setattr(os, "fsync", real)
    folder.flush()
    assert path.stat().st_ino != before
    assert len(read_valid_records(path)) == 2


def test_an_experiment_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With the system's reason and the room that is left."""

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(UserError, match=r"No space left on device \(\d+\.\d MB free\)"):
        write_experiment(tmp_path, "exp", {})


def test_two_may_open_a_store_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The trial file of the one may be gone by the other's hand."""
    real = os.replace

    def other(before: Any, after: Any) -> None:
        real(before, after)
        Path(after).unlink()

    monkeypatch.setattr(os, "replace", other)
    assert create_store(tmp_path / "runs") == tmp_path / "runs"
