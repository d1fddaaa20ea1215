"""Leases of a run, of a worker that cannot claim its trials, and in the maintenance of a store."""

import errno
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.api.stores import upkeep
from fathomlab.base.errors import UserError
from fathomlab.execute.events import Event, Finished, Refused, Started, Warned
from fathomlab.execute.experiment import RunOptions, run_experiment
from fathomlab.execute.pack import pack
from fathomlab.execute.pack.pack import train_job
from fathomlab.execute.signals import StopRequest
from fathomlab.prepare.jobs import Job
from fathomlab.store import leases
from fathomlab.store.directory import TrialFolder, write_experiment
from fathomlab.store.lease_files import Owner, has_leases, is_dead, lease_path
from fathomlab.store.leases import Lease
from fathomlab.store.maintenance import check_store, repair_store
from fathomlab.store.pruning import Pruning, prune_store
from fathomlab.store.reading import Store

NAME = "0" * 32
TINY = ("training.epochs=1", "seed=0")


def leave(root: Path, trial: str = "a" * 64) -> None:
    """What another host leaves that was switched off: a lease, a claim, and the token of an unfinished claim."""
    lease_path(root, NAME).parent.mkdir(parents=True)
    lease_path(root, NAME).write_bytes(Owner("elsewhere", "other boot", 7, "1").encode())
    lease_path(root, NAME).with_suffix(".claim").write_text(NAME)
    (root / "leases" / trial).mkdir()
    (root / "leases" / trial / "3").write_text(NAME)


@pytest.fixture
def store(tmp_path: Path, small: dict[str, Any]) -> Path:
    run_experiment(fathomlab.load(small, TINY), tmp_path, RunOptions("cpu", 1), lambda event: None, StopRequest())
    return tmp_path


def test_maintenance_removes_leases(store: Path):
    """And the directory of a trial that was moved to be removed; `check` does not complain about them."""
    leave(store)
    stale = store / "trials" / f".{'a' * 64}.4194303.tmp"
    stale.mkdir()
    (stale / "metrics.jsonl").write_text("")
    assert check_store(store).problems == ()
    changes = {change.path.name for change in prune_store(store, Pruning(dry_run=True))}
    assert changes == {"leases", stale.name}
    assert prune_store(store, Pruning(older_than=3600)) == []
    assert has_leases(store)
    assert {change.path.name for change in repair_store(store)} == changes
    assert not (store / "leases").exists()
    assert not stale.exists()
    assert prune_store(store, Pruning()) == repair_store(store) == []


def test_link_in_the_place_of_leases_is_removed_alone(store: Path, tmp_path_factory: pytest.TempPathFactory):
    target = tmp_path_factory.mktemp("target")
    (target / "1").write_text("keep")
    (store / "leases").symlink_to(target)
    assert [change.path.name for change in prune_store(store, Pruning())] == ["leases"]
    assert (target / "1").read_text() == "keep"


def test_upkeep_waits_for_leases_that_nobody_renews(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    leave(store)
    monkeypatch.setattr(leases, "EXPIRY_SECONDS", 0.2)
    with upkeep(store):
        pass
    assert str(store) in capsys.readouterr().err
    monkeypatch.setattr(leases, "EXPIRY_SECONDS", 60.0)
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.05)
    with Lease(store, ["b" * 64]), pytest.raises(UserError) as caught, upkeep(store):
        pass
    assert caught.value.code == "store-in-use"
    assert str(os.getpid()) in str(caught.value)


def test_process_of_another_pid_namespace_is_not_dead(tmp_path: Path):
    """A container of the same machine."""
    code = f"from pathlib import Path; from fathomlab.store.leases import Lease; Lease(Path({str(tmp_path)!r}), ['a' * 64])"
    words = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", f"{code}; import os; os._exit(0)"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare here")
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        pytest.skip(f"this user may not create a PID namespace: {done.stderr.strip()[-200:]}")
    (path,) = (tmp_path / "leases" / "packs").glob("*.json")
    assert not is_dead(path.read_text())
    assert has_leases(tmp_path)


def train(job: Job) -> list[Event]:
    events: list[Event] = []
    train_job(job, events.append, lambda: None)
    return events


@pytest.fixture
def job(tmp_path: Path, small: dict[str, Any]) -> Job:
    return Job(fathomlab.load(small, TINY).trials, tmp_path, "cpu", leases=True)


def test_job_is_not_trained_if_its_trials_are_finished_when_claimed(job: Job, monkeypatch: pytest.MonkeyPatch):
    """Another process was faster, after the coordinator had looked."""
    first = train(job)
    assert isinstance(first[0], Started)
    assert first[0].lease
    runs: list[object] = []
    monkeypatch.setattr(pack, "_PackRun", lambda *given: runs.append(given))
    assert train(job) == runs == []
    assert not any(path.is_file() for path in (job.root / "leases").rglob("*"))
    record = Store(job.root).trial(job.hashes[0])
    assert record.status == "finished"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.ESTALE])
def test_lease_that_cannot_be_written_is_no_failure(job: Job, monkeypatch: pytest.MonkeyPatch, code: int):
    """The trial can be trained later."""

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as faults:
        faults.setattr(leases, "atomic_write", fail)
        (refusal,) = train(job)
    assert isinstance(refusal, Refused)
    assert refusal.lease == ""
    assert os.strerror(code) in refusal.cause
    assert Store(job.root).trials() == []
    assert isinstance(train(job)[-1], Finished)


@pytest.mark.parametrize("leased", [True, False])
def test_result_that_cannot_be_written_is_tried_again_with_leases(
    job: Job, monkeypatch: pytest.MonkeyPatch, leased: bool
):
    """The file server may come back. Without leases, the run says so and ends."""

    def fail(*_: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    job = replace(job, leases=leased)
    with monkeypatch.context() as faults:
        faults.setattr(TrialFolder, "finish", fail)
        assert isinstance(train(job)[-1], Refused if leased else Warned)
    assert isinstance(train(job)[-1], Finished)


def test_job_that_loses_its_lease_ends_without_a_failure(job: Job, monkeypatch: pytest.MonkeyPatch):
    events: list[Event] = []

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, Started):
            shutil.rmtree(job.root / "leases")

    train_job(job, emit, lambda: None)
    assert [type(event) for event in events] == [Started, Refused]
    assert isinstance(events[-1], Refused)
    assert events[-1].lease == ""
    assert Store(job.root).trial(job.hashes[0]).status == "interrupted"


def test_leases_of_other_hosts_are_respected_with_a_lock(
    tmp_path: Path, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    """A run that has the store for itself waits until they have expired."""
    plan = fathomlab.load(small, [*TINY, "run.backend=reference"])  # `auto` adds a note where there is no compiler
    leave(tmp_path, plan.trials[0].hash)
    monkeypatch.setattr(leases, "EXPIRY_SECONDS", 0.3)
    monkeypatch.setattr("fathomlab.execute.job_queue.POLL_SECONDS", 0.1)
    events: list[Event] = []
    summary = run_experiment(plan, tmp_path, RunOptions("cpu", 1), events.append, StopRequest())
    assert (summary.trained, summary.failed) == (1, 0)
    assert [event.event for event in events if event.event in ("note", "started", "finished")] == [
        "note",
        "started",
        "finished",
    ]
    assert not has_leases(tmp_path)


def test_record_keeps_what_another_process_has_added(tmp_path: Path, small: dict[str, Any]):
    """Its time, and the looks at its results, which decide about error levels."""
    looks = ({"n": 3, "alpha": 0.01},)

    def emit(event: Event) -> None:
        if isinstance(event, Started):
            (record,) = Store(tmp_path).experiments()
            write_experiment(tmp_path, replace(record, seconds=1000.0, looks=looks))

    run_experiment(fathomlab.load(small, TINY), tmp_path, RunOptions("cpu", 1), emit, StopRequest())
    (record,) = Store(tmp_path).experiments()
    assert record.looks == looks
    assert 1000 < (record.seconds or 0) < 1100
