"""Which trials train together: by signature, memory, device, workers, and the packs of their checkpoints."""

from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.base.errors import UserError
from fathomlab.prepare import cost, gpus, machine
from fathomlab.prepare.drift import check_environment, environment
from fathomlab.prepare.memory import training_bytes
from fathomlab.prepare.packing import form_packs
from fathomlab.store.checkpoints import SCHEMA, Checkpoint
from fathomlab.store.inventory import Inventory, TrialEntry, take_inventory

MLP = {"data": {"name": "mnist"}, "model": {"type": "MLP"}, "training": {"epochs": 1}}
CNN = {"data": {"name": "cifar-10"}, "model": {"type": "CNN"}, "training": {"epochs": 1}}


def sizes(source: Any, *overrides: str, workers: int = 1, device: str = "cpu", runs: Path) -> list[int]:
    """Number of trials of each pack."""
    plan = fathomlab.load(source, list(overrides))
    groups = form_packs(plan, plan.trials, take_inventory(runs, plan.trials), device, workers)
    assert sorted(trial.hash for pack in groups for trial in pack) == sorted(trial.hash for trial in plan.trials)
    return [len(pack) for pack in groups]


def test_form_packs_splits_long_packs_for_idle_workers(tmp_path: Path):
    """A pack that takes seconds is not worth another process."""
    assert sizes(MLP, "experiment.seeds=12", "training.epochs=50", workers=1, runs=tmp_path) == [12]
    assert sizes(MLP, "experiment.seeds=12", "training.epochs=50", workers=2, runs=tmp_path) == [6, 6]
    assert sizes(MLP, "experiment.seeds=12", "training.epochs=50", workers=4, runs=tmp_path) == [3, 3, 3, 3]
    assert sizes(MLP, "experiment.seeds=12", "data.limit=500", workers=2, runs=tmp_path) == [12]
    assert sizes(MLP, "experiment.seeds=1", "training.epochs=50", workers=4, runs=tmp_path) == [1]


@pytest.mark.parametrize("forced", [(), ("run.pack=3",)], ids=["as many as fit", "run.pack"])
def test_form_packs_keeps_packs_that_are_queued(tmp_path: Path, forced: tuple[str, ...]):
    """A cluster has jobs for them; a pack with an unknown trial is formed again."""
    plan = fathomlab.load(MLP, ["experiment.seeds=6", *forced])
    hashes = [trial.hash for trial in plan.trials]
    queued = [(hashes[4], hashes[1]), (hashes[2], "f" * 64)]
    packs = form_packs(plan, plan.trials, take_inventory(tmp_path, plan.trials), "cpu", 1, queued)
    assert [hashes[4], hashes[1]] in [[trial.hash for trial in pack] for pack in packs]
    assert sorted(trial.hash for pack in packs for trial in pack) == sorted(hashes)


PLUGIN = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(784, 10)

    def forward(self, images):
        return self.layer(images.flatten(1))

class Random(Net):
    def forward(self, images):
        return nn.functional.dropout(super().forward(images), 0.1, self.training)

class Large(Net):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(784, 784)

    def forward(self, images):
        return super().forward(self.inner(images.flatten(1)))

def doubled(logits, labels, *, factor: float = 2.0):
    return factor * nn.functional.cross_entropy(logits, labels, reduction="none")
"""


def test_form_packs_packs_small_modules_of_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Only without random numbers, and with little work per step. Losses of plugins share a pack if their options are equal."""
    (tmp_path / "parts.py").write_text(PLUGIN)
    monkeypatch.chdir(tmp_path)
    training = {"epochs": 1, "loss": {"type": "doubled"}}
    net = {**MLP, "model": {"type": "Net"}, "plugins": ["parts.py"]}
    assert sizes(net, "experiment.seeds=3", runs=tmp_path) == [3]
    assert sizes(net, "experiment.seeds=3", "run.pack=2", runs=tmp_path) == [2, 1]
    assert sizes(net, "experiment.seeds=3", "data.batch_size=4000", runs=tmp_path) == [1, 1, 1]
    for name in ("Random", "Large"):
        other = {**net, "model": {"type": name}}
        assert sizes(other, "experiment.seeds=3", runs=tmp_path) == [1, 1, 1]
        forced = [1, 1, 1] if name == "Random" else [3]
        assert sizes(other, "experiment.seeds=3", "run.pack=3", runs=tmp_path) == forced
    doubled = {**MLP, "training": training, "plugins": ["parts.py"]}
    assert sizes(doubled, "experiment.seeds=3", "training.loss.params.factor=1,2", runs=tmp_path) == [3, 3]


def test_form_packs_uses_the_size_of_run_pack(tmp_path: Path):
    words = ["experiment.seeds=12", "training.epochs=50"]
    assert sizes(MLP, *words, "run.pack=12", workers=4, runs=tmp_path) == [12]
    assert sizes(MLP, *words, "run.pack=1", workers=1, runs=tmp_path) == [1] * 12


def test_form_packs_separates_wide_networks_on_a_cpu(tmp_path: Path):
    """From 32 channels, if the native backend does not compute all maps; a CUDA device runs several in parallel."""
    narrow = "model.params.width=8"
    for words in ([], [narrow, "data.batch_size=40"], [narrow, "training.precision=bf16"]):
        assert sizes(CNN, "experiment.seeds=8", *words, runs=tmp_path) == [1] * 8
    assert sizes(CNN, "experiment.seeds=8", narrow, "data.batch_size=48", runs=tmp_path) == [8]
    assert sizes(CNN, "experiment.seeds=8", device="cuda", runs=tmp_path) == [8]
    assert sizes(CNN, "experiment.seeds=8", "model.params.width=2", runs=tmp_path) == [8]


def test_form_packs_uses_larger_packs_on_a_cuda_device(tmp_path: Path):
    assert sizes(MLP, "experiment.seeds=64", device="cuda", runs=tmp_path) == [64]
    assert sizes(MLP, "experiment.seeds=64", runs=tmp_path) == [16] * 4


def test_pack_limit_depends_on_memory_and_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The workers share half of the memory; a pack has at least one trial."""
    (trial, *_) = fathomlab.load(MLP, ["model.params.layers_dim=2048"]).trials
    monkeypatch.setattr(machine, "memory", lambda: 16 * 2**30)
    plenty = [cost.max_pack_size(trial, "cpu", workers) for workers in (1, 2, 8)]
    assert plenty == sorted(plenty, reverse=True)
    assert plenty[0] > plenty[2]
    monkeypatch.setattr(machine, "memory", lambda: 2**20)
    assert cost.max_pack_size(trial, "cpu", 8) == 1


def test_disk_bytes_counts_weights_and_checkpoints(tmp_path: Path):
    """Two sets of weights per trial, and two checkpoints of six copies for each trial in training."""
    trials = list(fathomlab.load(MLP, ["experiment.seeds=6"]).trials)
    weights = 4 * (784 * 128 + 128 + 2 * (128 * 128 + 128) + 10 * 128 + 10)
    assert cost.disk_bytes([trials[:4], trials[4:]], 1) == 6 * (2 * weights + 2**16) + 12 * 4 * weights
    assert cost.disk_bytes([trials[:3], trials[3:]], 2) == 6 * (2 * weights + 2**16) + 2 * 12 * 3 * weights
    assert cost.disk_bytes([], 2) == 0


def test_check_environment_rejects_another_gpu(tmp_path: Path):
    """The message contains both names."""
    trials = list(fathomlab.load(MLP).trials)
    checkpoint = Checkpoint(SCHEMA, step=7, environment=environment("cuda", "A", "AVX2"))
    entries = {trial.hash: TrialEntry(trial, "running", None, checkpoint) for trial in trials}
    inventory = Inventory(tmp_path, entries, {})
    check_environment(inventory, trials, environment("cuda", "A", "AVX2"))
    with pytest.raises(UserError, match=r"A then, B now") as caught:
        check_environment(inventory, trials, environment("cuda", "B", "AVX2"))
    assert caught.value.code == "environment-changed"


def test_expected_seconds_are_those_of_similar_trials(tmp_path: Path):
    """The median of trials of the same cost; others as much slower than planned as they were."""
    plan = fathomlab.load(MLP, ["seed=0..3", "model.params.hidden_layers_num=4,8"])
    shallow, deep = (
        [trial for trial in plan.trials if len(trial.recipe.architecture.weight_layers) == layers]
        for layers in sorted({len(trial.recipe.architecture.weight_layers) for trial in plan.trials})
    )
    planned = cost.planned_seconds(shallow[0]), cost.planned_seconds(deep[0])
    empty = Inventory(tmp_path, {}, {})
    expected, measured = cost.expected_seconds(plan.trials, empty)
    assert (expected[shallow[0].hash], expected[deep[0].hash], measured) == (*planned, False)
    times = zip(shallow[:3], (1.0, 2.0, 9.0), strict=True)
    entries = {trial.hash: TrialEntry(trial, "finished", seconds) for trial, seconds in times}
    expected, measured = cost.expected_seconds(plan.trials, Inventory(tmp_path, entries, {}))
    assert measured
    assert expected.keys() == {trial.hash for trial in (shallow[3], *deep)}
    assert expected[shallow[3].hash] == 2.0
    assert expected[deep[0].hash] == pytest.approx(2.0 * planned[1] / planned[0])


def test_form_packs_separates_generations(tmp_path: Path):
    """Students of students have equal options, but a pack with a trial and its parent would wait for itself."""
    student = {"model": {"type": "MLP", "params": {"layers_dim": 4}}, "training": {"epochs": 1}}
    chain = {"first": "baseline", "second": "first", "third": "second"}
    roles = {"baseline": student} | {name: student | {"parents": {"teacher": of}} for name, of in chain.items()}
    source = {"data": {"name": "mnist-sample", "limit": 200}, "roles": roles, "experiment": {"seeds": 3}}
    plan = fathomlab.load(source)
    packs = form_packs(plan, plan.trials, take_inventory(tmp_path, plan.trials), "cpu", 1)
    assert [len(pack) for pack in packs] == [3, 3, 3, 3]
    for pack in packs:
        parents = {parent.hash for trial in pack for _, parent in trial.parents}
        assert not parents & {trial.hash for trial in pack}


def test_memory_of_relations_grows_with_the_cube_of_the_batch(monkeypatch: pytest.MonkeyPatch):
    """A batch of 512 images has 512^3 angles, so fewer replicas fit into one pack."""
    monkeypatch.setattr(gpus, "visible_gpus", tuple)
    network = {"type": "MLP", "params": {"layers_dim": 8, "hidden_layers_num": 2}}
    file = {"teacher_model": network, "student_model": network, "data": {"batch_size": 512}}
    file |= {"training_teacher": {"epochs": 1}, "training_student": {"epochs": 1}}
    relations, hints = (
        next(
            trial
            for trial in fathomlab.load({**file, "distillation": {"loss": {"type": loss}}}).trials
            if trial.teachers
        )
        for loss in ("RKD", "FitNet")
    )
    difference = training_bytes(relations.recipe) - training_bytes(hints.recipe)
    assert difference == pytest.approx(4 * 8 * 512**3)
    assert cost.max_pack_size(relations, "cuda") < 5 < cost.max_pack_size(hints, "cuda")
