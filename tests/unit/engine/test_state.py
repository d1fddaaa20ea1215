"""Weights that a replica starts from."""

import torch

from fathomlab.engine.state import load_start_weights
from tests.helpers import small_training


def test_start_weights_replace_all_copies_of_one_replica() -> None:
    """Also the best and the last finite weights, which are stored if the first epoch diverges."""
    recipes = [small_training.recipe(small_training.mlp(), seed=seed) for seed in (1, 2)]
    state, other = (small_training.make_trainer(recipes).state for _ in range(2))
    names = [name for name in state.params if not name.startswith("output")]
    weights = {name: torch.full_like(state.params[name][1], 7.0) for name in names}
    weights["output.weight"] = torch.zeros(1, 1)
    load_start_weights(state, 1, weights)
    for params in (state.params, state.best.params, state.last_finite.params):
        assert all(torch.equal(params[name][0], other.params[name][0]) for name in params)
        assert all(bool((params[name][1] == 7.0).all()) for name in names)
        assert torch.equal(params["output.weight"][1], other.params["output.weight"][1])
