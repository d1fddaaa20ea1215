"""What a worker does on its node. No Ray is needed."""

import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

import fathomlab
from fathomlab.data import DATASETS
from fathomlab.execute.events import Finished, Idle, Started
from fathomlab.execute.executors.ray.node import PREFIX, Trainer
from fathomlab.execute.executors.ray.setup import RaySetup
from fathomlab.execute.executors.ray.transfer import dataset_inputs
from fathomlab.prepare.drift import code_digest
from fathomlab.prepare.jobs import Job
from fathomlab.store.lease_files import Owner, this_process

CONFIG = {
    "data": {"name": "mnist-sample", "limit": 100, "batch_size": 50},
    "model": {"type": "MLP", "params": {"layers_dim": 4, "hidden_layers_num": 1}},
    "training": {"epochs": 1},
}


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RaySetup:
    """A node with an empty folder for temporary files, which cannot read the store's token."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("FATHOMLAB_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FATHOMLAB_NODE", "")
    (tmp_path / "tmp").mkdir()
    return RaySetup(tmp_path / "runs", tmp_path / "token", "secret", "run", "cpu", 1, code_digest())


@pytest.fixture
def trainer(setup: RaySetup) -> Iterator[Trainer]:
    with closing(Trainer(setup, "host-12345678")) as trainer:
        yield trainer


def test_scratch_store_has_the_files_and_is_removed(trainer: Trainer, setup: RaySetup, tmp_path: Path):
    hello = trainer.hello()
    assert (hello.shared, hello.problem) == (False, "")
    job = Job(fathomlab.load(CONFIG, ["seed=0..1"]).trials, setup.root, "cpu", leases=True)
    batches = list(trainer.train(job, {"data/fixed": b"content"}, list(job.hashes), bytes))
    events = [event for batch in batches for event in batch.events]
    assert isinstance(events[-1], Idle)
    assert [event.node for event in events if isinstance(event, Started)] == ["host-12345678"]
    assert {event.trial for event in events if isinstance(event, Finished)} == set(job.hashes)
    sent = {key: content for batch in batches if batch.update for key, content in batch.update.files.items()}
    assert {f"trials/{trial}/result.json" for trial in job.hashes} <= set(sent)
    (scratch,) = (tmp_path / "tmp").glob(f"{PREFIX}*")
    assert (scratch / "data" / "fixed").read_bytes() == b"content"
    assert scratch.stat().st_mode & 0o77 == 0
    assert trainer.missing({"data/fixed": 7, "data/other": 7}) == ["data/other"]
    trainer.close()
    assert not scratch.exists()
    assert not setup.root.exists()


def test_node_with_other_code_says_so(setup: RaySetup, tmp_path: Path):
    (tmp_path / "token").write_text("secret")
    with closing(Trainer(replace(setup, code="other"), "host")) as trainer:
        assert "version" in trainer.hello().problem


def test_scratch_stores_of_dead_workers_are_removed(setup: RaySetup, tmp_path: Path):
    """Not those of workers that may be alive, or of which nothing is known."""
    here = this_process()
    dead, alive, unknown = ((tmp_path / "tmp" / f"{PREFIX}{name}" / "owners") for name in ("dead", "alive", "unknown"))
    for folder in (dead, alive, unknown):
        folder.mkdir(parents=True)
    (dead / "1.json").write_bytes(Owner(here.host, here.boot, here.pid, "1").encode())
    (alive / "1.json").write_bytes(here.encode())
    with closing(Trainer(setup, "host")):
        assert [folder.parent.exists() for folder in (dead, alive, unknown)] == [False, True, True]


def test_built_in_files_travel_only_to_nodes_that_lack_them(trainer: Trainer, tmp_path: Path):
    """By size: the node that has them in its own data folder uses that."""
    layout = DATASETS["mnist"].layout
    assert layout is not None
    folder = tmp_path / "data" / layout.folders[0]
    folder.mkdir(parents=True)
    for spellings in layout.files:
        (folder / spellings[0].name).write_bytes(b"1234")
    trial = fathomlab.load({**CONFIG, "data": {"name": "mnist"}}).trials[0]
    inputs = dataset_inputs(Job((trial,), tmp_path, "cpu"))
    assert len(inputs) == len(layout.files)
    sizes = {key: path.stat().st_size for key, path in inputs.items()}
    assert trainer.missing(sizes) == []
    (folder / layout.files[0][0].name).unlink()
    assert sorted(trainer.missing(sizes)) == sorted(sizes)
