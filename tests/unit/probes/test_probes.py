"""Rules for every probe: no side effects, independence of the pack, and the declared columns."""

from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fathomlab.base.options import parse
from fathomlab.engine.loop import train
from fathomlab.engine.snapshot import Snapshot
from fathomlab.engine.training import PackTrainer
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN
from fathomlab.optim.adam import Adam
from fathomlab.optim.schedules import OneCycleLR, ReduceLROnPlateau
from fathomlab.optim.sgd import SGD
from fathomlab.probes import PROBES
from fathomlab.probes.columns import NAMES
from fathomlab.probes.schedule import DEFAULT, snapshot_steps
from tests.helpers import small_training

DENSE: dict[str, Any] = {"input_size": 12, "layers_dim": 6, "class_num": 3}
NORMED = MLP(**DENSE, hidden_layers_num=3, batch_norm=True, dropout=0.4)
CONVOLUTIONS = CNN(layers=(1, 1, 1, 1), num_classes=3, width=2)
TRAININGS: list[tuple[MLP | CNN, dict[str, Any]]] = [
    (NORMED, {"optimizer": Adam(), "schedule": OneCycleLR(), "gradient_clip": 0.1}),
    (NORMED, {"distilled": True, "schedule": ReduceLROnPlateau(patience=0), "label_smoothing": 0.1}),
    (CONVOLUTIONS, {"distilled": True, "augment": ("flip", "crop"), "optimizer": SGD(momentum=0.9)}),
]
EVERY = pytest.mark.parametrize("name", sorted(PROBES))
OF_ANY_NETWORK = small_training.PROBES_OF_ANY_NETWORK
EVERY_TRAINING = pytest.mark.parametrize(
    ("name", "options", "changes"),
    [
        (name, *training)
        for name in sorted(PROBES)
        for training in TRAININGS
        if name in OF_ANY_NETWORK or training[0] == CONVOLUTIONS
    ],
    ids=str,
)
EVERY_NETWORK = pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, NORMED) for name in OF_ANY_NETWORK),
        *((name, CONVOLUTIONS) for name in sorted(PROBES)),
    ],
    ids=str,
)


def leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings, sequences, and dataclasses, with their paths."""
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list | tuple):
        inner = enumerate(value)
    elif is_dataclass(value):
        inner = vars(value).items()
    else:
        yield path, value
    for name, item in inner:
        yield from leaves(item, f"{path}.{name}")


def snapshot_of(pack: PackTrainer) -> dict[str, Any]:
    """Return everything that a step reads: the attributes of the pack, and the global random states of NumPy and torch."""
    values = dict(leaves(vars(pack), ""))
    for path, value in values.items():
        if isinstance(value, Tensor):
            values[path] = (value.detach().clone(), value.dtype, id(value), value.requires_grad, value.grad is None)
    values["torch"] = (torch.get_rng_state(),)
    values["numpy"] = (torch.from_numpy(np.random.get_state()[1].astype(np.int64)),)  # noqa: NPY002
    return values


def assert_unchanged(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Compare bit for bit. Tensors must be the same objects."""
    assert before.keys() == after.keys()
    assert sum(isinstance(value, tuple) for value in before.values()) > 30
    for name, value in before.items():
        if isinstance(value, tuple):
            assert torch.equal(value[0], after[name][0]), name
            assert value[1:] == after[name][1:], name
        else:
            assert value == after[name], name


@EVERY_TRAINING
def test_measure_has_no_side_effects(name: str, options: MLP | CNN, changes: dict[str, Any], packs: Any) -> None:
    """No bit of what a step reads changes, a second measurement is equal, and training is unchanged."""
    probe_class = PROBES[name]
    plain, watched = (packs(options, **changes) for _ in range(2))
    plain_epochs, epochs = list(train(plain, frozenset())), []
    for snapshot in train(watched, frozenset({0, 7})):
        for probe in (probe_class(), probe_class(**probe_class.test_options)):
            before = snapshot_of(watched)
            first, second = probe.measure(Snapshot(watched)), probe.measure(Snapshot(watched))
            assert_unchanged(before, snapshot_of(watched))
            for column, value in first.items():
                assert _equal(value, second[column])
        epochs += [snapshot] if snapshot.train is not None else []
    for slot in range(2):
        small_training.assert_identical(
            small_training.replica_results(watched, epochs, slot),
            small_training.replica_results(plain, plain_epochs, slot),
        )


def _equal(a: Any, b: Any) -> bool:
    if not isinstance(a, Tensor):
        return a == b
    return bool(((a == b) | (a.isnan() & b.isnan())).all())


@EVERY_TRAINING
def test_measure_does_not_depend_on_the_pack(
    name: str, options: MLP | CNN, changes: dict[str, Any], packs: Any
) -> None:
    """Three replicas together and each alone, after eight steps."""
    probe = PROBES[name](**PROBES[name].test_options)

    def measure(seeds: tuple[int, ...]) -> dict[str, Any]:
        pack = packs(options, seeds, **changes)
        next(snapshot for snapshot in train(pack, frozenset({8})) if snapshot.step == 8)
        return probe.measure(Snapshot(pack))

    packed = measure((5, 6, 7))
    for slot, seed in enumerate((5, 6, 7)):
        for column, value in measure((seed,)).items():
            if isinstance(value, Tensor):
                torch.testing.assert_close(packed[column][slot], value[0], rtol=1e-8, atol=0, equal_nan=True)
            else:
                assert packed[column] == value


@pytest.mark.parametrize("name", OF_ANY_NETWORK)
def test_measure_supports_varying_options(name: str) -> None:
    """Learning rate, weight decay, smoothing, alpha, and temperature vary within the pack."""
    probe, data = PROBES[name](**PROBES[name].test_options), small_training.make_dataset(small_training.FLAT)
    changes = [{"lr": 0.05}, {"lr": 0.2, "label_smoothing": 0.2, "optimizer": Adam(weight_decay=0.1)}]
    recipes = [
        small_training.recipe(small_training.mlp(), seed=seed, **({"optimizer": Adam()} | change))
        for seed, change in zip((5, 6), changes, strict=True)
    ]
    students = small_training.distilled(recipes, (0.9, 0.5), (4.0, 2.0))

    def measure(recipes_of: list[Any]) -> dict[str, Any]:
        return probe.measure(
            Snapshot(small_training.make_trainer(recipes_of, small_training.make_teachers(recipes_of, data), data))
        )

    packed = measure(students)
    for slot, student in enumerate(students):
        for column, value in measure([student]).items():
            if isinstance(value, Tensor):
                torch.testing.assert_close(packed[column][slot], value[0], rtol=1e-8, atol=0, equal_nan=True)


@EVERY_NETWORK
def test_nan_weights_do_not_affect_other_replicas(name: str, options: MLP | CNN, packs: Any) -> None:
    probe = PROBES[name](**PROBES[name].test_options)
    intact, corrupted = packs(options), packs(options)
    with torch.no_grad():
        for value in corrupted.state.params.values():
            value[1] = torch.nan
    expected, columns = probe.measure(Snapshot(intact)), probe.measure(Snapshot(corrupted))
    for column, value in expected.items():
        if isinstance(value, Tensor):
            torch.testing.assert_close(columns[column][0], value[0], rtol=1e-12, atol=0, equal_nan=True)


def test_probes_use_few_images() -> None:
    """With defaults, three epochs of MNIST at batch size 128: below 3% of the training images."""
    pack = small_training.make_trainer(
        [small_training.recipe(small_training.mlp(), batch_size=128)],
        None,
        small_training.make_dataset(small_training.FLAT, 500),
    )
    batch, image_counts = pack.batch, []

    def record(index: Tensor, epoch: int | None) -> Tensor:
        image_counts.append(index.numel())
        return batch(index, epoch)

    pack.batch = record
    for name in OF_ANY_NETWORK:
        PROBES[name]().measure(Snapshot(pack))
    assert len(snapshot_steps(DEFAULT, 375, 3)) * sum(image_counts) < 0.03 * 3 * 48000


@EVERY_NETWORK
def test_measure_returns_declared_columns(name: str, options: MLP | CNN, packs: Any) -> None:
    probe_class = PROBES[name]
    columns = probe_class(**probe_class.test_options).measure(Snapshot(packs(options)))
    labels = {NAMES[column.axis] for column in probe_class.columns.values() if column.axis != "replica"}
    assert columns.keys() - {"dtype"} == probe_class.columns.keys() | labels
    for key, column in probe_class.columns.items():
        value = columns[key]
        if column.axis != "replica":
            names = columns[NAMES[column.axis]]
            assert value.shape == (2, len(names))
            assert all(isinstance(label, str) for label in names)
        else:
            assert isinstance(value, int) or value.shape == (2,)
        if isinstance(value, Tensor):
            assert value.dtype == torch.float64
            assert not value.requires_grad


@EVERY
def test_parse_validates_probe_options(name: str) -> None:
    probe_class = PROBES[name]
    for options in ({}, probe_class.test_options):
        issues: list[Any] = []
        assert parse(probe_class, options, "", issues) == probe_class(**options)
        assert not issues
    for wrong in ({"examples": 0}, {"exmples": 3}):
        issues = []
        parse(probe_class, wrong, "", issues)
        assert len(issues) == 1


def test_probes_declare_columns() -> None:
    for probe in PROBES.values():
        assert probe.title
        assert any(column.figure != "none" for column in probe.columns.values())
        assert all(column.label for column in probe.columns.values())
