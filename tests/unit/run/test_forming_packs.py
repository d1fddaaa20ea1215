"""Which trials train together: by signature, memory and device, shared out among workers, and as they began."""

from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.base.problems import UserError
from fathomlab.run import cost, provenance, resume
from fathomlab.run.environment import environment
from fathomlab.run.experiment import form_packs
from fathomlab.store.checkpoints import SCHEMA, Checkpoint
from fathomlab.store.inventory import Inventory, TrialEntry, take_inventory

MLP = {"data": {"name": "mnist"}, "model": {"type": "MLP"}, "training": {"epochs": 1}}
CNN = {"data": {"name": "cifar-10"}, "model": {"type": "CNN"}, "training": {"epochs": 1}}


def sizes(source: Any, *overrides: str, workers: int = 1, device: str = "cpu", runs: Path) -> list[int]:
    """How many trials each pack has."""
    plan = fathomlab.load(source, list(overrides))
    made = form_packs(plan, plan.trials, take_inventory(runs, plan.trials), device, workers)
    assert sorted(trial.hash for pack in made for trial in pack) == sorted(trial.hash for trial in plan.trials)
    return [len(pack) for pack in made]


def test_a_long_pack_is_halved_while_workers_would_be_idle(tmp_path: Path):
    """Half a core's work is not left to the other: but a pack of seconds is not worth another process."""
    assert sizes(MLP, "experiment.seeds=12", "training.epochs=50", workers=1, runs=tmp_path) == [12]
    assert sizes(MLP, "experiment.seeds=12", "training.epochs=50", workers=2, runs=tmp_path) == [6, 6]
    assert sizes(MLP, "experiment.seeds=12", "training.epochs=50", workers=4, runs=tmp_path) == [3, 3, 3, 3]
    assert sizes(MLP, "experiment.seeds=12", "data.limit=500", workers=2, runs=tmp_path) == [12]
    assert sizes(MLP, "experiment.seeds=1", "training.epochs=50", workers=4, runs=tmp_path) == [1]


def test_a_forced_pack_stays_as_it_is(tmp_path: Path):
    """`run.pack` is the user's word."""
    words = ["experiment.seeds=12", "training.epochs=50"]
    assert sizes(MLP, *words, "run.pack=12", workers=4, runs=tmp_path) == [12]
    assert sizes(MLP, *words, "run.pack=1", workers=1, runs=tmp_path) == [1] * 12


def test_wide_nets_are_alone_on_a_cpu_and_several_at_once_on_a_cuda_device(tmp_path: Path):
    """32 channels and more somewhere; narrow ones share a program."""
    assert sizes(CNN, "experiment.seeds=8", runs=tmp_path) == [1] * 8
    assert sizes(CNN, "experiment.seeds=8", device="cuda", runs=tmp_path) == [8]
    assert sizes(CNN, "experiment.seeds=8", "model.params.width=2", runs=tmp_path) == [8]


def test_a_cuda_device_takes_64_small_networks(tmp_path: Path):
    """Packs are nearly free there."""
    assert sizes(MLP, "experiment.seeds=64", device="cuda", runs=tmp_path) == [64]
    assert sizes(MLP, "experiment.seeds=64", runs=tmp_path) == [16] * 4


def test_memory_bounds_a_pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Half of what there is, shared among the workers: with a hundredth of the memory packs are smaller, never empty."""
    (trial, *_) = fathomlab.load(MLP, ["model.params.layers_dim=2048"]).trials
    monkeypatch.setattr(provenance, "memory", lambda: 16 * 2**30)
    plenty = [cost.pack_limit(trial, "cpu", workers) for workers in (1, 2, 8)]
    assert plenty == sorted(plenty, reverse=True)
    assert plenty[0] > plenty[2]
    monkeypatch.setattr(provenance, "memory", lambda: 2**20)
    assert cost.pack_limit(trial, "cpu", 8) == 1


def test_room_on_the_disk_is_for_what_is_kept_and_what_is_in_training(tmp_path: Path):
    """Two sets of weights a trial, and two states of six copies for each trial that trains at the same time."""
    trials = list(fathomlab.load(MLP, ["experiment.seeds=6"]).trials)
    weights = 4 * (784 * 128 + 128 + 2 * (128 * 128 + 128) + 10 * 128 + 10)
    assert cost.disk_bytes([trials[:4], trials[4:]], 1) == 6 * (2 * weights + 2**16) + 12 * 4 * weights
    assert cost.disk_bytes([trials[:3], trials[3:]], 2) == 6 * (2 * weights + 2**16) + 2 * 12 * 3 * weights
    assert cost.disk_bytes([], 2) == 0


def test_another_gpu_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The same device is not asked about; another one is named with both names."""
    trials = list(fathomlab.load(MLP).trials)
    checkpoint = Checkpoint(SCHEMA, step=7, environment=environment("cuda", "A", resume.kernels()))
    entries = {trial.hash: TrialEntry(trial, "running", None, checkpoint) for trial in trials}
    inventory = Inventory(tmp_path, entries, {})
    monkeypatch.setattr(resume, "gpu_name", lambda: "A")
    resume.check_environment(inventory, trials, "cuda")
    monkeypatch.setattr(resume, "gpu_name", lambda: "B")
    with pytest.raises(UserError, match=r"A then, B now") as caught:
        resume.check_environment(inventory, trials, "cuda")
    assert caught.value.code == "environment-changed"
