"""Files of trials on their way between nodes without the store's file system and the store. No Ray is needed."""

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.base.user_code import contained
from fathomlab.execute.events import Event, Failed, Finished, Idle, Refused, Saved, Started, Warned
from fathomlab.execute.executors.ray import transfer
from fathomlab.execute.executors.ray.delivery import Delivery, leased
from fathomlab.execute.executors.ray.transfer import Inbox, Outbox, Update, job_inputs, place, unfinished_trials
from fathomlab.execute.pack.claim import NotClaimedError
from fathomlab.execute.pack.pack import train_job
from fathomlab.execute.signals import RunInterrupted
from fathomlab.prepare.jobs import Job
from fathomlab.store import leases
from fathomlab.store.checkpoints import checkpoint_steps, latest_checkpoint, read_checkpoint
from fathomlab.store.checksums import CorruptFileError
from fathomlab.store.directory import TrialFolder
from fathomlab.store.lease_files import read_lease
from fathomlab.store.leases import Lease, LeaseLostError, Observation
from fathomlab.store.reading import Store
from fathomlab.store.trial_files import trial_status

CONFIG = {
    "data": {"name": "mnist-sample", "limit": 100, "batch_size": 50},
    "model": {"type": "MLP", "params": {"layers_dim": 4, "hidden_layers_num": 1}},
    "training": {"epochs": 4},
}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A pack of two trials that writes a checkpoint after each step."""
    trials = fathomlab.load(CONFIG, ["seed=0..1"]).trials
    (tmp_path / "runs" / "trials").mkdir(parents=True)
    return Job(trials, tmp_path / "runs", "cpu", checkpoint_seconds=0.0, may_drift=False)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch" / "trials").mkdir(parents=True)
    return tmp_path / "scratch"


def send_inputs(job: Job, scratch: Path) -> None:
    inputs = job_inputs(job)
    place(scratch, {key: path.read_bytes() for key, path in {**inputs.fixed, **inputs.current}.items()})


def on_node(job: Job, scratch: Path, delivery: Delivery, saves: int | None = None) -> list[Event]:
    """Train in a scratch store and deliver after each checkpoint and result; the node is lost after some checkpoints."""
    outbox, reported = Outbox(scratch, unfinished_trials(job)), list[Event]()

    def emit(event: Event) -> None:
        changed = isinstance(event, Started | Saved | Finished | Failed)
        reported.extend(delivery.write((event,), outbox.collect() if changed else None))

    def stop() -> int | None:
        return None if saves is None or sum(isinstance(event, Saved) for event in reported) < saves else 15

    with contained():
        train_job(replace(job, root=scratch), emit, stop)
    reported.extend(delivery.write((Idle(),), outbox.collect()))
    return reported


def bits(root: Path) -> dict[str, Any]:
    """What must be equal in two stores, wherever they were trained."""
    store, result = Store(root), dict[str, Any]()
    for trial in store.trials():
        record = store.trial(trial)
        logs = {name: values for name, values in record.curves.items() if name != "seconds"}
        weights = (record.folder / "checkpoint.safetensors").read_bytes()
        result[trial] = record.status, record.metrics, record.outcome, logs, record.probes, weights
    return result


def test_delivered_trials_are_those_of_a_local_run(job: Job, scratch: Path, tmp_path: Path):
    """With the fence number of the lease, the labels, and no checkpoints left."""
    with leased(job, "node") as delivery:
        events = on_node(job, scratch, delivery)
        lease = next(event.lease for event in events if isinstance(event, Started))
        assert read_lease(job.root, lease)
    assert isinstance(events[-1], Idle)
    assert [event.trial for event in events if isinstance(event, Finished)] == list(job.hashes)
    local = tmp_path / "local"
    (local / "trials").mkdir(parents=True)
    train_job(replace(job, root=local), lambda event: None, lambda: None)
    assert bits(job.root) == bits(local)
    for trial in job.hashes:
        folder = job.root / "trials" / trial
        assert json.loads((folder / "result.json").read_text())["fence"] == 1
        assert trial_status(job.root, trial) == "finished"
        assert checkpoint_steps(folder) == []
        assert Store(job.root).trial(trial).predictions() is not None
    assert list((job.root / "labels").iterdir())


def test_lost_node_costs_one_checkpoint_interval(job: Job, scratch: Path, tmp_path: Path):
    """Another node resumes from what had arrived, and ends with the bits of an uninterrupted run."""
    with leased(job, "first") as delivery, pytest.raises(RunInterrupted):
        on_node(job, scratch, delivery, saves=3)
    saved = [latest_checkpoint(job.root / "trials" / trial) for trial in job.hashes]
    assert all(checkpoint is not None and checkpoint.step >= 3 for checkpoint in saved)
    other = tmp_path / "other"
    send_inputs(job, other)
    with leased(job, "second") as delivery:
        on_node(job, other, delivery)
    provenance = Store(job.root).trial(job.hashes[0]).provenance
    assert provenance.resumed[0].step >= 3
    assert json.loads((job.root / "trials" / job.hashes[0] / "result.json").read_text())["fence"] == 2
    local = tmp_path / "local"
    (local / "trials").mkdir(parents=True)
    train_job(replace(job, root=local), lambda event: None, lambda: None)
    assert bits(job.root) == bits(local)


def test_logs_are_written_before_checkpoints_and_the_result_last(
    job: Job, scratch: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whenever a checkpoint is in the store, its logs have the lines that it refers to."""
    written: list[str] = []
    real = transfer.atomic_write

    def record(path: Path, data: bytes) -> None:
        real(path, data)
        written.append(path.name)
        if path.name.startswith("state-"):
            folder = TrialFolder(job.root, path.parent.name)
            logs = read_checkpoint(path).logs
            assert folder.has_lines(logs), logs

    single = replace(job, trials=job.trials[:1])
    monkeypatch.setattr(transfer, "atomic_write", record)
    with leased(single, "node") as delivery:
        on_node(single, scratch, delivery)
    assert sum(name.startswith("state-") for name in written) >= 4
    assert written[-1] == "result.json"


def test_lost_lease_stops_writing(job: Job, scratch: Path):
    with leased(job, "old") as delivery:
        lease = delivery.lease.id
        content = read_lease(job.root, lease)
        assert content is not None
        new = Lease(job.root, job.hashes, "new", [Observation(lease, content)])
        with pytest.raises(LeaseLostError):
            on_node(job, scratch, delivery)
        new.release()
    assert Store(job.root).trials() == []


def test_corrupted_files_make_no_result(job: Job, scratch: Path):
    """Flip a byte of the weights on the way."""
    outbox = Outbox(scratch, job.hashes)
    train_job(replace(job, root=scratch), lambda event: None, lambda: None)
    update = outbox.collect()
    key = f"trials/{job.hashes[0]}/checkpoint.safetensors"
    damaged = bytes([update.files[key][0] ^ 1]) + update.files[key][1:]
    with Lease(job.root, job.hashes) as lease, pytest.raises(CorruptFileError):
        Inbox(job, lease).write(replace(update, files={**update.files, key: damaged}))
    assert trial_status(job.root, job.hashes[0]) != "finished"
    assert not (job.root / "trials" / job.hashes[0] / "result.json").exists()


def test_full_disk_delays_results(job: Job, scratch: Path, monkeypatch: pytest.MonkeyPatch):
    """One warning; what could not be written is written with the next update."""
    real, failures = transfer.atomic_write, [3]

    def fail(path: Path, data: bytes) -> None:
        if path.name.startswith("metrics") and failures[0] > 0:
            failures[0] -= 1
            raise OSError(28, os.strerror(28))
        real(path, data)

    monkeypatch.setattr(transfer, "atomic_write", fail)
    with leased(job, "node") as delivery:
        events = on_node(job, scratch, delivery)
    assert sum(isinstance(event, Warned) for event in events) == 1
    assert sorted(event.trial for event in events if isinstance(event, Finished)) == sorted(job.hashes)


def test_results_that_cannot_be_written_in_the_end_are_tried_again(
    job: Job, scratch: Path, monkeypatch: pytest.MonkeyPatch
):
    """As on a node that shares the store: the job is refused, not ended without results."""
    real = transfer.atomic_write

    def fail(path: Path, data: bytes) -> None:
        if path.name == "result.json":
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        real(path, data)

    with monkeypatch.context() as faults, leased(job, "node") as delivery:
        faults.setattr(transfer, "atomic_write", fail)
        events = on_node(job, scratch, delivery)
    *_, refusal, last = events
    assert not any(isinstance(event, Finished) for event in events)
    assert isinstance(refusal, Refused)
    assert (refusal.lease, last) == ("", Idle())
    shutil.rmtree(scratch / "trials")
    send_inputs(job, scratch)
    with leased(job, "node") as delivery:
        events = on_node(job, scratch, delivery)
    assert sum(isinstance(event, Finished) for event in events) == len(job.hashes)


def test_lease_that_cannot_be_written_is_no_loss_of_a_worker(job: Job, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(leases, "atomic_write", fail)
    with pytest.raises(NotClaimedError, match=os.strerror(errno.ESTALE)), leased(job, "node"):
        pass


def test_corrupted_trial_is_quarantined(job: Job, scratch: Path):
    """As on this machine: nothing is deleted. The node gets nothing of it."""
    train_job(job, lambda event: None, lambda: None)
    victim = job.root / "trials" / job.hashes[0] / "result.json"
    victim.write_text(victim.read_text().replace("finished", "finishes"))
    assert trial_status(job.root, job.hashes[0]) == "damaged"
    assert not any(job.hashes[0] in key for key in job_inputs(job).current)
    send_inputs(job, scratch)
    with leased(job, "node") as delivery:
        on_node(job, scratch, delivery)
    assert trial_status(job.root, job.hashes[0]) == "finished"
    assert [path.name for path in (job.root / "damaged").iterdir()] == [f"{job.hashes[0]}-1"]


def test_parents_and_user_data_are_inputs(tmp_path: Path):
    """Weights and result of a parent, but not its tables, which are caches."""
    network = {"model": CONFIG["model"], "training": {"epochs": 1}}
    roles = {"first": network, "second": network | {"parents": {"start": "first"}}}
    config = {"data": CONFIG["data"], "roles": roles}
    trials = {"second" if trial.parents else "first": trial for trial in fathomlab.load(config, ["seed=0..0"]).trials}
    root = tmp_path / "runs"
    (root / "trials").mkdir(parents=True)
    parent = Job((trials["first"],), root, "cpu")
    train_job(parent, lambda event: None, lambda: None)
    (root / "trials" / trials["first"].hash / "logits-0123456789abcdef.sealed").write_bytes(b"cache")
    inputs = job_inputs(Job((trials["second"],), root, "cpu"))
    names = [Path(key).name for key in inputs.fixed]
    assert {"checkpoint.safetensors", "result.json", "trial.json"} <= set(names)
    assert names[-1] == "result.json"  # so that a part of a parent never counts as finished
    assert not any(name.startswith("logits") for name in names)
    assert inputs.current == {}


def test_update_cannot_leave_the_store(job: Job):
    """Paths are rebuilt from the trials of the job and the last part of each key."""
    with Lease(job.root, job.hashes) as lease:
        update = Update({f"trials/{job.hashes[0]}/../../../victim": b"x", "labels/../../victim": b"x", "victim": b"x"})
        Inbox(job, lease).write(update)
    assert not (job.root / "victim").exists()
    assert not (job.root.parent / "victim").exists()
