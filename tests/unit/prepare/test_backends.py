"""Which backend a pack gets: by its checkpoint, by request, or by what pays."""

from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.base.errors import UserError
from fathomlab.engine.backends import BACKENDS, Machine
from fathomlab.prepare.backends import choose_backend, requested_backend, supports_native
from fathomlab.prepare.jobs import prepare_jobs
from fathomlab.prepare.machine import has_compiler
from fathomlab.store.checkpoints import SCHEMA, Checkpoint
from fathomlab.store.inventory import Inventory, TrialEntry, take_inventory

MLP = {"data": {"name": "mnist"}, "model": {"type": "MLP"}, "training": {"epochs": 1}}
CNN = {"data": {"name": "cifar-10"}, "model": {"type": "CNN", "params": {"width": 8}}, "training": {"epochs": 1}}
SEEDS = ("experiment.seeds=16", "model.params.hidden_layers_num=10")
CPU, NO_COMPILER, CUDA = Machine("cpu", True), Machine("cpu"), Machine("cuda", True)


def chosen(root: Path, machine: Machine, *overrides: str, requested: str = "auto", source: Any = MLP) -> str:
    """The backend of all trials of a plan as one pack."""
    plan = fathomlab.load(source, [*(SEEDS if source is MLP else ()), *overrides])
    return choose_backend(plan.trials, take_inventory(root, plan.trials), requested, machine)


def test_auto_uses_the_native_step_for_mlps_on_a_cpu(tmp_path: Path):
    """Not for dropout, or without a compiler."""
    assert chosen(tmp_path, CPU) == "native"
    assert chosen(tmp_path, CPU, "data.augment=crop") == "native"
    assert chosen(tmp_path, NO_COMPILER) == "reference"
    assert chosen(tmp_path, CPU, "model.params.dropout=0.1") == "reference"


def test_auto_precision_keeps_the_native_step(tmp_path: Path):
    """It means fp32 there. bf16 needs the reference."""
    for precision, backend in (("auto", "native"), ("bf16", "reference")):
        change = f"training.precision={precision}"
        assert chosen(tmp_path, CPU, change) == backend
        assert supports_native(fathomlab.load(MLP, [change]), CPU) == (backend == "native")
    assert chosen(tmp_path, CPU, "training.precision=auto", requested="native") == "native"
    assert chosen(tmp_path, CPU, "training.precision=auto", "model.params.dropout=0.1") == "reference"


def test_auto_uses_native_maps_for_cnns_on_a_cpu(tmp_path: Path):
    """For any loss, optimizer, and precision; with few channels, for what images as lanes of vectors support."""
    for changes in ((), ("training.precision=bf16",), ("training.optimizer=RMSprop",), ("training.gradient_clip=1",)):
        assert chosen(tmp_path, CPU, *changes, source=CNN) == "native"
    assert chosen(tmp_path, NO_COMPILER, source=CNN) == "reference"
    for precision, batch_size, native in (("fp32", 128, True), ("bf16", 128, False), ("fp32", 100, False)):
        changes = f"training.precision={precision}", f"data.batch_size={batch_size}"
        assert chosen(tmp_path, CPU, "model.params.width=2", *changes, source=CNN) == (
            "native" if native else "reference"
        )
        assert supports_native(fathomlab.load(CNN, ["model.params.width=2,16", *changes]), CPU) == native


def test_conditions_of_a_plan_have_one_backend(tmp_path: Path):
    """A condition that the native backend cannot train keeps the others from using it, so that no claim compares backends."""
    for dropout, backend in (("0.1,0.2", "reference"), ("0,0.1", "reference"), ("0", "native")):
        plan = fathomlab.load(MLP, [f"model.params.dropout={dropout}"])
        assert supports_native(plan, CPU) == (backend == "native")
        jobs = prepare_jobs(plan, plan.trials, take_inventory(tmp_path, plan.trials), "cpu", 1)
        assert {job.backend for job in jobs} == {backend if has_compiler() else "reference"}


def test_auto_uses_graphs_on_a_cuda_device(tmp_path: Path):
    assert chosen(tmp_path, CUDA) == "graph"
    assert chosen(tmp_path, CUDA, "training.epochs=50") == "graph"


def test_choose_backend_uses_or_rejects_the_request(tmp_path: Path):
    assert chosen(tmp_path, CPU, requested="native") == "native"
    assert chosen(tmp_path, CUDA, requested="reference") == "reference"
    for machine, requested in ((CPU, "graph"), (NO_COMPILER, "native"), (CUDA, "native")):
        with pytest.raises(UserError, match=f"run.backend={requested}") as caught:
            chosen(tmp_path, machine, requested=requested)
        assert caught.value.code == "backend-refused"


def test_checkpoint_decides_before_the_request(tmp_path: Path):
    """Even for a backend that is refused here: `--allow-drift` resumes on another device."""
    trials = fathomlab.load(MLP).trials
    entries = {
        trial.hash: TrialEntry(trial, "running", None, Checkpoint(SCHEMA, 7, backend="graph")) for trial in trials
    }
    for requested in ("auto", "reference"):
        assert choose_backend(trials, Inventory(tmp_path, entries, {}), requested, CPU) == "graph"
    entries = {trial.hash: TrialEntry(trial, "running", None, Checkpoint(0, 7)) for trial in trials}
    assert choose_backend(trials, Inventory(tmp_path, entries, {}), "auto", CUDA) == "graph"
    assert choose_backend(trials, Inventory(tmp_path, entries, {}), "auto", NO_COMPILER) == "reference"


@pytest.mark.parametrize("name", ["auto", *BACKENDS])
def test_requested_backend_returns_known_names(name: str):
    assert requested_backend(fathomlab.load(MLP, [f"run.backend={name}"])) == name


def test_requested_backend_rejects_unknown_names():
    with pytest.raises(UserError, match=r"'graphs'.*'graph'") as caught:
        requested_backend(fathomlab.load(MLP, ["run.backend=graphs"]))
    assert caught.value.code == "unknown-name"
    assert requested_backend(fathomlab.load(MLP)) == "auto"


@pytest.mark.parametrize(("overrides", "may_fall_back"), [([], True), (["run.backend=reference"], False)])
def test_jobs_carry_their_backend(tmp_path: Path, overrides: list[str], may_fall_back: bool):
    """Only a backend that was not requested may be replaced."""
    plan = fathomlab.load(MLP, overrides)
    (job,) = prepare_jobs(plan, plan.trials, take_inventory(tmp_path, plan.trials), "cpu", 1)
    expected = "native" if may_fall_back and has_compiler() else "reference"
    assert (job.backend, job.may_fall_back) == (expected, may_fall_back)


def test_requested_native_backend_must_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Before anything is trained or recorded as failed."""

    def fail(real: str, source: object) -> None:
        raise UserError("backend-failed", "g++ cannot build it")

    monkeypatch.setattr("fathomlab.prepare.backends.load_library", fail)
    monkeypatch.setattr("fathomlab.prepare.machine.find_compiler", lambda: "g++")
    small = {"data": {"name": "mnist-sample", "limit": 100}, "model": {"type": "MLP"}, "training": {"epochs": 1}}
    with pytest.raises(UserError, match=r"run\.backend=native") as caught:
        fathomlab.run(small, "run.backend=native", runs=tmp_path, progress="off")
    assert caught.value.code == "backend-failed"
    assert not list((tmp_path / "trials").iterdir())
