"""A dataset on the device: uint8 images, labels, and the split of each replica."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from fathomlab.base.shapes import Images, Indices, RawImages
from fathomlab.data.split import stratified_split, stratified_subset
from fathomlab.data.table import DatasetArrays, DatasetInfo
from fathomlab.plan.recipe import Recipe


@dataclass(frozen=True)
class Pictures:
    """Images and labels of a dataset on one device.

    Attributes:
        images: Training images, uint8 (n, c, h, w). They are normalized per batch.
        labels: Their classes, (n,).
        test_images: Test images, uint8 (m, c, h, w).
        test_labels: Their classes, (m,).
        mean: Mean per channel on the scale of 0 to 255, (c, 1, 1).
        scale: Inverse standard deviation per channel on the same scale, (c, 1, 1).
    """

    images: RawImages
    labels: Tensor
    test_images: UInt8[Tensor, "m c h w"]
    test_labels: Tensor
    mean: Tensor
    scale: Tensor

    def normalized(self, images: UInt8[Tensor, "*batch c h w"]) -> Float[Tensor, "*batch c h w"]:
        """(images / 255 - mean) / deviation, in the format of `mean`."""
        return images.to(self.mean.dtype).sub_(self.mean).mul_(self.scale)

    def batch(self, index: Indices) -> Images:
        """Return normalized training images at `index`, (k, n, c, h, w)."""
        if self.images.device.type != "cpu":
            return self.normalized(self.images[index])
        made = torch.empty((*index.shape, *self.images.shape[1:]), dtype=self.mean.dtype)
        rows = self.images.flatten(1)
        for own, places in zip(made, index, strict=True):  # the batch of one replica stays in the cache
            own.flatten(1).copy_(rows.index_select(0, places))
            own.sub_(self.mean).mul_(self.scale)
        return made


def pictures(split: DatasetArrays, info: DatasetInfo, device: torch.device, dtype: torch.dtype) -> Pictures:
    """Copy a dataset to `device`; batches are normalized in `dtype`."""
    mean = torch.tensor(info.mean, dtype=torch.float64).view(-1, 1, 1) * 255
    scale = 1 / (torch.tensor(info.std, dtype=torch.float64).view(-1, 1, 1) * 255)
    return Pictures(
        torch.from_numpy(split.train_images).to(device),
        torch.from_numpy(split.train_labels).to(device),
        torch.from_numpy(split.test_images).to(device),
        torch.from_numpy(split.test_labels).to(device),
        mean.to(device, dtype),
        scale.to(device, dtype),
    )


def splits(
    recipes: Sequence[Recipe], labels: np.ndarray, device: torch.device
) -> tuple[Indices, Int[Tensor, "k held_out"]]:
    """Return training and validation indices of each replica, (k, n) each. They depend only on (seed, "split")."""
    parts = []
    for recipe in recipes:
        within = np.arange(len(labels)) if recipe.limit is None else stratified_subset(labels, recipe.limit)
        train, validation = stratified_split(labels[within], recipe.validation_split, recipe.seed)
        parts.append((within[train], within[validation]))
    return (
        torch.from_numpy(np.stack([train for train, _ in parts])).to(device),
        torch.from_numpy(np.stack([validation for _, validation in parts])).to(device),
    )
