"""Augmentation against a naive reference, one image at a time, with Python integers as random bits."""

import pytest
import torch

from fathomlab.base.counter_rng import splitmix64, uniform
from fathomlab.data.augment import CROP, FLIP, augment, draw

MASK = 2**64 - 1


def splitmix(key: int, counter: int) -> int:
    """Output number `counter` of splitmix64 started at `key`."""
    state = key & MASK
    for _ in range(counter + 1):
        state = (state + 0x9E3779B97F4A7C15) & MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def jumped(key: int, counter: int) -> int:
    """The same without the loop, for large counters."""
    return splitmix((key + counter * 0x9E3779B97F4A7C15) & MASK, 0)


def naive(image: torch.Tensor, seed: int, epoch: int, index: int, names: tuple[str, ...]) -> torch.Tensor:
    """One image (c, h, w), pixel by pixel."""
    channels, height, width = image.shape
    down = right = 0
    padding = 4 if "crop" in names else 0
    if "crop" in names:
        bits = jumped(jumped(jumped(seed, CROP), epoch), index)
        down, right = (bits >> 32) * 9 >> 32, (bits & 0xFFFFFFFF) * 9 >> 32
    flipped = "flip" in names and jumped(jumped(jumped(seed, FLIP), epoch), index) >> 63 == 1
    result = torch.zeros_like(image)
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                from_y = y + down - padding
                from_x = (width - 1 - x if flipped else x) + right - padding
                if 0 <= from_y < height and 0 <= from_x < width:
                    result[c, y, x] = image[c, from_y, from_x]
    return result


@pytest.mark.parametrize("names", [("flip",), ("crop",), ("flip", "crop"), ("crop", "flip")])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_augment_equals_the_naive_reference(names: tuple[str, ...], dtype: torch.dtype) -> None:
    """Bit for bit, for two trials with different seeds and orders."""
    images = torch.randint(1, 256, (2, 12, 3, 6, 5)).to(dtype)
    seeds, index = torch.tensor([42, 7]), torch.randint(0, 50000, (2, 12))
    result = augment(images, seeds, 3, index, names)
    assert result.dtype == dtype
    for k in range(2):
        for n in range(12):
            twin = naive(images[k, n], int(seeds[k]), 3, int(index[k, n]), names)
            assert torch.equal(result[k, n], twin)


def test_augment_is_independent_of_batch_and_pack() -> None:
    images = torch.randint(0, 256, (3, 16, 1, 8, 8), dtype=torch.uint8)
    seeds, index = torch.tensor([1, 2, 3]), torch.arange(48).reshape(3, 16)
    full = augment(images, seeds, 9, index, ("flip", "crop"))
    alone = augment(images[1:2, 4:5], seeds[1:2], 9, index[1:2, 4:5], ("flip", "crop"))
    assert torch.equal(full[1:2, 4:5], alone)
    assert not torch.equal(full, augment(images, seeds, 10, index, ("flip", "crop")))


def test_half_are_flipped_and_offsets_are_uniform() -> None:
    """Within four standard deviations, over 90,000 draws."""
    index = torch.arange(90000)[None]
    flips = (draw(torch.tensor([5]), 0, index, FLIP) < 0).float().mean().item()
    assert abs(flips - 0.5) < 4 * (0.25 / 90000) ** 0.5
    bits = draw(torch.tensor([5]), 0, index, CROP)
    for half in (bits >> 32, bits):
        counts = torch.bincount(((half & 0xFFFFFFFF) * 9 >> 32).flatten(), minlength=9)
        assert counts.shape == (9,)
        assert (counts - 10000).abs().max() < 4 * (90000 * 8 / 81) ** 0.5


def test_augment_rejects_unknown_names() -> None:
    """With a suggestion. Without names nothing changes."""
    images, seeds, index = torch.ones(1, 1, 1, 4, 4), torch.tensor([0]), torch.tensor([[0]])
    assert augment(images, seeds, 0, index, ()) is images
    with pytest.raises(ValueError, match="'flip'"):
        augment(images, seeds, 0, index, ("flp",))


def test_mix_is_splitmix64() -> None:
    """Against Python integers, and the three published outputs for the seed 1234567."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [bits % 2**64 for bits in splitmix64(torch.tensor(1234567), torch.arange(3)).tolist()] == published
    for key in (0, 1, -1, 2**63 - 1, -(2**63)):
        expected = [splitmix(key, counter) for counter in range(20)]
        assert [bits % 2**64 for bits in splitmix64(torch.tensor(key), torch.arange(20)).tolist()] == expected


def test_mix_takes_plain_counters() -> None:
    """An integer is a counter like a tensor of one element."""
    for counter in (*range(50), FLIP, CROP, 2**62):
        assert torch.equal(splitmix64(torch.tensor([7]), counter), splitmix64(torch.tensor([7]), torch.tensor(counter)))


def test_uniform_covers_the_half_open_unit_interval() -> None:
    """24 bits, exact in float32."""
    numbers = uniform(splitmix64(torch.tensor(3), torch.arange(100000)))
    assert numbers.dtype == torch.float32
    assert 0 <= numbers.min() < 0.001
    assert 0.999 < numbers.max() < 1
    assert abs(numbers.mean().item() - 0.5) < 4 * (1 / 12 / 100000) ** 0.5
