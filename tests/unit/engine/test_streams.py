"""Random streams: what two conditions of one seed share, what two seeds do not, and that no stream knows its pack."""

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fathomlab.engine.device_data import split_indices
from fathomlab.engine.loop import train
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.optim.adam import Adam


def orders(small_training: ModuleType, recipes: list[Any]) -> Tensor:
    """The images of every epoch in the order in which training took them, (epochs, k, n)."""
    pack = small_training.make_trainer(recipes)
    batch, taken = pack.batch, []

    def seen(index: Tensor, epoch: int | None) -> Tensor:
        taken.append(index)
        return batch(index, epoch)

    pack.batch = seen
    list(train(pack, frozenset()))
    assert len(taken) == 20
    return torch.stack([torch.cat(taken[5 * epoch : 5 * epoch + 5], 1) for epoch in range(4)])


def test_each_epoch_is_a_permutation_of_its_own(small_training: ModuleType) -> None:
    """Every training image once an epoch, in another order each time."""
    recipe = small_training.recipe(small_training.mlp())
    found = orders(small_training, [recipe])
    members = small_training.make_trainer([recipe]).train_index
    assert torch.equal(found.sort(-1).values, members.sort(-1).values.expand(4, 1, -1))
    assert len({tuple(order) for order in found[:, 0].tolist()}) == 4
    assert all(not torch.equal(order, members) for order in found)


def test_places_in_the_order_are_even(small_training: ModuleType) -> None:
    """Over 400 epochs every image's mean place is the middle, to five standard errors: no image comes early."""
    recipe = small_training.recipe(small_training.mlp(hidden_layers_num=0), batch_size=48, epochs=400)
    pack = small_training.make_trainer([recipe])
    batch, places = pack.batch, []

    def seen(index: Tensor, epoch: int | None) -> Tensor:
        places.append(index[0].argsort())
        return batch(index, epoch)

    pack.batch = seen
    list(train(pack, frozenset()))
    mean = torch.stack(places).double().mean(0)
    assert float((mean - 23.5).abs().max()) < 5 * 13.85 / 20


def test_conditions_of_a_seed_share_split_and_order(small_training: ModuleType) -> None:
    """Whatever the model, the optimizer, the rate, the augmentation; another seed shares neither."""
    one = small_training.recipe(small_training.mlp())
    found = orders(small_training, [one])
    for other in (
        replace(one, architecture=small_training.mlp(residual=True, layers_dim=9, dropout=0.5)),
        replace(one, optimizer=Adam(), lr=0.001, loss=CrossEntropy(0.1), gradient_clip=1.0),
        replace(one, augment=("flip", "crop")),
        replace(one, architecture=small_training.cnn()),
        replace(one, precision="fp32"),
    ):
        assert torch.equal(orders(small_training, [other]), found)
    other = replace(one, seed=43)
    assert not torch.equal(
        small_training.make_trainer([other]).validation_index, small_training.make_trainer([one]).validation_index
    )
    assert not torch.equal(orders(small_training, [other]), found)


def test_streams_do_not_know_the_pack(small_training: ModuleType) -> None:
    """Order, split and initial values of a trial are bit for bit the same alone, first and last in a pack."""
    recipes = [small_training.recipe(small_training.mlp(dropout=0.1), seed=seed) for seed in (42, 43, 44)]
    packed, pack = orders(small_training, recipes), small_training.make_trainer(recipes)
    turned = orders(small_training, recipes[::-1])
    for place, recipe in enumerate(recipes):
        alone = small_training.make_trainer([recipe])
        assert torch.equal(orders(small_training, [recipe])[:, 0], packed[:, place])
        assert torch.equal(turned[:, 2 - place], packed[:, place])
        assert torch.equal(alone.validation_index[0], pack.validation_index[place])
        assert all(torch.equal(value[0], pack.state.params[name][place]) for name, value in alone.state.params.items())


def test_order_and_augmentation_have_streams_of_their_own(small_training: ModuleType) -> None:
    """An image's view depends on seed, epoch and image; not on its batch, and not on the batch size."""
    recipe = small_training.recipe(small_training.cnn(), augment=("flip", "crop"))
    pack, other = small_training.make_trainer([recipe]), small_training.make_trainer([replace(recipe, batch_size=7)])
    index = pack.train_index
    views = pack.batch(index, 1)
    assert torch.equal(views[:, 5:9], pack.batch(index[:, 5:9], 1))
    assert torch.equal(views.flip(1), other.batch(index.flip(1), 1))
    assert not torch.equal(views, pack.batch(index, 2))
    assert not torch.equal(views, small_training.make_trainer([replace(recipe, seed=1)]).batch(index, 1))
    assert torch.equal(pack.batch(index, None)[0], pack.data.normalize(pack.data.images[index[0]]))


def test_dropout_masks_change_from_step_to_step(small_training: ModuleType) -> None:
    """With a learning rate of nearly nothing the same batch has another loss in every epoch."""
    recipe = small_training.recipe(small_training.mlp(dropout=0.5, layers_dim=40), batch_size=48, lr=1e-14)
    _, snapshots = small_training.run_training([recipe, replace(recipe, seed=1)])
    losses = torch.stack([snapshot.train.loss for snapshot in snapshots])
    spread = (losses[:, None] - losses[None]).abs() + torch.eye(4)[..., None]
    assert float(spread.min()) > 1e-6


@pytest.mark.parametrize("seeds", [(0, 1, 2)])
def test_a_limit_is_the_same_subset_for_every_seed(seeds: tuple[int, ...], small_training: ModuleType) -> None:
    """Seeds split it differently."""
    recipes = [small_training.recipe(small_training.mlp(), limit=30, seed=seed) for seed in seeds]
    train_index, validation_index = split_indices(recipes, np.arange(90) % 3, small_training.CPU)
    whole = torch.cat([train_index, validation_index], 1).sort(1).values
    assert torch.equal(whole, whole[:1].expand_as(whole))
    assert whole.shape[1] == 30
    assert not torch.equal(validation_index[0], validation_index[1])
