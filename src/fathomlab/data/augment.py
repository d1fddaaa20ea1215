"""Augmentation of a pack on its device: flips and crops as a stateless function of (seed, epoch, image)."""

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from fathomlab.base.counter_rng import splitmix64
from fathomlab.base.errors import did_you_mean
from fathomlab.data.table import AUGMENTATIONS

FLIP = int.from_bytes(b"flip", "big")
CROP = int.from_bytes(b"crop", "big")
PADDING = 4
OFFSETS = 2 * PADDING + 1

Pack = Shaped[Tensor, "k n c h w"]
Epoch = int | Int64[Tensor, ""]


def draw(seeds: Int64[Tensor, " k"], epoch: Epoch, index: Int64[Tensor, "k n"], purpose: int) -> Int64[Tensor, "k n"]:
    """Return 64 random bits per image, a function of the seed of its trial, the epoch, its index, and the purpose.

    Args:
        seeds: Seeds of the trials in the pack.
        epoch: An integer, or a 0-d tensor if a compiled step must not be rebuilt for each epoch.
        index: Index of each image in the training set, not in the batch.
        purpose: Separates the random streams of flips and crops.
    """
    return splitmix64(splitmix64(splitmix64(seeds, purpose), epoch)[:, None], index)


def augment(
    images: Pack, seeds: Int64[Tensor, " k"], epoch: Epoch, index: Int64[Tensor, "k n"], names: tuple[str, ...]
) -> Pack:
    """Apply the named augmentations to each image independently.

    `flip` mirrors left and right with probability 1/2. `crop` pads with four zeros on each side and cuts out the
    original size at a random offset. Images are augmented before normalization: zero is black in uint8 images.

    Raises:
        ValueError: If a name is not in AUGMENTATIONS.

    Example:
        >>> images = torch.arange(8, dtype=torch.uint8).reshape(1, 2, 1, 2, 2)
        >>> seeds, index = torch.tensor([3]), torch.tensor([[0, 1]])
        >>> both = augment(images, seeds, 5, index, ("flip", "crop"))
        >>> torch.equal(both[:, 1:], augment(images[:, 1:], seeds, 5, index[:, 1:], ("crop", "flip")))
        True
    """
    for name in names:
        if name not in AUGMENTATIONS:
            hint = did_you_mean(name, AUGMENTATIONS)
            raise ValueError(f"unknown augmentation {name!r}.{hint} Supported: {', '.join(AUGMENTATIONS)}.")
    return apply_views(images, view_index(seeds, epoch, index, names), names) if names else images


def view_index(
    seeds: Int64[Tensor, " k"], epoch: Epoch, index: Int64[Tensor, "k n"], names: tuple[str, ...]
) -> Int64[Tensor, "k n"]:
    """Return the number of the view of each image in an epoch, from 0 to `num_views(names)` - 1. All are equally likely.

    It is (flipped * 9 + down) * 9 + right, with the offsets of the crop in the padded image; without the part of an
    augmentation that is not named.
    """
    views = torch.zeros_like(index)
    if "flip" in names:
        views = (draw(seeds, epoch, index, FLIP) < 0).long()
    if "crop" in names:
        down, right = _offsets(draw(seeds, epoch, index, CROP))
        views = (views * OFFSETS + down) * OFFSETS + right
    return views


def unchanged_view(names: tuple[str, ...]) -> int:
    """Return the number of the view that is the image itself: not flipped, and cropped without an offset."""
    return PADDING * (OFFSETS + 1) if "crop" in names else 0


def apply_views(images: Pack, views: Int64[Tensor, "k n"], names: tuple[str, ...]) -> Pack:
    """Return the view of each image that has this number in `view_index`. A crop is cut out first, then mirrored."""
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device).expand(*views.shape, height)
    columns = torch.arange(width, device=images.device).expand(*views.shape, width)
    if "flip" in names:
        flipped = views >= (OFFSETS**2 if "crop" in names else 1)
        columns = torch.where(flipped[..., None], width - 1 - columns, columns)
    if "crop" in names:
        rows = rows + (views // OFFSETS % OFFSETS)[..., None]
        columns = columns + (views % OFFSETS)[..., None]
        images = torch.nn.functional.pad(images, (PADDING,) * 4)
    return _select(images, rows, columns)


def _offsets(bits: Int64[Tensor, "k n"]) -> tuple[Int64[Tensor, "k n"], Int64[Tensor, "k n"]]:
    """Two integers from 0 to 2 * PADDING, from the upper and the lower half of the bits."""
    half = 0xFFFFFFFF
    return ((bits >> 32) & half) * OFFSETS >> 32, (bits & half) * OFFSETS >> 32


def _select(
    images: Pack, rows: Int64[Tensor, "k n h2"], columns: Int64[Tensor, "k n w2"]
) -> Shaped[Tensor, "k n c h2 w2"]:
    """The given rows and columns of each image, in one gather."""
    replicas, examples, channels, _, width = images.shape
    pixels = (rows[..., :, None] * width + columns[..., None, :]).flatten(2)
    pixels = pixels[:, :, None].expand(replicas, examples, channels, pixels.shape[-1])
    return images.flatten(3).gather(3, pixels).unflatten(3, (rows.shape[-1], columns.shape[-1]))
