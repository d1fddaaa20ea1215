"""A dataset on the device: images as stored, labels, and the split of each replica."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from fathomlab.base.axes import Images, Indices, RawImages
from fathomlab.data.split import stratified_split, stratified_subset
from fathomlab.data.table import DatasetArrays, DatasetInfo
from fathomlab.plan.recipe import Recipe


@dataclass(frozen=True)
class DeviceDataset:
    """Images and labels of a dataset on one device.

    Attributes:
        images: Training images, uint8 or float32 (n, c, h, w). They are normalized per batch.
        labels: Classes of the training images, (n,).
        test_images: Test images, (m, c, h, w).
        test_labels: Classes of the test images, (m,).
        mean: Mean per channel, on the scale of the images: 0 to 255 for uint8, (c, 1, 1).
        scale: Inverse standard deviation per channel, on the same scale, (c, 1, 1).
    """

    images: RawImages
    labels: Tensor
    test_images: Shaped[Tensor, "m c h w"]
    test_labels: Tensor
    mean: Tensor
    scale: Tensor

    def normalize(self, images: Shaped[Tensor, "*batch c h w"]) -> Float[Tensor, "*batch c h w"]:
        """Compute (images - mean) * scale in the format of `mean`, as a new tensor."""
        return images.to(self.mean.dtype, copy=True).sub_(self.mean).mul_(self.scale)

    def batch(self, index: Indices) -> Images:
        """Return normalized training images at `index`, (k, n, c, h, w)."""
        if self.images.device.type != "cpu":
            return self.normalize(self.images[index])
        batch = torch.empty((*index.shape, *self.images.shape[1:]), dtype=self.mean.dtype)
        flat_images = self.images.flatten(1)
        for images, rows in zip(batch, index, strict=True):  # replica by replica, so that a batch stays in the cache
            images.flatten(1).copy_(flat_images.index_select(0, rows))
            images.sub_(self.mean).mul_(self.scale)
        return batch


def to_device(arrays: DatasetArrays, info: DatasetInfo, device: torch.device, dtype: torch.dtype) -> DeviceDataset:
    """Copy a dataset to `device`. Batches are normalized in `dtype`."""
    white = 255 if arrays.train_images.dtype == np.uint8 else 1
    mean = torch.tensor(info.mean, dtype=torch.float64).view(-1, 1, 1) * white
    scale = 1 / (torch.tensor(info.std, dtype=torch.float64).view(-1, 1, 1) * white)
    return DeviceDataset(
        torch.from_numpy(arrays.train_images).to(device),
        torch.from_numpy(arrays.train_labels).to(device),
        torch.from_numpy(arrays.test_images).to(device),
        torch.from_numpy(arrays.test_labels).to(device),
        mean.to(device, dtype),
        scale.to(device, dtype),
    )


def split_indices(
    recipes: Sequence[Recipe], labels: np.ndarray, device: torch.device
) -> tuple[Indices, Int[Tensor, "k held_out"]]:
    """Return training and validation indices of each replica, (k, n) each. They depend only on (seed, "split")."""
    splits = []
    for recipe in recipes:
        subset = np.arange(len(labels)) if recipe.limit is None else stratified_subset(labels, recipe.limit)
        train, validation = stratified_split(labels[subset], recipe.validation_split, recipe.seed)
        splits.append((subset[train], subset[validation]))
    return (
        torch.from_numpy(np.stack([train for train, _ in splits])).to(device),
        torch.from_numpy(np.stack([validation for _, validation in splits])).to(device),
    )
