"""The writer of the store: the reader reads back what it writes, and nothing incomplete looks finished."""

import errno
import hashlib
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fathomlab.base.codec import to_plain
from fathomlab.base.errors import UserError
from fathomlab.base.identity import content_hash
from fathomlab.store.checksums import nan_to_none, read_valid_records, seal
from fathomlab.store.directory import TrialFolder, create_store, record_is_current, write_experiment
from fathomlab.store.provenance import Provenance
from fathomlab.store.reading import Store
from fathomlab.store.records import ExperimentRecord, FileDigest, Result

CONTENT = {"seed": 3, "model": {"type": "MLP"}}
TRIAL = content_hash(CONTENT)
EXPERIMENT = ExperimentRecord("exp", Path(), title="T")
FINISHED = Result("finished", None, parameters=10, epochs=1, steps=4, seconds=0.5)
FAILED = replace(FINISHED, status="failed", cause="RuntimeError: x")


def written(root: Path) -> TrialFolder:
    """A trial up to its result."""
    folder = TrialFolder(root, TRIAL)
    folder.create(CONTENT)
    folder.append("metrics.jsonl", {"epoch": 1, "train/loss": math.nan, "val/loss": 0.5})
    folder.append("metrics.jsonl", {"epoch": 2, "train/loss": math.inf, "val/loss": 0.25})
    folder.write_provenance(Provenance(threads=1))
    return folder


def test_trial_folder_writes_what_the_store_reads(tmp_path: Path):
    """Options, curves with null for what is not nan_to_none, the result."""
    written(tmp_path).finish(replace(FINISHED, metrics={"test/loss": 0.125, "test/accuracy": math.nan}))
    record = Store(tmp_path).trial(TRIAL)
    assert (record.status, record.cause) == ("finished", None)
    assert record.content == CONTENT
    assert record.curves == {"epoch": [1, 2], "train/loss": [None, None], "val/loss": [0.5, 0.25]}
    assert record.metrics == {"test/loss": 0.125, "test/accuracy": None}
    assert (record.parameters, record.seconds) == (10, 0.5)
    assert record.provenance == Provenance(threads=1)


def test_finish_makes_a_trial_finished(tmp_path: Path):
    """Until then it is interrupted if no process trains, whatever other files exist."""
    folder = written(tmp_path)
    assert Store(tmp_path).trial(TRIAL).status == "interrupted"
    folder.finish(replace(FINISHED, status="diverged", cause="the loss was not finite at step 2"))
    record = Store(tmp_path).trial(TRIAL)
    assert (record.status, record.cause) == ("diverged", "the loss was not finite at step 2")


def test_create_removes_an_earlier_attempt(tmp_path: Path):
    """A file never contains the curves of two attempts."""
    folder = written(tmp_path)
    folder.finish(FAILED)
    (folder.path / "checkpoint.safetensors").write_bytes(b"x")
    TrialFolder(tmp_path, TRIAL).create(CONTENT)
    assert [path.name for path in folder.path.iterdir()] == ["trial.json"]
    assert Store(tmp_path).trial(TRIAL).status == "interrupted"


def test_finish_returns_what_it_writes(tmp_path: Path):
    """With SHA-256 and size of every other file."""
    folder = written(tmp_path)
    result = folder.finish(replace(FINISHED, metrics={"test/loss": 0.5, "val/loss": math.inf}))
    stored = json.loads((folder.path / "result.json").read_text())
    assert stored == seal({"trial": TRIAL, **to_plain(result)})
    assert sorted(result.files) == ["metrics.jsonl", "provenance.json", "trial.json"]
    for name, digest in result.files.items():
        data = (folder.path / name).read_bytes()
        assert digest == FileDigest(hashlib.sha256(data).hexdigest(), len(data))
    assert replace(result, files={}) == replace(FINISHED, metrics={"test/loss": 0.5, "val/loss": None})


def test_write_leaves_the_old_document_on_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And no temporary file."""
    folder = written(tmp_path)
    before = (folder.path / "provenance.json").read_bytes()
    monkeypatch.setattr(os, "fsync", lambda descriptor: os.write(-1, b""))
    with pytest.raises(OSError, match="descriptor"):
        folder.write_provenance(Provenance(threads=2))
    assert (folder.path / "provenance.json").read_bytes() == before
    assert sorted(path.name for path in folder.path.iterdir()) == ["metrics.jsonl", "provenance.json", "trial.json"]


def test_write_experiment_writes_what_the_store_reads(tmp_path: Path):
    """Under its name, with its format."""
    folder = write_experiment(tmp_path, replace(EXPERIMENT, seeds=(1, 2), seconds=math.nan))
    record = Store(tmp_path).experiment("exp")
    assert (record.title, record.seeds, record.seconds, record.cause) == ("T", (1, 2), None, None)
    assert json.loads((folder / "experiment.json").read_text())["format"] == 3


def test_create_store_creates_directories_once(tmp_path: Path):
    """Without a trace of the test for writing. A second call changes nothing."""
    root = create_store(tmp_path / "a" / "b")
    assert sorted(path.name for path in root.iterdir()) == ["experiments", "trials"]
    (root / "trials" / "x").mkdir()
    assert create_store(root) == root
    assert (root / "trials" / "x").exists()


def test_create_store_raises_with_path_reason_and_remedy(tmp_path: Path):
    """A file has the name of the directory."""
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError) as caught:
        create_store(tmp_path / "runs")
    parts = (str(tmp_path / "runs"), "Not a directory", "--runs")
    assert [part for part in parts if part not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, None),
        (-math.inf, None),
        (0.5, 0.5),
        (True, True),
        ({"a": [1.0, math.inf, ("x", math.nan)]}, {"a": [1.0, None, ["x", None]]}),
    ],
)
def test_nan_to_none_replaces_values_that_are_not_finite(value: Any, expected: Any):
    """JSON cannot represent them."""
    assert nan_to_none(value) == expected
    assert json.loads(json.dumps(nan_to_none(value), allow_nan=False)) == expected


def test_create_quarantines_corrupted_results(tmp_path: Path):
    """Corrupted trials are moved to `damaged/`; failed attempts are removed."""
    folder = written(tmp_path)
    folder.finish(FAILED)
    TrialFolder(tmp_path, TRIAL).create(CONTENT)
    assert not (tmp_path / "damaged").exists()
    folder = written(tmp_path)
    folder.finish(FINISHED)
    (folder.path / "metrics.jsonl").write_text("x")
    TrialFolder(tmp_path, TRIAL).create(CONTENT)
    assert [path.name for path in (tmp_path / "damaged").iterdir()] == [f"{TRIAL}-1"]


def test_resume_truncates_logs_to_a_checkpoint(tmp_path: Path):
    """Later lines, logs, and results are removed, and so are incomplete lines and stale temporary files."""
    folder = written(tmp_path)
    state = dict(folder.lines)
    assert state == {"metrics.jsonl": 2}
    folder.append("metrics.jsonl", {"epoch": 3})
    folder.append("gradients.jsonl", {"step": 9})
    folder.finish(FAILED)
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
def test_append_buffers_lines_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written_before: int
):
    """A full disk takes a part of a line and cannot truncate it: no line is lost, incomplete, or duplicated."""
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


def test_flush_replaces_a_log_whose_fsync_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The kernel reports success the second time, whatever it has lost, so a new file replaces the old one."""
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


def test_write_experiment_raises_with_the_free_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And with the system's reason."""

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(UserError, match=r"No space left on device \(\d+\.\d MB free\)"):
        write_experiment(tmp_path, EXPERIMENT)


def test_create_store_may_run_in_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The other process may have removed the file that tests for writing."""
    real = os.replace

    def other(before: Any, after: Any) -> None:
        real(before, after)
        Path(after).unlink()

    monkeypatch.setattr(os, "replace", other)
    assert create_store(tmp_path / "runs") == tmp_path / "runs"


def test_record_is_current_compares_the_checksum(tmp_path: Path):
    """A corrupted record is not current, so that the next run writes it again."""
    folder = write_experiment(tmp_path, replace(EXPERIMENT, seconds=math.nan))
    stored = Store(tmp_path).experiment("exp")
    assert record_is_current(stored, EXPERIMENT)
    assert not record_is_current(stored, replace(EXPERIMENT, title="U"))
    assert not record_is_current(None, EXPERIMENT)
    path = folder / "experiment.json"
    path.write_text(path.read_text().replace('"T"', '"U"'))
    assert not record_is_current(Store(tmp_path).experiment("exp"), EXPERIMENT)
