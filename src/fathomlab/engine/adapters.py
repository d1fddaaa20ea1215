"""What a loss learns with a network: tensors among the learned tensors of a pack, whose names begin with `ADAPTER`."""

from math import prod, sqrt

import torch

from fathomlab.base.identity import make_rng
from fathomlab.losses.defaults import ADAPTER
from fathomlab.plan.recipe import Recipe

Tensors = dict[str, torch.Tensor]


def initial_adapters(recipe: Recipe) -> Tensors:
    """Return the initial values of what the loss learns, float64 on the CPU, by their names in `PackState.params`.

    Each tensor has a stream of its own, so the streams of the network do not change. Weights and biases are uniform in
    +-1 / sqrt(inputs), as in torch's layers.
    """
    if not recipe.needs_features:
        return {}
    points = [network.points for network in (recipe.architecture, *recipe.teachers)]
    parameters = recipe.loss.parameters(points[0], points[1] if recipe.teachers else {})
    inputs = {each.name.rpartition(".")[0]: prod(each.shape[1:]) for each in parameters if each.init == "weight"}
    values: Tensors = {}
    for each in parameters:
        if isinstance(each.init, int | float):
            values[ADAPTER + each.name] = torch.full(each.shape, each.init, dtype=torch.float64)
            continue
        draws = make_rng(recipe.seed, "adapter", each.name).uniform(-1, 1, each.shape)
        fan = inputs.get(each.name.rpartition(".")[0], prod(each.shape[1:]))
        values[ADAPTER + each.name] = torch.from_numpy(each.gain * draws / sqrt(fan))
    return values


def without_adapters(params: Tensors) -> Tensors:
    """Return the learned tensors of the network."""
    return {name: tensor for name, tensor in params.items() if not name.startswith(ADAPTER)}


def adapters(params: Tensors) -> Tensors:
    """Return the learned tensors of the loss, by the names that the loss gave them."""
    return {name.removeprefix(ADAPTER): tensor for name, tensor in params.items() if name.startswith(ADAPTER)}
