"""Numbers of views: their order, their distribution, and the images that they stand for."""

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from fathomlab.data.augment import apply_views, augment, unchanged_view, view_index
from fathomlab.data.table import num_views
from tests.unit.data.test_augment import CROP, FLIP, jumped

NAMES = [("flip",), ("crop",), ("flip", "crop")]


@pytest.mark.parametrize(("names", "count"), list(zip(NAMES, (2, 81, 162), strict=True)), ids=str)
def test_all_views_are_reached_and_equally_likely(names: tuple[str, ...], count: int) -> None:
    """Chi-square over 200,000 draws: images of one epoch, and epochs of one image."""
    assert num_views(names) == count
    draws = 200_000
    images = view_index(torch.tensor([3]), 5, torch.arange(draws)[None], names).flatten()
    epochs = [view_index(torch.tensor([3]), epoch, torch.tensor([[7]]), names).item() for epoch in range(3000)]
    for views in (images, torch.tensor(epochs)):
        counts = np.bincount(views.numpy(), minlength=count)
        expected = len(views) / count
        assert counts.shape == (count,)
        assert counts.min() > 0
        assert ((counts - expected) ** 2 / expected).sum() < chi2.ppf(0.9999, count - 1)


def test_view_index_is_a_function_of_the_bits_of_augment() -> None:
    """(flipped * 9 + down) * 9 + right, computed with Python integers."""
    seeds, index = (42, -7), torch.tensor([[0, 3, 49_999], [5, 3, 11]])
    views = view_index(torch.tensor(seeds), 4, index, ("flip", "crop"))
    for k, seed in enumerate(seeds):
        for n, image in enumerate(index[k].tolist()):
            bits = jumped(jumped(jumped(seed, CROP), 4), image)
            flipped = jumped(jumped(jumped(seed, FLIP), 4), image) >> 63
            down, right = (bits >> 32) * 9 >> 32, (bits & 0xFFFFFFFF) * 9 >> 32
            assert views[k, n].item() == (flipped * 9 + down) * 9 + right


@pytest.mark.parametrize("names", NAMES, ids=str)
def test_view_is_a_crop_of_the_padded_image_that_is_then_mirrored(names: tuple[str, ...]) -> None:
    """Every view of an image by slicing, for an image that is not square. Mirroring first gives other images."""
    image = torch.arange(1, 2 * 5 * 7 + 1, dtype=torch.uint8).reshape(2, 5, 7)
    count = num_views(names)
    views = apply_views(image.expand(1, count, -1, -1, -1), torch.arange(count)[None], names)[0]
    padded = torch.nn.functional.pad(image, (4, 4, 4, 4))
    mirrored_first = 0
    for number, view in enumerate(views):
        down, right = divmod(number % 81, 9) if "crop" in names else (4, 4)
        flipped = number >= (81 if "crop" in names else 1)
        crop = padded[:, down : down + 5, right : right + 7]
        assert torch.equal(view, crop.flip(-1) if flipped else crop)
        other = padded.flip(-1)[:, down : down + 5, right : right + 7]
        mirrored_first += flipped and not torch.equal(view, other)
    assert torch.equal(views[unchanged_view(names)], image)
    assert len({view.numpy().tobytes() for view in views}) == count
    assert mirrored_first == (72 if names == ("flip", "crop") else 0)


def test_augment_shows_the_view_of_its_number() -> None:
    images = torch.randint(1, 256, (2, 30, 3, 6, 5), dtype=torch.uint8)
    seeds, index = torch.tensor([1, 2]), torch.randint(0, 50_000, (2, 30))
    for names in NAMES:
        views = view_index(seeds, 3, index, names)
        assert torch.equal(augment(images, seeds, 3, index, names), apply_views(images, views, names))
