"""Estimates the cost of trials: operations, memory, disk space, and time. Does not import torch."""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from statistics import median
from typing import Any

from fathomlab.models.architecture import Architecture, walk
from fathomlab.models.layers import Dropout
from fathomlab.plan import Trial
from fathomlab.plan.recipe import Recipe
from fathomlab.run import provenance

EAGER_RATE = 3e10
LAYER_SECONDS = 2.5e-5  # per step, layer, and trial of a pack: launching operations
COMPILED_SAVES = 0.2
LARGEST_PACK = {"cpu": 16, "cuda": 64}
WIDEST_CONVOLUTION = 32
NETS_AT_ONCE = 8
MEMORY_SHARE = 0.5
CUDA_BYTES = 2**34


def training_images(trial: Trial) -> int:
    """Images per epoch, without those held out for validation."""
    images, _ = trial.data.split_sizes
    return images - images % trial.data.batch_size if trial.data.drop_last else images


def flops(trial: Trial) -> float:
    """Floating-point operations of the products: 6 per multiply-accumulate and image in training, 2 in evaluation."""
    own, (images, held_out) = trial.recipe, trial.data.split_sizes
    training = 6.0 * own.architecture.macs * training_images(trial) * own.epochs
    evaluation = 2.0 * own.architecture.macs * (held_out * own.epochs + 2 * trial.data.info.test_examples)
    teaching = 2.0 * own.teacher.macs * (images + held_out) if own.teacher else 0.0
    return training + evaluation + teaching


def planned_seconds(trial: Trial) -> float:
    """Planned training time on one core (s): operations at the assumed rate, and a cost per layer and step."""
    architecture = trial.recipe.architecture
    steps = trial.recipe.epochs * -(-training_images(trial) // trial.recipe.batch_size)
    return flops(trial) / _assumed_rate(trial) + LAYER_SECONDS * steps * len(architecture.weight_layers)


def compiling_pays(recipes: Sequence[Recipe], images: int) -> bool:
    """Whether compiling the step of a pack saves more than twice the time that it takes.

    Measured (docs/performance.md): a compiled step of an MLP takes about 20% less time. Compiling takes about 4 s plus 0.5 s per
    weighted layer, once per pack. Convolutional networks gain nothing. Without a C++ compiler, packs run eagerly.
    """
    common = recipes[0]
    drops = any(isinstance(layer, Dropout) and layer.p for layer in walk(common.architecture.layers))
    if drops or common.architecture.convolutional or common.augment or not _compiler():
        return False  # compiled 64-bit integer code, which dropout needs, crashes (torch 2.13.0)
    work = 6.0 * common.architecture.macs * images * common.epochs * len(recipes)
    saved = COMPILED_SAVES * work / EAGER_RATE
    return saved > 2 * (4 + 0.5 * len(common.architecture.weight_layers))


def _assumed_rate(trial: Trial) -> float:
    """Operations per second and core: wide convolutions reached 1e11 when this was measured, narrow networks a third."""
    return 1e11 if _widest(trial.recipe.architecture) >= 256 else EAGER_RATE


def _widest(architecture: Architecture) -> int:
    """Channels of the widest convolution; 0 without convolutions."""
    return max((parameter.shape[0] for parameter in architecture.parameters() if len(parameter.shape) == 4), default=0)


@cache
def _compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "c++", "clang++"))


def runs_apart(architecture: Architecture) -> bool:
    """Whether the replicas of a pack run as separate networks: wide convolutions are slower in groups."""
    return _widest(architecture) >= WIDEST_CONVOLUTION


def pack_limit(trial: Trial, device: str = "cpu", workers: int = 1) -> int:
    """Maximum number of replicas of this trial in one pack.

    Memory contains weights, gradients, two moments, the best and the last finite weights, and the activations of a batch. The
    workers on a CPU share half of the memory. Wide networks gain nothing from packs on a CPU; a CUDA device runs several in
    parallel.
    """
    own = trial.recipe
    most = LARGEST_PACK[device]
    if runs_apart(own.architecture):
        most = NETS_AT_ONCE if device == "cuda" else 1
    room = CUDA_BYTES if device == "cuda" else int(MEMORY_SHARE * provenance.memory() / workers)
    size = 4 * (7 * own.architecture.num_params + 3 * own.architecture.activations * own.batch_size)
    return max(1, min(most, room // size))


def disk_bytes(groups: Sequence[Sequence[Trial]], workers: int) -> int:
    """Estimate the disk space that the packs need (bytes).

    Each trial stores its last and its best weights and its logs. Trials in training also have two checkpoints with six copies.
    """
    weights = [[4 * trial.recipe.architecture.num_params for trial in group] for group in groups]
    kept = sum(2 * size + 2**16 for group in weights for size in group)
    return kept + workers * max((12 * sum(group) for group in weights), default=0)


def rate(finished: Iterable[Mapping[str, Any]]) -> float | None:
    """Operations per second and core of finished trials: the median of `flops / seconds`; None without trials."""
    rates = [entry["flops"] / entry["seconds"] for entry in finished if entry["seconds"]]
    return median(rates) if rates else None


def estimate(trials: Sequence[Trial], measured: float | None, workers: int) -> dict[str, Any]:
    """Estimate the cost of training `trials`: operations, and seconds at the measured or the assumed rate."""
    each = [flops(trial) for trial in trials]
    total = sum(each)
    assumed = sum(work / _assumed_rate(trial) for work, trial in zip(each, trials, strict=True))
    seconds = (total / measured if measured else assumed) / max(1, min(workers, len(trials) or 1))
    basis = "based on similar trials" if measured else "based on default throughput"
    return {"flops": total, "seconds": round(seconds, 1), "workers": workers, "basis": basis}
