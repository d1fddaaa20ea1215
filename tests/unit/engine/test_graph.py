"""Steps with fixed inputs and separate replicas, run here without a graph, give the numbers of the pack."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
import torch

from fathomlab.engine.backends import BACKENDS
from fathomlab.engine.backends.graph import GraphStep
from fathomlab.engine.loop import Progress, train
from fathomlab.engine.step import for_full_batches
from fathomlab.engine.step_inputs import StepFunction, StepInputs
from fathomlab.engine.training import PackTrainer
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.losses.dist import DIST
from fathomlab.losses.distillation import Distillation
from fathomlab.losses.dkd import DKD
from fathomlab.losses.logit_mse import LogitMSE
from fathomlab.losses.nkd import NKD
from fathomlab.losses.ttm import WTTM
from fathomlab.optim.adam import Adam, AdamW
from fathomlab.optim.rmsprop import RMSprop
from fathomlab.optim.schedules import Constant, CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau
from fathomlab.optim.sgd import SGD
from fathomlab.plan.recipe import Recipe
from tests.helpers import small_training

OPTIMIZERS = [
    SGD(momentum=0.9, dampening=0.1),
    SGD(momentum=0.9, nesterov=True, weight_decay=0.01),
    Adam(amsgrad=True),
    AdamW(),
    RMSprop(momentum=0.5, centered=True),
]
SCHEDULES = [CosineAnnealingLR(), OneCycleLR(), ReduceLROnPlateau(patience=0, threshold=0.2)]


def run(pack: PackTrainer, step: StepFunction | None = None) -> list[Progress]:
    """Train to the end and return every snapshot."""
    return list(train(pack, frozenset(), step))


def graph_step(pack: PackTrainer) -> StepFunction:
    """The step of the graph backend; without a CUDA device, the same step without a graph."""
    return BACKENDS["graph"].prepare(pack)


def separate_pack(recipes: Sequence[Recipe], teachers: Any = None) -> PackTrainer:
    """Create a pack whose replicas are separate networks."""
    pack = small_training.make_trainer(recipes, teachers)
    trainer = PackTrainer(
        recipes, pack.data, pack.train_index, pack.validation_index, pack.device, teachers, separate_replicas=True
    )
    assert len(trainer.replica_trainers) == len(recipes)
    return trainer


def assert_same_results(
    pack: PackTrainer,
    reference: PackTrainer,
    relative: float = 1e-10,
    step: StepFunction | None = None,
) -> None:
    """Train both packs, the first with `step`, and compare all results of every replica."""
    snapshots, reference_snapshots = run(pack, step), run(reference)
    assert pack.state.step == reference.state.step == 20
    for slot in range(len(pack.recipes)):
        small_training.assert_close(
            small_training.replica_results(pack, snapshots, slot),
            small_training.replica_results(reference, reference_snapshots, slot),
            relative,
        )


@pytest.mark.parametrize(
    ("optimizer", "schedule"),
    [
        *((optimizer, Constant()) for optimizer in OPTIMIZERS),
        *((Adam(), schedule) for schedule in SCHEDULES),
        (SGD(momentum=0.9), OneCycleLR()),
    ],
    ids=str,
)
@pytest.mark.parametrize("rates", [(0.01, 0.01), (0.01, 0.003)], ids=["shared", "separate"])
def test_graph_step_equals_eager_step(optimizer: Any, schedule: Any, rates: tuple[float, float]) -> None:
    """Learning rate, momentum, and step count are tensors that are filled before each step."""
    recipes = [
        small_training.recipe(
            small_training.mlp(batch_norm=True), seed=seed, lr=lr, optimizer=optimizer, schedule=schedule
        )
        for seed, lr in zip((42, 7), rates, strict=True)
    ]
    pack = small_training.make_trainer(recipes)
    # A cycled momentum disables torch's fused kernel, and Adam amplifies rounding noise of tiny gradients.
    relative = 1e-8 if isinstance(schedule, OneCycleLR) else 1e-10
    assert_same_results(pack, small_training.make_trainer(recipes), relative, graph_step(pack))


def test_graph_step_reads_epoch_and_dropout_keys() -> None:
    """Augmentation depends on the epoch, dropout on the keys."""
    recipes = [
        small_training.recipe(small_training.cnn(), seed=seed, augment=("flip", "crop"), optimizer=AdamW(), lr=0.01)
        for seed in (42, 7)
    ]
    pack = small_training.make_trainer(recipes)
    assert_same_results(pack, small_training.make_trainer(recipes), step=graph_step(pack))
    recipes_with_dropout = [small_training.recipe(small_training.mlp(dropout=rate), seed=3) for rate in (0.2, 0.5)]
    pack = small_training.make_trainer(recipes_with_dropout)
    assert_same_results(pack, small_training.make_trainer(recipes_with_dropout), step=graph_step(pack))


def test_graph_step_runs_only_full_batches() -> None:
    """48 images in batches of 10 are four full batches and a smaller one per epoch."""
    pack = small_training.make_trainer([small_training.recipe(small_training.mlp())])
    step, batch_sizes = graph_step(pack), []

    def counted(inputs: StepInputs) -> None:
        batch_sizes.append(inputs.index.shape[1])
        step(inputs)

    run(pack, for_full_batches(pack, counted))
    assert batch_sizes == [10] * 16


@pytest.mark.parametrize("optimizer", [SGD(momentum=0.9), RMSprop(momentum=0.5, centered=True)], ids=str)
def test_separate_replicas_equal_pack(optimizer: Any) -> None:
    """With different options per replica, and clipping."""
    recipes = [
        small_training.recipe(
            small_training.cnn(residual=True),
            seed=seed,
            lr=lr * (0.1 if isinstance(optimizer, RMSprop) else 1.0),
            optimizer=replace(optimizer, weight_decay=decay),
            label_smoothing=smoothing,
            gradient_clip=0.5,
        )
        for seed, lr, decay, smoothing in ((42, 0.01, 0.0, 0.1), (7, 0.003, 0.01, 0.0), (9, 0.02, 0.1, 0.2))
    ]
    # Grouped and separate convolutions round differently, and RMSprop amplifies rounding noise of tiny gradients.
    assert_same_results(separate_pack(recipes), small_training.make_trainer(recipes), 1e-8)


def test_separate_students_use_their_teachers() -> None:
    """With stored logits, and with augmented images that teachers see, too."""
    for augment in ((), ("flip",)):
        plain = [small_training.recipe(small_training.cnn(), seed=seed, augment=augment) for seed in (42, 7)]
        recipes = small_training.distilled(plain, (0.7, 0.9), (3.0, 1.0))
        teachers = small_training.make_teachers(recipes, small_training.make_dataset(small_training.SQUARE))
        assert_same_results(
            separate_pack(recipes, teachers),
            small_training.make_trainer(recipes, teachers),
        )


def test_captured_separate_replicas_equal_pack() -> None:
    """A CUDA device runs wide networks this way: one graph over the steps of all replicas."""
    recipes = [small_training.recipe(small_training.cnn(), seed=seed, optimizer=Adam(), lr=0.01) for seed in (42, 7)]
    pack = separate_pack(recipes)
    assert_same_results(pack, small_training.make_trainer(recipes), step=graph_step(pack))


def on_cuda(value: Any) -> Any:
    """Copy all tensors of a value to the CUDA device."""
    if isinstance(value, torch.Tensor):
        return value.to("cuda")
    if isinstance(value, dict):
        return {name: on_cuda(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return tuple(on_cuda(each) for each in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: on_cuda(getattr(value, field.name)) for field in fields(value)})
    return value


def cuda_pack(recipes: Sequence[Recipe], separate: bool) -> PackTrainer:
    """A pack on the CUDA device, with untrained teachers if the recipes have some."""
    start = small_training.make_trainer([replace(recipe, teachers=(), loss=CrossEntropy()) for recipe in recipes])
    teachers = on_cuda(small_training.make_teachers(recipes, start.data)) if recipes[0].teachers else None
    parts = (on_cuda(part) for part in (start.data, start.train_index, start.validation_index))
    return PackTrainer(recipes, *parts, torch.device("cuda"), teachers, separate)


ADAM = {"optimizer": Adam(), "lr": 0.01}
DROPOUT = {"seed": 3, "precision": "fp32"}
FLIPPED: dict[str, Any] = {"augment": ("flip", "crop"), "optimizer": AdamW(), "precision": "fp32"}
STUDENTS: tuple[Any, ...] = (Distillation(3.0, 0.7), DKD(), NKD(), LogitMSE(), DIST(), WTTM())
ON_CUDA: dict[str, list[Recipe]] = {
    "mlp": [
        small_training.recipe(small_training.mlp(batch_norm=True), seed=seed, precision="fp32", **ADAM)
        for seed in (42, 7)
    ],
    "mlp, other rates": [
        small_training.recipe(
            small_training.mlp(), seed=7, lr=lr, optimizer=SGD(momentum=0.9), schedule=OneCycleLR(), precision="fp32"
        )
        for lr in (0.01, 0.003)
    ],
    "dropout": [small_training.recipe(small_training.mlp(dropout=rate), **DROPOUT) for rate in (0.2, 0.5)],
    "grouped cnn": [small_training.recipe(small_training.cnn(residual=True), seed=seed, **FLIPPED) for seed in (42, 7)],
    **{
        f"cnns in {precision}": [
            small_training.recipe(
                small_training.cnn(width=32, residual=True), seed=seed, precision=precision, gradient_clip=1.0, **ADAM
            )
            for seed in (42, 7, 9)
        ]
        for precision in ("fp32", "bf16")
    },
    **{
        f"students of {type(loss).__name__}": [
            replace(recipe, loss=loss)
            for recipe in small_training.distilled(
                [small_training.recipe(small_training.cnn(), seed=seed, lr=1e-4, precision="fp32") for seed in (42, 7)],
                (0.7, 0.9),
                (3.0, 1.0),
            )
        ]
        for loss in STUDENTS
    },
}


@pytest.mark.gpu
@pytest.mark.parametrize("name", ON_CUDA)
def test_graph_equals_eager_bit_for_bit(name: str) -> None:
    """Twenty steps on a CUDA device with and without a graph, and once more with it."""
    recipes, packs = ON_CUDA[name], []
    for graph in (False, True, True):
        pack = cuda_pack(recipes, separate=name.startswith("cnns"))
        step = GraphStep(pack) if graph else None
        run(pack, for_full_batches(pack, step) if step else None)
        assert step is None or step.graph is not None
        packs.append(pack)
    assert all(torch.isfinite(value).all() for value in packs[0].state.params.values())
    for other in packs[1:]:
        for key, value in packs[0].state.params.items():
            assert torch.equal(value, other.state.params[key]), key


@pytest.mark.gpu
@pytest.mark.parametrize("name", ON_CUDA)
def test_cuda_agrees_with_the_cpu(name: str) -> None:
    """The loss of the first epoch in float64, which leaves little to amplify."""
    recipes = [replace(recipe, precision="fp64") for recipe in ON_CUDA[name]]
    losses = []
    for pack in (cuda_pack(recipes, name.startswith("cnns")), cpu_pack(recipes)):
        (first, *_) = run(pack, BACKENDS["graph"].prepare(pack))
        assert first.train is not None
        losses.append(first.train.loss.cpu())
    torch.testing.assert_close(*losses, rtol=1e-7, atol=0)


def cpu_pack(recipes: Sequence[Recipe]) -> PackTrainer:
    """The same pack on the CPU."""
    start = small_training.make_trainer([replace(recipe, teachers=(), loss=CrossEntropy()) for recipe in recipes])
    teachers = small_training.make_teachers(recipes, start.data) if recipes[0].teachers else None
    return small_training.make_trainer(recipes, teachers, start.data)
