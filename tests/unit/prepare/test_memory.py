"""Predicted memory: its parts against closed forms and against what torch keeps, and warnings."""

import ctypes
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import fathomlab
from benchmarks.memory import CASES, compare
from fathomlab.engine.backends.lanes import EVALUATED, listing_of
from fathomlab.engine.initializers import init_params
from fathomlab.engine.lanes import Program
from fathomlab.engine.network import PackedNetwork
from fathomlab.execute.events import Event, Warned
from fathomlab.execute.experiment import RunOptions, run_experiment
from fathomlab.execute.signals import StopRequest
from fathomlab.models.architecture import Architecture, walk
from fathomlab.models.layers import BatchNorm
from fathomlab.optim.adam import Adam
from fathomlab.optim.rmsprop import RMSprop
from fathomlab.optim.sgd import SGD
from fathomlab.plan import Trial
from fathomlab.prepare import machine, memory
from fathomlab.prepare.memory import (
    dataset_bytes,
    evaluation_bytes,
    lanes_bytes,
    native_bytes,
    optimizer_copies,
    predict_memory,
    probe_bytes,
    state_bytes,
    step_bytes,
    table_bytes,
    training_bytes,
    worker_bytes,
)
from tests.helpers.commands import command_in_process

WIDTH, DEPTH, BATCH = 32, 3, 16
PARAMETERS = 784 * WIDTH + WIDTH + DEPTH * (WIDTH * WIDTH + WIDTH) + 10 * WIDTH + 10


def mlp(**options: Any) -> dict[str, Any]:
    """An experiment with one MLP."""
    network = {"layers_dim": WIDTH, "hidden_layers_num": DEPTH, "batch_norm": False, **options}
    data = {"name": "mnist-sample", "batch_size": BATCH, "limit": 100, "validation_split": 20}
    return {"data": data, "model": {"type": "MLP", "params": network}, "training": {"epochs": 1}}


def cnn(**options: Any) -> dict[str, Any]:
    """An experiment with one narrow CNN."""
    network = {"layers": [1, 2, 1, 1], "width": 4, **options}
    data = {"name": "shapes", "batch_size": 4, "limit": 100}
    return {"data": data, "model": {"type": "CNN", "params": network}, "training": {"epochs": 1}}


def tensors_of(program: Program) -> list[Tensor]:
    """All that a program allocates."""
    kept = [each for each in vars(program)["_kept"] if isinstance(each, Tensor)]
    return [*vars(program)["_maps"], *vars(program)["_gradients"], *kept]


def first_trial(source: dict[str, Any]) -> Trial:
    """The first trial of an experiment."""
    return fathomlab.load(source).trials[0]


def numbers_kept(architecture: Architecture, images: int) -> float:
    """What torch keeps per image for the gradients of a forward pass, in float32 numbers, without parameters and statistics."""
    parameters = {
        name: value.float().unsqueeze(0).requires_grad_() for name, value in init_params(architecture, 0).items()
    }
    network = PackedNetwork([architecture])
    buffers = network.buffers(torch.float32, "cpu")
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(parameters, buffers, torch.rand(1, images, *architecture.shape), "train")
    own = {value.untyped_storage().data_ptr() for value in (*parameters.values(), *buffers.values())}
    return sum(tensor.nbytes for address, tensor in kept.items() if address not in own) / 4 / images


@pytest.mark.parametrize(
    "source",
    [
        mlp(),
        mlp(residual=True),
        mlp(batch_norm=True),
        mlp(batch_norm=True, residual=True),
        mlp(activation="GELU"),
        mlp(activation="Tanh", residual=True),
        cnn(residual=False),
        cnn(residual=True),
    ],
)
def test_activations_are_what_torch_keeps(source: dict[str, Any]) -> None:
    """Up to statistics of batch normalization, whose number does not depend on the images."""
    architecture = first_trial(source).recipe.architecture
    assert numbers_kept(architecture, 64) == pytest.approx(architecture.activations, rel=0.02)


@pytest.mark.parametrize(
    ("optimizer", "copies"),
    [
        (Adam(), 2),
        (Adam(amsgrad=True), 3),
        (SGD(), 0),
        (SGD(momentum=0.9), 1),
        (RMSprop(), 1),
        (RMSprop(centered=True, momentum=0.5), 3),
    ],
)
def test_state_has_the_copies_of_the_optimizer(optimizer: Any, copies: int) -> None:
    """Weights, best weights, last finite weights, and one copy per entry of the optimizer's state."""
    recipe = replace(first_trial(mlp()).recipe, optimizer=optimizer)
    assert recipe.architecture.num_params == PARAMETERS
    assert optimizer_copies(recipe) == copies
    assert state_bytes(recipe) == 4 * (3 + copies) * PARAMETERS
    assert state_bytes(replace(recipe, precision="fp64")) == 8 * (3 + copies) * PARAMETERS


def test_step_of_an_mlp_in_closed_form() -> None:
    """Inputs and ReLU outputs are kept, two of the widest outputs are live, and every parameter has a gradient."""
    trial = first_trial(mlp())
    kept = 784 + (DEPTH + 1) * WIDTH
    assert step_bytes(trial.recipe) == 4 * (BATCH * (kept + 2 * 784) + PARAMETERS)
    assert training_bytes(trial.recipe) == state_bytes(trial.recipe) + step_bytes(trial.recipe)
    outputs = (DEPTH + 1) * WIDTH + 10
    assert native_bytes(trial.recipe) == 4 * (BATCH * (784 + 2 * outputs + 3 * WIDTH) + 3 * 784 * WIDTH)


def test_images_count_once_per_machine() -> None:
    """They are uint8. A second worker adds its own memory, and nothing that is shared."""
    trial = first_trial(mlp())
    assert dataset_bytes(trial) == 5_000 * (28 * 28 + 8)
    packs = [([trial], "reference"), ([trial] * 4, "reference"), ([trial] * 2, "reference")]
    one, two = predict_memory(packs, 1), predict_memory(packs, 2)
    sizes = [worker_bytes(trials, backend) for trials, backend in packs]
    assert one.worker_bytes == two.worker_bytes == sizes[1]
    assert two.peak_bytes - one.peak_bytes == sizes[2]
    assert one.shared_bytes == two.shared_bytes == memory.LIBRARY_BYTES + dataset_bytes(trial)
    assert one.peak_bytes == one.coordinator_bytes + one.worker_bytes + one.shared_bytes


def test_native_backend_needs_scratch_memory_of_one_replica() -> None:
    """A wide pack has one state per replica, but the activations of one."""
    trial = first_trial({**mlp(layers_dim=64), "data": {"name": "mnist-sample", "batch_size": 4000, "limit": 4000}})
    sizes = {backend: worker_bytes([trial] * 16, backend) for backend in ("native", "reference")}
    assert sizes["reference"] - sizes["native"] > 10 * (step_bytes(trial.recipe) - 4 * trial.recipe.num_trained)


def test_large_outputs_of_an_evaluation_are_added() -> None:
    """malloc maps blocks of 64 MB; smaller ones reuse the memory of a step."""
    narrow, wide = (first_trial(cnn(width=width)) for width in (31, 32))  # 512 x 32 x 32 x 32 numbers are 64 MB
    assert evaluation_bytes(wide.recipe) == 3 * memory.MAPPED_BYTES
    fixed = memory.WORKER_BYTES + memory.CONVOLUTION_BYTES + memory.INDEX_BYTES * 100
    images = 512 * 3 * 32 * 32 * 4
    for trial, added in ((narrow, 0), (wide, step_bytes(wide.recipe))):
        size = fixed + state_bytes(trial.recipe) + evaluation_bytes(trial.recipe) + images + added
        assert worker_bytes([trial], "reference") == size


def test_native_cnns_need_the_step_of_the_reference() -> None:
    """Only batch norm of maps is in the library. Replicas are trained and evaluated one after the other."""
    source = {**cnn(width=32), "data": {"name": "shapes", "batch_size": 1500, "limit": 1500}}
    trial = first_trial(source)
    sizes = {backend: worker_bytes([trial], backend) for backend in ("native", "reference")}
    assert sizes["native"] == sizes["reference"] > step_bytes(trial.recipe)
    assert worker_bytes([trial] * 4, "native") < worker_bytes([trial] * 4, "reference")


@pytest.mark.parametrize(
    "options", [{}, {"stem": "plain"}, {"residual": False}, {"block_type": "bottleneck", "width": 2}]
)
def test_programs_of_narrow_cnns_have_the_predicted_size(options: dict[str, Any]) -> None:
    """Maps, gradients that share memory, and positions of maxima."""
    recipe = first_trial({**cnn(**options), "data": {"name": "shapes", "batch_size": 32, "limit": 100}}).recipe
    listing = listing_of(recipe)
    assert listing is not None
    training = Program(ctypes.CDLL(None), listing, 48, 1, torch.empty(0), inner=False)
    evaluation = Program(ctypes.CDLL(None), listing, EVALUATED, 1, torch.empty(0), inner=None)
    tensors = [*tensors_of(training), *tensors_of(evaluation)]
    sizes = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    statistics = 2 * sum(layer.features for layer in walk(recipe.architecture.layers) if isinstance(layer, BatchNorm))
    assert sum(sizes.values()) == lanes_bytes(recipe, 48) + 2 * 4 * statistics


def test_native_replicas_in_groups_need_the_memory_of_all() -> None:
    """The programs of narrow CNNs stay in memory during an evaluation. Those whose options differ run one by one.

    The last batch has 16 of 80 images, with a program of its own, or 6 of 70, which do not fill the vectors.
    """
    for width, validation_split, images_of_programs in ((2, 20, 48), (4, 20, 48), (4, 30, 32)):
        data = {"name": "shapes", "batch_size": 32, "limit": 100, "validation_split": validation_split}
        trial = first_trial({**cnn(width=width), "data": data})
        other = first_trial({**cnn(width=width, batch_norm_eps=0.1), "data": data})
        one, four, mixed = (
            worker_bytes(pack, "native") for pack in ([trial], [trial] * 4, [trial, trial, other, other])
        )
        images = 512 * 3 * 32 * 32 * 4
        each = state_bytes(trial.recipe) + memory.INDEX_BYTES * 100 + images
        kept = lanes_bytes(trial.recipe, images_of_programs)
        assert four - one == 3 * (each + kept + images)
        assert mixed - one == 3 * (each + images) + kept
        assert one == worker_bytes([trial], "reference") + kept + images - evaluation_bytes(trial.recipe)


def test_cached_files_of_the_control_group_are_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are part of its usage, but are freed for processes; files in memory (shmem) are not."""
    monkeypatch.setattr(machine, "CGROUP", str(tmp_path))
    monkeypatch.setattr(machine, "MEMINFO", str(tmp_path / "missing"))
    monkeypatch.setattr(machine, "memory", lambda: 1000)
    assert machine.available_memory() == 1000
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 100\nfile 800\nshmem 100\ninactive_file 500\nactive_file 200\n")
    assert machine.available_memory() == 800


def test_probes_and_teachers_are_part_of_it() -> None:
    """A probe in float64 needs more; students need the weights and the stored outputs of their teachers."""
    probes = {"gradients": {"examples": 4, "float64": True}}
    trial = first_trial({**mlp(), "experiment": {"probes": probes}})
    kept = trial.recipe.architecture.activations + (DEPTH + 1) * WIDTH + 2 * 784  # with the gradients of all points
    assert probe_bytes(trial.recipe, trial.probes[0].component) == 8 * (4 * kept + 2 * PARAMETERS)
    many = first_trial({**mlp(layers_dim=512), "experiment": {"probes": probes}})
    without = replace(many, probes=())
    assert worker_bytes([many] * 16, "native") > worker_bytes([without] * 16, "native") + 16 * 8 * 512**2
    network = mlp()["model"]
    file = {"teacher_model": network, "student_model": network, "data": mlp()["data"]}
    file |= {"training_teacher": {"epochs": 1}, "training_student": {"epochs": 1}}
    student = next(trial for trial in fathomlab.load(file).trials if trial.teachers)
    assert state_bytes(student.recipe) == 4 * 6 * PARAMETERS
    assert table_bytes([student]) == 4 * 100 * 10 * (1 + memory.READ_COPIES)
    assert table_bytes([student] * 3) == table_bytes([student])


def test_plan_predicts_the_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """More workers need more."""
    command = command_in_process(capsys)
    options = ["plan", "1_2", "--quick", "--device", "cpu", "--runs", str(tmp_path), "--json"]
    outputs = [command(*options, "--workers", workers) for workers in ("1", "2")]
    one, two = (json.loads(output.out)["memory"] for output in outputs)
    assert one["coordinator_bytes"] + one["worker_bytes"] + one["shared_bytes"] == one["peak_bytes"]
    assert two["peak_bytes"] > one["peak_bytes"]
    assert two["available_bytes"] > 0


def test_run_warns_if_memory_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that names the amounts and the options; the run goes on."""
    events: list[Event] = []
    plan = fathomlab.load(mlp())
    for available, warnings in ((2**20, 1), (2**40, 0)):
        monkeypatch.setattr(memory, "available_memory", lambda: available)  # noqa: B023
        events.clear()
        runs = tmp_path / str(available)
        run_experiment(plan, runs, RunOptions(device="cpu"), events.append, StopRequest())
        texts = [event.text for event in events if isinstance(event, Warned)]
        assert len([text for text in texts if "--workers" in text and "1.0 MB" in text]) == warnings


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs /proc/PID/smaps_rollup")
@pytest.mark.parametrize("source", ["1_2 --quick", "1_3"])
def test_prediction_is_within_30_percent_of_the_peak(tmp_path: Path, source: str) -> None:
    """A run of packs of MLPs, and one of wide CNNs, with two workers."""
    predicted, measured = compare(source, CASES[source], 2, tmp_path)
    assert predicted == pytest.approx(measured, rel=0.3)
