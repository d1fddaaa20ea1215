"""What holds for every probe: nothing is changed, packs do not matter, and columns are as announced."""

from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from types import ModuleType
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
from fathomlab.probes.schedule import DEFAULT, snapshot_steps

DENSE: dict[str, Any] = {"input_size": 12, "layers_dim": 6, "class_num": 3}
NORMED = MLP(**DENSE, hidden_layers_num=3, batch_norm=True, dropout=0.4)
CONVOLUTIONS = CNN(layers=(1, 1, 1, 1), num_classes=3, width=2)
AUGMENTED: dict[str, Any] = {"augment": ("flip", "crop"), "optimizer": SGD(momentum=0.9)}
TRAININGS: list[tuple[MLP | CNN, dict[str, Any]]] = [
    (NORMED, {"optimizer": Adam(), "schedule": OneCycleLR(), "gradient_clip": 0.1}),
    (NORMED, {"taught": True, "schedule": ReduceLROnPlateau(patience=0), "label_smoothing": 0.1}),
    (CONVOLUTIONS, AUGMENTED),
    (CONVOLUTIONS, AUGMENTED | {"taught": True}),
]
EVERY = pytest.mark.parametrize("name", sorted(PROBES))


def reachable(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Everything that hangs on a value, by its path: through mappings, sequences and dataclasses."""
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
        yield from reachable(item, f"{path}.{name}")


def everything(pack: PackTrainer) -> dict[str, Any]:
    """All that a step reads: the pack with its state, images and teachers, and the streams that numpy and torch share."""
    found = dict(reachable(vars(pack), ""))
    for path, value in found.items():
        if isinstance(value, Tensor):
            found[path] = (value.detach().clone(), value.dtype, id(value), value.requires_grad, value.grad is None)
    found["torch"] = (torch.get_rng_state(),)
    found["numpy"] = (torch.from_numpy(np.random.get_state()[1].astype(np.int64)),)  # noqa: NPY002
    return found


def assert_unchanged(before: dict[str, Any], after: dict[str, Any]) -> None:
    """The same bits in the same tensors."""
    assert before.keys() == after.keys()
    assert sum(isinstance(value, tuple) for value in before.values()) > 30
    for name, value in before.items():
        if isinstance(value, tuple):
            assert torch.equal(value[0], after[name][0]), name
            assert value[1:] == after[name][1:], name
        else:
            assert value == after[name], name


@EVERY
@pytest.mark.parametrize(("options", "changes"), TRAININGS, ids=str)
def test_measuring_changes_nothing(
    name: str, options: MLP | CNN, changes: dict[str, Any], packs: Any, small_training: ModuleType
) -> None:
    """No bit of what a step reads moves, twice measured is the same twice, and training goes on as if unobserved."""
    part = PROBES[name]
    plain, watched = (packs(options, **changes) for _ in range(2))
    curves, others = list(train(plain, frozenset())), []
    for snapshot in train(watched, frozenset({0, 1, 7, 8})):
        for probe in (part(), part(**part.test_options)):
            before = everything(watched)
            first, second = probe.measure(Snapshot(watched)), probe.measure(Snapshot(watched))
            assert_unchanged(before, everything(watched))
            for column, value in first.items():
                assert _same(value, second[column])
        others += [snapshot] if snapshot.train is not None else []
    for place in range(2):
        small_training.assert_identical(
            small_training.replica_results(watched, others, place), small_training.replica_results(plain, curves, place)
        )


def _same(one: Any, other: Any) -> bool:
    if not isinstance(one, Tensor):
        return one == other
    return bool(((one == other) | (one.isnan() & other.isnan())).all())


@EVERY
@pytest.mark.parametrize(("options", "changes"), TRAININGS, ids=str)
def test_a_replica_is_measured_alike_in_every_pack(
    name: str, options: MLP | CNN, changes: dict[str, Any], packs: Any
) -> None:
    """Three together and each alone, after eight steps."""
    probe = PROBES[name](**PROBES[name].test_options)

    def measured(seeds: tuple[int, ...]) -> dict[str, Any]:
        pack = packs(options, seeds, **changes)
        next(snapshot for snapshot in train(pack, frozenset({8})) if snapshot.step == 8)
        return probe.measure(Snapshot(pack))

    together = measured((5, 6, 7))
    for place, seed in enumerate((5, 6, 7)):
        for column, value in measured((seed,)).items():
            if isinstance(value, Tensor):
                torch.testing.assert_close(together[column][place], value[0], rtol=1e-8, atol=0, equal_nan=True)
            else:
                assert together[column] == value


@EVERY
def test_replicas_have_options_of_their_own(name: str, small_training: ModuleType) -> None:
    """Learning rate, weight decay, smoothing, alpha and temperature differ within the pack."""
    probe, data = PROBES[name](**PROBES[name].test_options), small_training.make_dataset(small_training.FLAT)
    changes = [{"lr": 0.05}, {"lr": 0.2, "label_smoothing": 0.2, "optimizer": Adam(weight_decay=0.1)}]
    recipes = [
        small_training.recipe(small_training.mlp(), seed=seed, **({"optimizer": Adam()} | own))
        for seed, own in zip((5, 6), changes, strict=True)
    ]
    students = small_training.distilled(recipes, (0.9, 0.5), (4.0, 2.0))

    def measured(some: list[Any]) -> dict[str, Any]:
        return probe.measure(
            Snapshot(small_training.make_trainer(some, small_training.make_teachers(some, data), data))
        )

    together = measured(students)
    for place, student in enumerate(students):
        for column, value in measured([student]).items():
            if isinstance(value, Tensor):
                torch.testing.assert_close(together[column][place], value[0], rtol=1e-8, atol=0, equal_nan=True)


@EVERY
@pytest.mark.parametrize("options", [NORMED, CONVOLUTIONS], ids=str)
def test_a_replica_that_is_lost_spoils_no_other(name: str, options: MLP | CNN, packs: Any) -> None:
    """Weights that are no numbers stay their replica's own."""
    probe = PROBES[name](**PROBES[name].test_options)
    whole, spoilt = packs(options), packs(options)
    with torch.no_grad():
        for value in spoilt.state.params.values():
            value[1] = torch.nan
    expected, found = probe.measure(Snapshot(whole)), probe.measure(Snapshot(spoilt))
    for column, value in expected.items():
        if isinstance(value, Tensor):
            torch.testing.assert_close(found[column][0], value[0], rtol=1e-12, atol=0, equal_nan=True)


def test_all_probes_together_look_at_few_images(small_training: ModuleType) -> None:
    """With defaults, three epochs of MNIST at batches of 128: below 3 % of the images that are trained on."""
    pack = small_training.make_trainer(
        [small_training.recipe(small_training.mlp(), batch_size=128)],
        None,
        small_training.make_dataset(small_training.FLAT, 500),
    )
    batch, seen = pack.batch, []

    def counted(index: Tensor, epoch: int | None) -> Tensor:
        seen.append(index.numel())
        return batch(index, epoch)

    pack.batch = counted
    for part in PROBES.values():
        part().measure(Snapshot(pack))
    assert len(snapshot_steps(DEFAULT, 375, 3)) * sum(seen) < 0.03 * 3 * 48000


@EVERY
@pytest.mark.parametrize("options", [NORMED, CONVOLUTIONS], ids=str)
def test_columns_are_as_announced(name: str, options: MLP | CNN, packs: Any) -> None:
    """Numbers of each replica as many as their labels, one number where there are none, and a format's name."""
    part = PROBES[name]
    found = part(**part.test_options).measure(Snapshot(packs(options)))
    labels = {column for column in PROBES[name].columns.values() if column is not None}
    assert found.keys() - {"dtype"} == PROBES[name].columns.keys() | labels
    for column, names in PROBES[name].columns.items():
        value = found[column]
        if names is not None:
            assert value.shape == (2, len(found[names]))
            assert all(isinstance(label, str) for label in found[names])
        else:
            assert isinstance(value, int) or value.shape == (2,)
        if isinstance(value, Tensor):
            assert value.dtype == torch.float64
            assert not value.requires_grad


@EVERY
def test_options_are_checked_by_the_catalog(name: str) -> None:
    """Defaults and tiny options pass; no examples and unknown keys do not."""
    part = PROBES[name]
    for options in ({}, part.test_options):
        problems: list[Any] = []
        assert parse(part, options, "", problems) == part(**options)
        assert not problems
    for wrong in ({"examples": 0}, {"exmples": 3}):
        problems = []
        parse(part, wrong, "", problems)
        assert len(problems) == 1


def test_every_probe_has_its_columns() -> None:
    """The table is sorted by name."""
    assert list(PROBES) == sorted(PROBES)
    assert all(probe.columns for probe in PROBES.values())
