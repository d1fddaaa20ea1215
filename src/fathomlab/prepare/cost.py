"""Estimates the cost of trials: operations, memory, disk space, and time. Does not import torch."""

from collections.abc import Container, Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from fathomlab.base.errors import UserError
from fathomlab.engine.backends import lanes
from fathomlab.models.architecture import Architecture
from fathomlab.models.trace import VECTORIZED_MACS
from fathomlab.plan import Trial
from fathomlab.plan.recipe import Recipe
from fathomlab.prepare import gpus, machine, memory
from fathomlab.store.inventory import Inventory

EAGER_RATE = 3e10
NATIVE_RATE = 8e10  # of MLPs; docs/explanation/performance.md
LAYER_SECONDS = 2.5e-5  # per step, layer, and trial of a pack: launching operations
MAX_PACK_SIZE = {"cpu": 16, "cuda": 64}
WIDEST_CONVOLUTION = 32
NETS_AT_ONCE = 8
MEMORY_SHARE = 0.5
CUDA_BYTES = 2**34  # for packs on a GPU whose memory is not known
CUDA_SPEEDUP = 100.0  # a GPU in cores, assumed for packs with much work
TABLE_COPIES = 4  # of a table in memory while it is written
MAX_SIMILAR = 50  # finished trials whose time is compared with the plan


def training_images(trial: Trial) -> int:
    """Images per epoch, without those held out for validation."""
    return trial.data.images_per_epoch


def flops(trial: Trial) -> float:
    """Floating-point operations of the products: 6 per multiply-accumulate and image in training, 2 in evaluation.

    The table of all views is not included, because students share it; see `tables`.
    """
    recipe, (images, held_out) = trial.recipe, trial.data.split_sizes
    training = 6.0 * recipe.architecture.macs * training_images(trial) * recipe.epochs
    evaluation = 2.0 * recipe.architecture.macs * (held_out * recipe.epochs + 2 * trial.data.info.test_examples)
    stored = (images + held_out) * (1 + (recipe.table_views == 1))
    in_every_step = recipe.runs_teachers or "teacher.features" in recipe.loss.needs
    computed = training_images(trial) * recipe.epochs * in_every_step
    return training + evaluation + 2.0 * sum(teacher.macs for teacher in recipe.teachers) * (stored + computed)


@dataclass(frozen=True)
class ViewTables:
    """The tables of teachers' outputs for all views of the images that trials share.

    Attributes:
        flops: Operations to compute them.
        bytes: Their size on disk and in memory.
    """

    flops: float
    bytes: int


def tables(trials: Iterable[Trial]) -> ViewTables:
    """The cost of the tables of all views that trials need, each table once."""
    needed: dict[Hashable, tuple[float, int]] = {}
    for trial in trials:
        recipe, views = trial.recipe, trial.recipe.table_views
        if views < 2:
            continue
        outputs = views * sum(trial.data.split_sizes)
        for teacher in trial.teachers:
            macs, classes = teacher.recipe.architecture.macs, teacher.recipe.architecture.classes
            key = teacher.hash, recipe.data, recipe.limit, recipe.augment, recipe.precision == "fp64"
            needed[key] = 2.0 * macs * outputs, memory.TABLE_NUMBER_BYTES * classes * outputs
    return ViewTables(sum(work for work, _ in needed.values()), sum(size for _, size in needed.values()))


def check_memory(trials: Iterable[Trial]) -> None:
    """Check that the tables of all views of each trial fit into the memory while they are written.

    Raises:
        UserError: If those of a trial do not.
    """
    for trial in trials:
        needed, available = TABLE_COPIES * tables([trial]).bytes, machine.memory()
        if needed > available:
            text = f"the table of all views needs about {needed / 1e9:.1f} GB of memory; {available / 1e9:.1f} GB are available"
            raise UserError("too-large", f"distillation.targets: {text}. Use on_the_fly, or decrease data.limit.")


def planned_seconds(trial: Trial) -> float:
    """Planned training time on one core (s): operations at the assumed rate, and a cost per layer and step."""
    architecture = trial.recipe.architecture
    steps = trial.recipe.epochs * -(-training_images(trial) // trial.recipe.batch_size)
    return flops(trial) / _assumed_rate(trial) + LAYER_SECONDS * steps * len(architecture.weight_layers)


def expected_seconds(trials: Sequence[Trial], inventory: Inventory) -> tuple[dict[str, float], bool]:
    """Training time of each trial to train on one core (s) by hash, and whether it is based on times of finished trials.

    With such times it is the median of finished trials of the same cost, else the planned time times measured over planned time.

    Args:
        trials: The trials of a plan.
        inventory: What the store has of them.
    """
    pending = inventory.pending(trials)
    planned, todo = {trial.hash: planned_seconds(trial) for trial in pending}, {trial.hash for trial in pending}
    times: dict[float, list[float]] = {}
    for trial in [trial for trial in trials if todo and trial.hash not in todo][:MAX_SIMILAR]:
        if seconds := inventory.trials[trial.hash].seconds:
            times.setdefault(planned_seconds(trial), []).append(seconds)
    if not times:
        return planned, False
    scale = median(seconds / work for work, values in times.items() for seconds in values)
    return {trial: median(times.get(work, [work * scale])) for trial, work in planned.items()}, True


def _assumed_rate(trial: Trial, native: bool = False) -> float:
    """Operations per second and core: wide convolutions reached 1e11 when this was measured, narrow networks a third."""
    widest = _widest(trial.recipe.architecture)
    return 1e11 if widest >= 256 else NATIVE_RATE if native and not widest else EAGER_RATE


def _widest(architecture: Architecture) -> int:
    """Channels of the widest convolution; 0 without convolutions."""
    return max((parameter.shape[0] for parameter in architecture.parameters() if len(parameter.shape) == 4), default=0)


def should_separate_replicas(architecture: Architecture) -> bool:
    """Whether the replicas of a pack run as separate networks: wide convolutions are slower in groups."""
    return _widest(architecture) >= WIDEST_CONVOLUTION


def max_pack_size(trial: Trial, device: str = "cpu", workers: int = 1) -> int:
    """Maximum number of replicas of this trial in one pack.

    Memory contains the state of a replica and a step of the reference; see `memory`. Wide networks gain nothing from packs on a
    CPU, unless the native backend computes all of their maps; a CUDA device runs several in parallel. Users' modules are packed
    if they permit it and are small.
    """
    kind = machine.guess_device(device)
    recipe, limit = trial.recipe, MAX_PACK_SIZE[kind]
    if recipe.architecture.opaque is not None and not _packs_pay(recipe):
        return 1
    if should_separate_replicas(recipe.architecture):
        if kind == "cuda":
            limit = NETS_AT_ONCE
        elif not lanes.supports(recipe):
            limit = 1
    return max(1, min(limit, _pack_bytes(device, workers) // (memory.training_bytes(recipe) + tables([trial]).bytes)))


def _pack_bytes(device: str, workers: int) -> int:
    """Memory for one pack: half of the memory of a GPU, or of the computer, divided by the workers that share it."""
    if machine.guess_device(device) != "cuda":
        return int(MEMORY_SHARE * machine.memory() / workers)
    total, sharing = gpus.gpu_bytes(), -(-workers // gpus.gpu_count(device))
    return (CUDA_BYTES if total is None else int(MEMORY_SHARE * total)) // sharing


def _packs_pay(recipe: Recipe) -> bool:
    """Whether a pack of a user's module is faster than its replicas alone; measured in LOG.md, 2026-11-28."""
    architecture = recipe.architecture
    return architecture.macs * recipe.batch_size <= VECTORIZED_MACS and architecture.packable


def disk_bytes(packs: Sequence[Sequence[Trial]], workers: int) -> int:
    """Estimate the disk space that the packs need (bytes).

    Each trial stores its last and its best weights and its logs. Trials in training also have two checkpoints with six copies.
    Students of one teacher share a table of its outputs for all views.
    """
    weights = [[4 * trial.recipe.architecture.num_params for trial in pack] for pack in packs]
    stored = sum(2 * size + 2**16 for pack in weights for size in pack)
    shared = tables(trial for pack in packs for trial in pack).bytes
    return stored + shared + workers * max((12 * sum(pack) for pack in weights), default=0)


def measured_rate(finished: Iterable[tuple[float, float | None]]) -> float | None:
    """Operations per second and core: the median over the operations and seconds of finished trials; None without trials."""
    rates = [work / seconds for work, seconds in finished if seconds]
    return median(rates) if rates else None


@dataclass(frozen=True)
class Estimate:
    """The cost of training.

    Attributes:
        flops: Operations.
        seconds: Time on `workers` (s).
        workers: Number of workers.
        basis: Where the operations per second come from.
    """

    flops: float
    seconds: float
    workers: int
    basis: str


def divisible_seconds(pack: Sequence[Trial], device: str) -> float:
    """Time of a pack on one core or GPU that two halves of it would share (s). A GPU's cost per launch is not included."""
    seconds = estimate(pack, None, 1).seconds
    return seconds / CUDA_SPEEDUP if machine.guess_device(device) == "cuda" else seconds


def estimate(
    trials: Sequence[Trial], rate: float | None, workers: int, native: Container[str] = frozenset()
) -> Estimate:
    """Estimate the cost of training `trials` at the measured rate (operations per second), or at the assumed one if None.

    `native` contains the hashes of the trials that the native backend will train.
    """
    operations = [flops(trial) for trial in trials]
    shared = tables(trials).flops
    total = sum(operations) + shared
    assumed = shared / EAGER_RATE + sum(
        work / _assumed_rate(trial, trial.hash in native) for work, trial in zip(operations, trials, strict=True)
    )
    seconds = (total / rate if rate else assumed) / max(1, min(workers, len(trials) or 1))
    basis = "based on similar trials" if rate else "based on default throughput"
    return Estimate(total, round(seconds, 1), workers, basis)
