"""Packs with random images, for self-tests, rehearsals, and benchmarks."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from fathomlab.engine.device_data import DeviceDataset
from fathomlab.engine.precision import param_dtype
from fathomlab.engine.training import PackTrainer
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.models.architecture import Architecture
from fathomlab.optim.adam import Adam
from fathomlab.optim.schedules import Constant
from fathomlab.plan.recipe import Recipe


def plain_recipe(architecture: Architecture, **changes: Any) -> Recipe:
    """Cross-entropy and Adam for one epoch, without a schedule; `changes` are fields of `Recipe`."""
    recipe = Recipe(
        seed=0,
        architecture=architecture,
        loss=CrossEntropy(),
        optimizer=Adam(),
        schedule=Constant(),
        epochs=1,
        batch_size=128,
        lr=1e-3,
        precision="fp32",
        gradient_clip=None,
        augment=(),
        validation_split=0.0,
        limit=None,
        data="{}",
    )
    return replace(recipe, **changes)


def random_pack(
    recipes: Sequence[Recipe], images: int, device: torch.device, separate_replicas: bool = False
) -> PackTrainer:
    """A pack before its first step. All images are for training, with random pixels and each class in turn."""
    network, generator = recipes[0].architecture, torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (images, *network.shape), dtype=torch.uint8, generator=generator).to(device)
    labels = torch.arange(images, device=device) % network.classes
    dtype = param_dtype(recipes[0].precision)
    mean = torch.full((network.shape[0], 1, 1), 128.0, device=device, dtype=dtype)
    data = DeviceDataset(pixels, labels, pixels, labels, mean, torch.full_like(mean, 1 / 64))
    index = torch.arange(images, device=device).expand(len(recipes), -1).contiguous()
    return PackTrainer(recipes, data, index, index[:, :1], device, separate_replicas=separate_replicas)
