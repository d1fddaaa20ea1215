"""GPUs that are counted without torch: which ones training uses, with how many workers, and in which order."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.base.errors import UserError
from fathomlab.prepare import cost, gpus, machine
from fathomlab.prepare.gpus import Gpu
from fathomlab.prepare.jobs import Job, prepare_jobs
from fathomlab.prepare.memory import training_bytes
from fathomlab.prepare.packing import form_packs, worker_count
from fathomlab.store.checkpoints import SCHEMA, Checkpoint
from fathomlab.store.inventory import Inventory, TrialEntry, take_inventory

MLP = {"data": {"name": "mnist"}, "model": {"type": "MLP"}, "training": {"epochs": 1}}
EQUAL = ("GPU-aa1, NVIDIA H200, 1000, [N/A]", "GPU-aa2, NVIDIA H200, 800, Disabled", "GPU-b, NVIDIA H200, 1000, [N/A]")
MIXED = ("GPU-a, NVIDIA T400, 500, [N/A]", "GPU-b, NVIDIA H200, 1000, [N/A]", "GPU-c, NVIDIA H200, 1000, [N/A]")
DIVIDED = ("GPU-a, NVIDIA H200, 1000, Enabled", "GPU-b, NVIDIA H200, 1000, Enabled")


@pytest.fixture(autouse=True)
def _no_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A computer without GPUs, whatever this one has."""
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(gpus, "DRIVER_FOLDER", tmp_path / "driver")
    gpus.listed_gpus.cache_clear()
    yield
    gpus.listed_gpus.cache_clear()


def install(tmp_path: Path, lines: tuple[str, ...], status: int = 0) -> None:
    """Install a program that answers as nvidia-smi."""
    tool = tmp_path / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines) + f"exit {status}\n")
    tool.chmod(0o755)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two equal GPUs of 64 GiB."""
    monkeypatch.setattr(gpus, "visible_gpus", lambda: (Gpu("NVIDIA H200", 2**36),) * 2)


@pytest.mark.skipif(os.name != "posix", reason="the program is a shell script")
@pytest.mark.parametrize(
    ("lines", "visible", "order", "count", "mebibytes"),
    [
        (EQUAL, None, None, 3, 800),
        (EQUAL, "2,0", None, 2, 1000),
        (EQUAL, "GPU-aa1,GPU-b", None, 2, 1000),
        (EQUAL, "GPU-aa,GPU-b", None, 1, None),  # the start of two UUIDs
        (EQUAL, "0,7,1", None, 1, 1000),  # CUDA ignores the rest
        (EQUAL, "0,0", None, 1, None),
        (EQUAL, "", None, 1, None),
        (MIXED, None, None, 1, 500),
        (MIXED, "1,2", None, 1, 500),  # CUDA may count in another order
        (MIXED, "1,2", "PCI_BUS_ID", 2, 1000),
        (MIXED, "GPU-b,GPU-c", None, 2, 1000),
        (DIVIDED, None, None, 1, None),
        (DIVIDED, "MIG-1,MIG-2", None, 1, None),
        ((), "0,1", None, 2, None),
        ((), None, None, 1, None),
    ],
)
def test_gpus_are_those_that_cuda_shows(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lines: tuple[str, ...],
    visible: str | None,
    order: str | None,
    count: int,
    mebibytes: int | None,
):
    """`cuda` uses GPUs of one kind. Only their memory counts."""
    install(tmp_path, lines)
    for name, value in (("CUDA_VISIBLE_DEVICES", visible), ("CUDA_DEVICE_ORDER", order)):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert gpus.gpu_count("cuda") == count
    assert gpus.gpu_count("cuda:1") == 1
    assert gpus.gpu_count("cpu") == 0
    assert gpus.gpu_bytes() == (None if mebibytes is None else mebibytes * 2**20)


def test_driver_lists_gpus_if_no_tool_does(tmp_path: Path):
    """Without their memory."""
    install(tmp_path, EQUAL, status=9)
    for bus in ("0000:01:00.0", "0000:02:00.0"):
        folder = tmp_path / "driver" / bus
        folder.mkdir(parents=True)
        (folder / "information").write_text(
            f"Model: \t\t NVIDIA H200\nGPU UUID: \t GPU-{bus[6]}\nBus Location: {bus}\n"
        )
    assert gpus.visible_gpus() == (Gpu("NVIDIA H200", None, "GPU-1"), Gpu("NVIDIA H200", None, "GPU-2"))
    assert gpus.gpu_count("cuda") == 2


@pytest.mark.parametrize("name", ["tpu", "cuda:", "cuda:-1", "cuda:01", "cuda:1 ", "auto:1", "cpu:0", "CUDA"])
def test_check_device_rejects_other_names(name: str):
    with pytest.raises(UserError) as caught:
        gpus.check_device(name)
    assert caught.value.code == "invalid-option"
    assert [part for part in ("--device", "cuda:N", repr(name)) if part not in str(caught.value)] == []


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_check_device_accepts_numbers_of_gpus(name: str):
    gpus.check_device(name)
    assert name == "auto" or machine.guess_device(name) == name.split(":")[0]


def test_hidden_gpus_are_not_guessed(monkeypatch: pytest.MonkeyPatch):
    """`CUDA_VISIBLE_DEVICES=""` trains on the CPU, with a worker per core."""
    monkeypatch.setattr(machine, "versions", lambda: {"torch": "2.13.0+cu130"})
    monkeypatch.setattr(machine.os.path, "exists", lambda path: path == "/dev/nvidiactl")
    assert machine.guess_device("auto") == machine.guess_device("auto:1") == "cuda"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.guess_device("auto") == "cpu"


@pytest.mark.usefixtures("two_gpus")
def test_workers_are_spread_over_the_gpus():
    """One worker per GPU, as far as there are packs; more workers share the GPUs in turn."""
    assert [worker_count("auto", packs, "cuda") for packs in (0, 1, 2, 9)] == [1, 1, 2, 2]
    assert worker_count("auto", 9, "cuda:1") == 1
    assert worker_count(5, 9, "cuda") == 5
    assert [gpus.worker_device("cuda", slot) for slot in range(5)] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]
    assert [gpus.worker_device("cuda:1", slot) for slot in range(2)] == ["cuda:1"] * 2
    assert [gpus.worker_device("cpu", slot) for slot in range(2)] == ["cpu"] * 2


def test_single_gpus_have_no_number():
    assert gpus.worker_device("cuda", 3) == "cuda"


def test_pack_limit_depends_on_the_memory_of_the_gpu(monkeypatch: pytest.MonkeyPatch):
    """Half of it, shared by the workers of a GPU; 16 GiB if it is not known."""
    (trial, *_) = fathomlab.load(MLP, ["model.params.layers_dim=8192"]).trials
    needed = training_bytes(trial.recipe)
    assert cost.max_pack_size(trial, "cuda") == 2**34 // needed
    for size, workers, expected in ((2**36, 1, 2**35), (2**36, 2, 2**35), (2**36, 4, 2**34), (2**35, 2, 2**34)):
        monkeypatch.setattr(gpus, "visible_gpus", lambda size=size: (Gpu("A", size), Gpu("A", 2 * size)))
        assert cost.max_pack_size(trial, "cuda", workers) == expected // needed
    assert cost.max_pack_size(trial, "cuda:1", 2) == 2**33 // needed


@pytest.mark.usefixtures("two_gpus")
def test_packs_are_divided_for_several_gpus(tmp_path: Path):
    """If each of them has enough to do: a GPU needs much more work than a core."""
    for overrides, device, sizes in (
        (["training.epochs=50"], "cuda", [12]),
        (["training.epochs=5000"], "cuda", [6, 6]),
        (["training.epochs=5000"], "cuda:0", [12]),
        (["training.epochs=50"], "cpu", [6, 6]),
    ):
        plan = fathomlab.load(MLP, ["experiment.seeds=12", *overrides])
        workers = 1 if ":" in device else 2
        packs = form_packs(plan, plan.trials, take_inventory(tmp_path, plan.trials), device, workers)
        assert [len(pack) for pack in packs] == sizes


def depths(jobs: tuple[Job, ...]) -> list[int]:
    """The layers of each job's networks."""
    return [len(job.trials[0].recipe.architecture.weight_layers) for job in jobs]


def test_longest_jobs_start_first_with_several_workers(tmp_path: Path):
    """By predicted time. One worker keeps the order of the plan."""
    plan = fathomlab.load(MLP, ["seed=0..1", "model.params.hidden_layers_num=2,9,4", "run.pack=2"])
    inventory = take_inventory(tmp_path, plan.trials)
    planned = prepare_jobs(plan, plan.trials, inventory, "cpu", 1)
    spread = prepare_jobs(plan, plan.trials, inventory, "cpu", 2)
    layers = depths(planned)
    assert layers != sorted(layers, reverse=True)
    assert depths(spread) == sorted(layers, reverse=True)
    for job in spread:
        assert job.seconds == pytest.approx(sum(map(cost.planned_seconds, job.trials)))


def test_interrupted_jobs_have_the_time_that_is_left(tmp_path: Path):
    plan = fathomlab.load(MLP, ["seed=0..1", "training.epochs=4"])
    checkpoint = Checkpoint(SCHEMA, step=7, epoch=3, members=tuple(trial.hash for trial in plan.trials))
    entries = {trial.hash: TrialEntry(trial, "running", None, checkpoint) for trial in plan.trials}
    (job,) = prepare_jobs(plan, plan.trials, Inventory(tmp_path, entries, {}), "cpu", 1)
    assert job.seconds == pytest.approx(sum(map(cost.planned_seconds, plan.trials)) / 4)


def test_parents_come_before_longer_children(tmp_path: Path):
    file: dict[str, Any] = {
        "data": {"name": "mnist-sample"},
        "teacher_model": {"type": "MLP", "params": {"layers_dim": 4}},
        "student_model": {"type": "MLP", "params": {"layers_dim": 512, "hidden_layers_num": 5}},
        "training_teacher": {"epochs": 1},
        "training_student": {"epochs": 9},
    }
    plan = fathomlab.load(file, ["experiment.seeds=1"])
    jobs = prepare_jobs(plan, plan.trials, take_inventory(tmp_path, plan.trials), "cpu", 2)
    waiting = [bool(job.trials[0].parents) for job in jobs]
    assert waiting == sorted(waiting)
    assert max(job.seconds for job in jobs) == next(job for job in jobs if job.trials[0].parents).seconds
    assert [job.seconds for job in jobs[:2]] == sorted((job.seconds for job in jobs[:2]), reverse=True)
