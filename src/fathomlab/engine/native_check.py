"""Compares the native step with the reference, once per process, before it is used."""

import ctypes

import torch

from fathomlab.base.errors import UserError
from fathomlab.engine.backends.native import REALS
from fathomlab.engine.backends.native_library import load_library, once
from fathomlab.engine.native_step import NativeStep
from fathomlab.engine.random_pack import plain_recipe, random_pack
from fathomlab.engine.step import step_inputs, train_steps
from fathomlab.engine.training import PackTrainer
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.models.mlp import MLP
from fathomlab.optim.adam import Adam

TOLERANCE = {"fp32": 1e-4, "fp64": 1e-10}
INPUTS, IMAGES, BATCH = 21, 20, 13  # no multiple of a vector


def checked_library(precision: str) -> ctypes.CDLL:
    """The library for a precision, after a step of a small network.

    Raises:
        UserError: If it cannot be built, or its numbers differ from the reference. A process tries it once.
    """
    return once(_checked, precision)


def _checked(precision: str) -> ctypes.CDLL:
    library = load_library(REALS[precision])
    native, reference = _pack(precision), _pack(precision)
    step = NativeStep(native, library)
    for pack, compute in ((native, step), (reference, None)):
        train_steps(pack, [step_inputs(pack, pack.train_index[:, :BATCH], 0, 0, pack.keys("dropout", 0))], compute)
    difference = max(
        float(torch.nan_to_num((native.state.params[name] - expected).detach().abs().max(), nan=torch.inf))
        for name, expected in reference.state.params.items()
        # Before batch norm, the gradient of a bias is rounding noise, which Adam amplifies.
        if f"{name.removesuffix('.bias')}.norm.bias" not in reference.state.params
    )
    if difference > TOLERANCE[precision]:
        text = f"its numbers differ from the reference by {difference:.1g} on this machine"
        raise UserError("backend-failed", text)
    return library


def _pack(precision: str) -> PackTrainer:
    """Two replicas, with and without shortcuts, before their first step."""
    recipes = [
        plain_recipe(
            MLP(INPUTS, 19, 3, 2, residual=seed == 0, batch_norm=True).build((1, 3, INPUTS // 3)),
            seed=seed,
            loss=CrossEntropy(0.1 * seed),
            optimizer=Adam(weight_decay=0.01),
            batch_size=BATCH,
            lr=0.01,
            precision=precision,
        )
        for seed in range(2)
    ]
    return random_pack(recipes, IMAGES, torch.device("cpu"))
