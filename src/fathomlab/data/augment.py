"""Augmentation of a pack on its device: flips and crops as a function of (seed, epoch, image), without a state."""

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from fathomlab.base.noise import mix
from fathomlab.base.problems import suggestion
from fathomlab.data.table import AUGMENTATIONS

FLIP = int.from_bytes(b"flip", "big")
CROP = int.from_bytes(b"crop", "big")
PADDING = 4

Pack = Shaped[Tensor, "k n c h w"]
Epoch = int | Int64[Tensor, ""]


def draw(seeds: Int64[Tensor, " k"], epoch: Epoch, index: Int64[Tensor, "k n"], purpose: int) -> Int64[Tensor, "k n"]:
    """64 random bits for each image, which depend on its trial's seed, the epoch, its index and the purpose alone.

    Args:
        seeds: Of the trials in the pack.
        epoch: A whole number, or a 0-d tensor where a compiled step should not be built again for each epoch.
        index: The place of each image in the training set, not in the batch.
        purpose: Keeps the draws of flips and crops apart.
    """
    return mix(mix(mix(seeds, purpose), epoch)[:, None], index)


def augment(
    images: Pack, seeds: Int64[Tensor, " k"], epoch: Epoch, index: Int64[Tensor, "k n"], names: tuple[str, ...]
) -> Pack:
    """The images after the named augmentations, each image on its own.

    `flip` mirrors left and right with probability one half. `crop` pads with four zeros on each side and cuts the old
    size out at a random place; raw uint8 images should be given, in which zero is black.

    Raises:
        ValueError: A name is not in AUGMENTATIONS.

    Example:
        >>> images = torch.arange(8, dtype=torch.uint8).reshape(1, 2, 1, 2, 2)
        >>> seeds, index = torch.tensor([3]), torch.tensor([[0, 1]])
        >>> both = augment(images, seeds, 5, index, ("flip", "crop"))
        >>> torch.equal(both[:, 1:], augment(images[:, 1:], seeds, 5, index[:, 1:], ("crop", "flip")))
        True
    """
    for name in names:
        if name not in AUGMENTATIONS:
            near = suggestion(name, AUGMENTATIONS)
            raise ValueError(f"no augmentation {name!r}.{near} There are: {', '.join(AUGMENTATIONS)}.")
    if not names:
        return images
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device).expand(*index.shape, height)
    columns = torch.arange(width, device=images.device).expand(*index.shape, width)
    if "flip" in names:
        flipped = draw(seeds, epoch, index, FLIP) < 0
        columns = torch.where(flipped[..., None], width - 1 - columns, columns)
    if "crop" in names:
        down, right = _offsets(draw(seeds, epoch, index, CROP))
        rows = rows + down[..., None]
        columns = columns + right[..., None]
        images = torch.nn.functional.pad(images, (PADDING,) * 4)
    return _picked(images, rows, columns)


def _offsets(bits: Int64[Tensor, "k n"]) -> tuple[Int64[Tensor, "k n"], Int64[Tensor, "k n"]]:
    """Two whole numbers from 0 to 2 * PADDING out of the upper and the lower half of the bits."""
    places, half = 2 * PADDING + 1, 0xFFFFFFFF
    return ((bits >> 32) & half) * places >> 32, (bits & half) * places >> 32


def _picked(
    images: Pack, rows: Int64[Tensor, "k n h2"], columns: Int64[Tensor, "k n w2"]
) -> Shaped[Tensor, "k n c h2 w2"]:
    """Of each image the given rows and columns: one gather."""
    replicas, examples, channels, _, width = images.shape
    places = (rows[..., :, None] * width + columns[..., None, :]).flatten(2)
    places = places[:, :, None].expand(replicas, examples, channels, places.shape[-1])
    return images.flatten(3).gather(3, places).unflatten(3, (rows.shape[-1], columns.shape[-1]))
