"""The backend of a job: replaced if it may be, and fixed once a checkpoint names it."""

from pathlib import Path
from typing import Any

import pytest
import torch

import fathomlab
from fathomlab.base.errors import UserError
from fathomlab.engine import native_check
from fathomlab.engine.backends.native_library import describe_build
from fathomlab.execute.events import Event, Failed, Warned
from fathomlab.execute.pack.pack import train_job
from fathomlab.execute.signals import RunInterrupted
from fathomlab.prepare import machine
from fathomlab.prepare.jobs import Job
from fathomlab.store.checkpoints import checkpoint_path, checkpoint_steps, latest_checkpoint
from fathomlab.store.checksums import read_checked, write_checked
from fathomlab.store.reading import Store


def train(
    source: Any, root: Path, backend: str, may_fall_back: bool = False, stop_after: int = 999
) -> tuple[list[Event], Path]:
    """Train a trial on a CPU, at most for this number of polls; returns the events and the trial's folder."""
    (trial,) = fathomlab.load(source).trials
    events: list[Event] = []
    polls = iter(range(stop_after))
    job = Job((trial,), root, "cpu", backend=backend, may_fall_back=may_fall_back)
    train_job(job, events.append, lambda: None if next(polls, None) is not None else 2)
    return events, root / "trials" / trial.hash


def test_refused_backend_is_replaced_with_one_warning(small: dict[str, Any], tmp_path: Path):
    """For example, if PyTorch cannot use the CUDA device that was expected."""
    events, folder = train(small, tmp_path, "graph", may_fall_back=True)
    (warning,) = [event for event in events if isinstance(event, Warned)]
    assert "graph" in warning.text
    provenance = Store(tmp_path).trial(folder.name).provenance
    assert provenance.backend is not None
    assert provenance.backend.name == "reference"
    assert torch.__version__ in provenance.backend.build


def test_failing_build_falls_back_to_the_reference(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(precision: str) -> Any:
        raise UserError("backend-failed", "no headers")

    monkeypatch.setattr(machine, "find_compiler", lambda: "g++")
    monkeypatch.setattr(native_check, "checked_library", fail)
    events, folder = train(small, tmp_path, "native", may_fall_back=True)
    (warning,) = [event for event in events if isinstance(event, Warned)]
    assert "no headers" in warning.text
    record = Store(tmp_path).trial(folder.name)
    assert record.status == "finished"
    assert record.provenance.backend is not None
    assert record.provenance.backend.name == "reference"


@pytest.mark.parametrize("backend", ["graph", "unheard of"])
def test_requested_backend_is_not_replaced(small: dict[str, Any], tmp_path: Path, backend: str):
    events, folder = train(small, tmp_path, backend)
    assert [type(event) for event in events] == [Failed]
    record = Store(tmp_path).trial(folder.name)
    assert record.status == "failed"
    assert backend in str(record.cause)


def test_checkpoint_fixes_the_backend(small: dict[str, Any], tmp_path: Path):
    """A pack that fell back resumes with the reference; one that started with graphs uses their step on a CPU, too."""
    with pytest.raises(RunInterrupted):
        train(small, tmp_path, "graph", may_fall_back=True, stop_after=2)
    (folder,) = (tmp_path / "trials").iterdir()
    checkpoint = latest_checkpoint(folder)
    assert checkpoint is not None
    assert (checkpoint.backend, checkpoint.precision) == ("reference", "fp32")
    for step in checkpoint_steps(folder):
        metadata, payload = read_checked(checkpoint_path(folder, step))
        write_checked(checkpoint_path(folder, step), metadata | {"backend": "graph"}, [payload])
    events, _ = train(small, tmp_path, "reference")
    assert not [event for event in events if isinstance(event, Warned)]
    record = Store(tmp_path).trial(folder.name)
    assert record.status == "finished"
    assert record.provenance.backend is not None
    assert record.provenance.backend.name == "graph"
    assert record.provenance.resumed[0].step == checkpoint.step


@pytest.mark.parametrize(("backend", "expected"), [("native", "fp32"), ("reference", "bf16")])
def test_auto_precision_is_fp32_with_the_native_backend(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, expected: str
):
    """Without a self-test, even if the reference then replaces the backend. The others choose on this machine."""
    monkeypatch.setattr("fathomlab.execute.pack.backend.choose_precision", lambda *_: "bf16")
    source = small | {"training": small["training"] | {"precision": "auto"}}
    monkeypatch.setattr(machine, "find_compiler", lambda: None)
    _, folder = train(source, tmp_path, backend, may_fall_back=True)
    record = Store(tmp_path).trial(folder.name)
    assert record.status == "finished"
    assert record.provenance.precision == expected


def test_checkpoint_fixes_the_precision(small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A choice of `auto` is not repeated on resume."""
    source = small | {"training": small["training"] | {"precision": "auto"}}
    for chosen, stop_after in (("bf16", 2), ("fp32", 999)):
        monkeypatch.setattr("fathomlab.execute.pack.backend.choose_precision", lambda *_, chosen=chosen: chosen)
        try:
            _, folder = train(source, tmp_path, "reference", stop_after=stop_after)
        except RunInterrupted:
            continue
        record = Store(tmp_path).trial(folder.name)
        assert record.provenance.resumed
        assert record.provenance.precision == "bf16"


@pytest.mark.skipif(not machine.has_compiler(), reason="there is no C++ compiler")
def test_cnn_resumes_with_native_maps(tmp_path: Path):
    """With the bits of an uninterrupted run; provenance and the environment name the backend and its compiler."""
    source = {
        "data": {"name": "mnist-sample", "limit": 60, "batch_size": 20},
        "model": {"type": "CNN", "params": {"width": 4, "layers": [1, 1, 1, 1]}},
        "training": {"epochs": 2},
    }
    with pytest.raises(RunInterrupted):
        train(source, tmp_path / "stopped", "native", stop_after=2)
    (folder,) = (tmp_path / "stopped" / "trials").iterdir()
    checkpoint = latest_checkpoint(folder)
    assert checkpoint is not None
    assert checkpoint.backend == "native"
    assert checkpoint.environment["native"] == describe_build()
    weights = []
    for name in ("stopped", "whole"):
        events, folder = train(source, tmp_path / name, "native")
        assert not [event for event in events if isinstance(event, Warned | Failed)]
        record = Store(tmp_path / name).trial(folder.name)
        assert record.provenance.backend is not None
        assert record.provenance.backend.name == "native"
        weights.append((folder / "checkpoint.safetensors").read_bytes())
    assert weights[0] == weights[1]
