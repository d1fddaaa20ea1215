"""Predicts the memory of training on a CPU. Does not import torch.

A replica needs memory for its state as long as its pack is trained, and for the largest of the computations that follow each
other: a step, an evaluation, a probe, and the results. Images are in memory once per machine. The constants were measured;
`python -m benchmarks.memory` compares predictions with whole runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from fathomlab.base.labels import format_bytes
from fathomlab.config.plugins import plugin_of
from fathomlab.engine.backends import lanes
from fathomlab.engine.backends.dense import dense_layers
from fathomlab.models.architecture import Architecture
from fathomlab.plan import Trial
from fathomlab.plan.recipe import Recipe
from fathomlab.prepare.machine import available_memory

COORDINATOR_BYTES = 45 * 10**6  # a run without torch, and its plan
WORKER_BYTES = 170 * 10**6  # Python and torch, without the pages of libraries
LIBRARY_BYTES = 120 * 10**6  # pages of libraries that all processes share
KERNEL_BYTES = 45 * 10**6  # of the library for convolutions: its pages
CONVOLUTION_BYTES = 45 * 10**6  # per worker: code that it generates, and the layouts of weights
CACHED_DATASETS = 2  # of a worker
WEIGHT_COPIES = 3  # in training, the best ones, and the last finite ones
OPTIMIZER_COPIES = 2  # of a plugin's optimizer, assumed
EVALUATION_BATCH = 512
OUTPUT_BYTES = 40  # per test image and class: outputs, and probabilities in float64
INDEX_BYTES = 56  # per replica and training image: its index, the order of an epoch, and what sorting needs
LIVE_OUTPUTS = 3  # of layers at a time, without gradients: the input of a block, and input and output of a layer
MAPPED_BYTES = 2**26  # a tensor of this size does not use memory that others have left; see the settings of workers
READ_COPIES = 4  # of a table, while its file is verified
TABLE_NUMBER_BYTES = 2  # half precision
NUMBER_BYTES = {"fp64": 8}


@dataclass(frozen=True)
class MemoryPlan:
    """The predicted peak of the memory of a run on this machine (bytes).

    Attributes:
        peak_bytes: All processes together.
        coordinator_bytes: The process of the command.
        worker_bytes: The largest worker, without what all workers share.
        shared_bytes: Libraries and images, of which a machine has one copy.
    """

    peak_bytes: int
    coordinator_bytes: int
    worker_bytes: int
    shared_bytes: int


def predict_memory(packs: Sequence[tuple[Sequence[Trial], str]], workers: int) -> MemoryPlan:
    """Predict the peak of a run: its largest packs at the same time.

    Args:
        packs: The trials of each pack, and its backend.
        workers: Number of packs that are trained at the same time.
    """
    largest = sorted((worker_bytes(trials, backend) for trials, backend in packs), reverse=True)[:workers]
    convolutional = any(trials[0].recipe.architecture.convolutional for trials, _ in packs)
    datasets = {trials[0].data.component: dataset_bytes(trials[0]) for trials, _ in packs}
    images = sum(sorted(datasets.values(), reverse=True)[:CACHED_DATASETS])
    shared = LIBRARY_BYTES + KERNEL_BYTES * convolutional + images
    return MemoryPlan(COORDINATOR_BYTES + sum(largest) + shared, COORDINATOR_BYTES, max(largest, default=0), shared)


def memory_notice(planned: MemoryPlan) -> str:
    """What to do if a run needs more memory than this machine has left; `""` if it has enough."""
    available = available_memory()
    if planned.peak_bytes <= available:
        return ""
    needed, left = format_bytes(planned.peak_bytes), format_bytes(available)
    return f"The run needs about {needed} of memory; {left} are available. Use fewer --workers, or a smaller run.pack."


def dataset_bytes(trial: Trial) -> int:
    """Size of the images and labels of a trial: uint8, or float32 that are used as given."""
    info = trial.data.info
    image = info.channels * info.height * info.width * (1 if info.is_normalized else 4)
    return (info.train_examples + info.test_examples) * (image + 8)


def worker_bytes(trials: Sequence[Trial], backend: str) -> int:
    """Peak of a worker that trains a pack, without what it shares with other processes."""
    trial = max(trials, key=lambda each: each.recipe.architecture.activations)  # a shortcut may vary inside a pack
    recipe, replicas = trial.recipe, len(trials)
    # A smaller last batch has a program, too, if it fills the vectors.
    last = trial.data.images_per_epoch % recipe.batch_size
    kept = 0 if backend != "native" else lanes_bytes(recipe, recipe.batch_size + (0 if last % lanes.LANES else last))
    programs = len({each.recipe.architecture.layers for each in trials})  # if replicas run one by one
    grouped = backend != "native" or (kept > 0 and programs == 1)
    at_a_time = replicas if grouped else 1
    images = replicas * _images_bytes(recipe, EVALUATION_BATCH)
    evaluation = max(images if kept else at_a_time * evaluation_bytes(recipe), replicas * _teachers_bytes(recipe))
    apart = evaluation // LIVE_OUTPUTS >= MAPPED_BYTES
    in_library = backend == "native" and not recipe.architecture.convolutional  # steps of CNNs are operations of torch
    in_program = _number_bytes(recipe) * recipe.batch_size * recipe.architecture.activations if kept else 0
    computations = (
        native_bytes(recipe) if in_library else at_a_time * (step_bytes(recipe) - in_program),
        0 if apart else evaluation + images,
        max((replicas * probe_bytes(recipe, probe.component) for probe in trial.probes), default=0),
        replicas * trial.data.info.test_examples * recipe.architecture.classes * OUTPUT_BYTES,
    )
    kernels = CONVOLUTION_BYTES * recipe.architecture.convolutional
    per_replica = state_bytes(recipe) + INDEX_BYTES * sum(trial.data.split_sizes)
    largest = max(computations) + (evaluation + images) * apart
    all_kept = (replicas if grouped else programs) * kept
    return WORKER_BYTES + kernels + replicas * per_replica + table_bytes(trials) + all_kept + largest


def training_bytes(recipe: Recipe) -> int:
    """Memory of one replica of a pack, as packs are limited by it: its state and a step of the reference."""
    return state_bytes(recipe) + step_bytes(recipe)


def state_bytes(recipe: Recipe) -> int:
    """Weights, their copies, the state of the optimizer, and the weights of teachers."""
    student = (WEIGHT_COPIES + optimizer_copies(recipe)) * recipe.architecture.num_params
    return _number_bytes(recipe) * (student + sum(teacher.num_params for teacher in recipe.teachers))


def optimizer_copies(recipe: Recipe) -> int:
    """Tensors that the optimizer keeps per parameter. The code of a plugin is not called."""
    return OPTIMIZER_COPIES if plugin_of(recipe.optimizer) is not None else len(recipe.optimizer.init_state([]))


def step_bytes(recipe: Recipe) -> int:
    """A step of the reference: activations, two outputs that are being computed, gradients, and what the loss keeps."""
    architecture, batch = recipe.architecture, recipe.batch_size
    numbers = batch * (architecture.activations + 2 * architecture.largest_output)
    teachers = batch * max((_live_numbers(teacher) for teacher in recipe.teachers if _runs_teachers(recipe)), default=0)
    gradients = architecture.num_params
    return _number_bytes(recipe) * (numbers + gradients + teachers) + 4 * recipe.loss.batch_numbers(batch)


def native_bytes(recipe: Recipe) -> int:
    """A step of an MLP of the native backend, one replica at a time: inputs, outputs, gradients, and three weight matrices."""
    layers = dense_layers(recipe.architecture) or ()
    outputs = [layer.outputs for layer in layers]
    numbers = recipe.batch_size * (prod(recipe.architecture.shape) + 2 * sum(outputs) + 3 * max(outputs))
    return _number_bytes(recipe) * (numbers + 3 * max(layer.inputs * layer.outputs for layer in layers))


def lanes_bytes(recipe: Recipe, images: int) -> int:
    """What the native backend keeps of steps and evaluations of a narrow CNN, per replica of a group; 0 for other networks."""
    listing = lanes.listing_of(recipe)
    if listing is None:
        return 0
    numbers = images * listing.numbers() + lanes.EVALUATED * listing.numbers(evaluates=True)
    return _number_bytes(recipe) * numbers


def evaluation_bytes(recipe: Recipe) -> int:
    """A batch of an evaluation, per replica."""
    return _number_bytes(recipe) * EVALUATION_BATCH * _live_numbers(recipe.architecture)


def probe_bytes(recipe: Recipe, probe: object) -> int:
    """A probe, per replica: a step that also keeps the gradients of all points, and in float64 its own weights."""
    architecture = recipe.architecture
    exact = bool(getattr(probe, "float64", False))
    examples = min(int(getattr(probe, "examples", recipe.batch_size)), recipe.batch_size)
    points = sum(prod(shape) for shape in architecture.points.values())
    numbers = examples * (architecture.activations + points + 2 * architecture.largest_output)
    number_bytes = 8 if exact else _number_bytes(recipe)
    return number_bytes * (numbers + (1 + exact) * architecture.num_params)


def table_bytes(trials: Sequence[Trial]) -> int:
    """Stored outputs of the teachers of a pack: one table per ensemble, and what reading one needs."""
    recipe = trials[0].recipe
    if not recipe.teachers:
        return 0
    ensembles = {tuple(teacher.hash for teacher in trial.teachers) for trial in trials}
    outputs = sum(trials[0].data.split_sizes) * recipe.architecture.classes
    numbers = (len(ensembles) + READ_COPIES) * outputs
    return numbers * (_number_bytes(recipe) + TABLE_NUMBER_BYTES * recipe.table_views)


def _teachers_bytes(recipe: Recipe) -> int:
    """A batch of an evaluation of the teachers, per replica: each has its own, one member of an ensemble after the other."""
    numbers = max((_live_numbers(teacher) for teacher in recipe.teachers), default=0)
    return _number_bytes(recipe) * EVALUATION_BATCH * numbers


def _images_bytes(recipe: Recipe, count: int) -> int:
    return _number_bytes(recipe) * count * prod(recipe.architecture.shape)


def _live_numbers(architecture: Architecture) -> int:
    """Numbers per image that a forward pass without gradients has at a time."""
    return LIVE_OUTPUTS * architecture.largest_output


def _runs_teachers(recipe: Recipe) -> bool:
    return recipe.runs_teachers or "teacher.features" in recipe.loss.needs


def _number_bytes(recipe: Recipe) -> int:
    return NUMBER_BYTES.get(recipe.precision, 4)
