"""Random streams: shared between conditions of one seed, different between seeds, and independent of the pack."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fathomlab.base.identity import derive_seed
from fathomlab.engine.device_data import split_indices
from fathomlab.engine.loop import train
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.optim.adam import Adam
from tests.helpers import small_training


def orders(recipes: list[Any]) -> Tensor:
    """Train a pack and return the image indices of every epoch in their order, (epochs, k, n)."""
    pack = small_training.make_trainer(recipes)
    batch, taken = pack.batch, []

    def record(index: Tensor, epoch: int | None) -> Tensor:
        taken.append(index)
        return batch(index, epoch)

    pack.batch = record
    list(train(pack, frozenset()))
    assert len(taken) == 20
    return torch.stack([torch.cat(taken[5 * epoch : 5 * epoch + 5], 1) for epoch in range(4)])


def test_order_is_a_new_permutation_in_each_epoch() -> None:
    recipe = small_training.recipe(small_training.mlp())
    orders_by_epoch = orders([recipe])
    train_index = small_training.make_trainer([recipe]).train_index
    assert torch.equal(orders_by_epoch.sort(-1).values, train_index.sort(-1).values.expand(4, 1, -1))
    assert len({tuple(order) for order in orders_by_epoch[:, 0].tolist()}) == 4
    assert all(not torch.equal(order, train_index) for order in orders_by_epoch)


def test_order_is_uniform() -> None:
    """Over 400 epochs, the mean position of every image is the middle, within five standard errors."""
    recipe = small_training.recipe(small_training.mlp(hidden_layers_num=0), batch_size=48, epochs=400)
    pack = small_training.make_trainer([recipe])
    batch, positions = pack.batch, []

    def record(index: Tensor, epoch: int | None) -> Tensor:
        positions.append(index[0].argsort())
        return batch(index, epoch)

    pack.batch = record
    list(train(pack, frozenset()))
    mean = torch.stack(positions).double().mean(0)
    assert float((mean - 23.5).abs().max()) < 5 * 13.85 / 20


def test_conditions_with_one_seed_share_split_and_order() -> None:
    """For every model, optimizer, rate, and augmentation. Another seed has another split and order."""
    recipe = small_training.recipe(small_training.mlp())
    order = orders([recipe])
    for condition in (
        replace(recipe, architecture=small_training.mlp(residual=True, layers_dim=9, dropout=0.5)),
        replace(recipe, optimizer=Adam(), lr=0.001, loss=CrossEntropy(0.1), gradient_clip=1.0),
        replace(recipe, augment=("flip", "crop")),
        replace(recipe, architecture=small_training.cnn()),
        replace(recipe, precision="fp32"),
    ):
        assert torch.equal(orders([condition]), order)
    condition = replace(recipe, seed=43)
    assert not torch.equal(
        small_training.make_trainer([condition]).validation_index,
        small_training.make_trainer([recipe]).validation_index,
    )
    assert not torch.equal(orders([condition]), order)


def test_order_stream_changes_only_the_order() -> None:
    """Split, initial values, and the keys of augmentation and dropout stay; streams mix in a pack. Stream 0 is the default."""
    recipe = small_training.recipe(small_training.mlp(dropout=0.5), augment=("flip",))
    recipes = [replace(recipe, order_stream=stream) for stream in (0, 1, 2)]
    packed = orders(recipes)
    assert torch.equal(packed[:, :1], orders([recipe]))
    for slot, other in enumerate(recipes):
        assert torch.equal(packed[:, slot : slot + 1], orders([other]))
    for one, two in ((0, 1), (0, 2), (1, 2)):
        assert int((packed[:, one] == packed[:, two]).sum()) < 20  # of 192; Poisson(4)
        assert torch.equal(packed[:, one].sort(-1).values, packed[:, two].sort(-1).values)
    pack = small_training.make_trainer(recipes)
    alike = [pack.validation_index, pack.keys("augment"), pack.keys("dropout", 3), *pack.state.params.values()]
    assert all(torch.equal(tensor, tensor[:1].expand_as(tensor)) for tensor in alike)
    expected = [derive_seed(42, "order", 3), derive_seed(42, "order", 3, 1), derive_seed(42, "order", 3, 2)]
    assert [int(key) + 2**63 for key in pack.order_keys(3)] == expected


def test_streams_do_not_depend_on_the_pack() -> None:
    """Order, split, and initial values of a trial are equal alone and in every slot of a pack."""
    recipes = [small_training.recipe(small_training.mlp(dropout=0.1), seed=seed) for seed in (42, 43, 44)]
    packed, pack = orders(recipes), small_training.make_trainer(recipes)
    reversed_order = orders(recipes[::-1])
    for slot, recipe in enumerate(recipes):
        alone = small_training.make_trainer([recipe])
        assert torch.equal(orders([recipe])[:, 0], packed[:, slot])
        assert torch.equal(reversed_order[:, 2 - slot], packed[:, slot])
        assert torch.equal(alone.validation_index[0], pack.validation_index[slot])
        assert all(torch.equal(value[0], pack.state.params[name][slot]) for name, value in alone.state.params.items())


def test_augmentation_depends_on_seed_epoch_and_image() -> None:
    """It does not depend on the batch or the batch size."""
    recipe = small_training.recipe(small_training.cnn(), augment=("flip", "crop"))
    pack, condition = (
        small_training.make_trainer([recipe]),
        small_training.make_trainer([replace(recipe, batch_size=7)]),
    )
    index = pack.train_index
    views = pack.batch(index, 1)
    assert torch.equal(views[:, 5:9], pack.batch(index[:, 5:9], 1))
    assert torch.equal(views.flip(1), condition.batch(index.flip(1), 1))
    assert not torch.equal(views, pack.batch(index, 2))
    assert not torch.equal(views, small_training.make_trainer([replace(recipe, seed=1)]).batch(index, 1))
    assert torch.equal(pack.batch(index, None)[0], pack.data.normalize(pack.data.images[index[0]]))


def test_dropout_masks_differ_between_steps() -> None:
    """With a tiny learning rate, the same batch has another loss in every epoch."""
    recipe = small_training.recipe(small_training.mlp(dropout=0.5, layers_dim=40), batch_size=48, lr=1e-14)
    _, snapshots = small_training.run_training([recipe, replace(recipe, seed=1)])
    losses = torch.stack([snapshot.train.loss for snapshot in snapshots])
    spread = (losses[:, None] - losses[None]).abs() + torch.eye(4)[..., None]
    assert float(spread.min()) > 1e-6


@pytest.mark.parametrize("seeds", [(0, 1, 2)])
def test_limit_selects_the_same_subset_for_every_seed(seeds: tuple[int, ...]) -> None:
    """Seeds split it differently."""
    recipes = [small_training.recipe(small_training.mlp(), limit=30, seed=seed) for seed in seeds]
    train_index, validation_index = split_indices(recipes, np.arange(90) % 3, small_training.CPU)
    all_indices = torch.cat([train_index, validation_index], 1).sort(1).values
    assert torch.equal(all_indices, all_indices[:1].expand_as(all_indices))
    assert all_indices.shape[1] == 30
    assert not torch.equal(validation_index[0], validation_index[1])
