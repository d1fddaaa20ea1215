"""Renders the images of the dataset `shapes` with integers only, so that they have the same bytes on every machine."""

from collections.abc import Callable

import numpy as np

SIDE = 32
CLUTTER = 6
Ints = np.ndarray
MASKS: tuple[Callable[[Ints, Ints, Ints], np.ndarray], ...] = (
    lambda x, y, r: x * x + y * y <= r * r,
    lambda x, y, r: (x * x + y * y <= r * r) & (3 * (x * x + y * y) >= r * r),
    lambda x, y, r: 8 * np.maximum(abs(x), abs(y)) <= 7 * r,
    lambda x, y, r: (8 * np.maximum(abs(x), abs(y)) <= 7 * r) & (2 * np.maximum(abs(x), abs(y)) >= r),
    lambda x, y, r: (2 * abs(x) <= y + r) & (y <= r),
    lambda x, y, r: (3 * np.minimum(abs(x), abs(y)) <= r) & (np.maximum(abs(x), abs(y)) <= r),
    lambda x, y, r: (np.maximum(abs(x), abs(y)) <= r) & _odd(y, r),
    lambda x, y, r: (np.maximum(abs(x), abs(y)) <= r) & _odd(x, r),
    lambda x, y, r: (np.maximum(abs(x), abs(y)) <= r) & (_odd(x, r) ^ _odd(y, r)),
    lambda x, y, r: abs(x) + abs(y) <= r,
)


def render_images(index: np.ndarray, level: int) -> np.ndarray:
    """Return the images with these indices, uint8 (n, 3, 32, 32), at a difficulty of `level`/256.

    An image depends only on its index and the level. Coordinates are doubled: a center may be between pixels.
    """
    grid = 2 * np.arange(SIDE, dtype=np.int32) + 1 - SIDE
    x, y = grid[None, None, :], grid[None, :, None]
    radius = 24 - _below(index, 0, 1 + (10 * level >> 8))
    reach = 2 * ((30 - radius) * level >> 8) + 1
    across, down = (_below(index, purpose, reach) - reach // 2 for purpose in (1, 2))
    dx, dy = x - across[:, None, None], y - down[:, None, None]
    mask = np.empty((len(index), SIDE, SIDE), bool)
    for label, draw in enumerate(MASKS):
        selected = index % len(MASKS) == label
        mask[selected] = draw(dx[selected], dy[selected], radius[selected, None, None])
    background, shape = _colors(index, level)
    canvas = np.empty((len(index), 3, SIDE, SIDE), np.int16)
    canvas[:] = background[:, :, None, None]
    slope = [(_below(index, purpose, 2 * level + 1) - level)[:, None, None] for purpose in (3, 4)]
    canvas += ((slope[0] * x + slope[1] * y) >> 8).astype(np.int16)[:, None]
    _clutter(canvas, index, level)
    np.copyto(canvas, shape[:, :, None, None], where=mask[:, None])
    canvas += (_noise(index) * (3 * level >> 4)) >> 8
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _odd(offset: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Stripes: five across a diameter."""
    return (5 * (offset + radius) // (2 * radius)) & 1 == 0


def _colors(index: np.ndarray, level: int) -> tuple[np.ndarray, np.ndarray]:
    """Colors (n, 3) of background and shape. Each channel of the shape is lighter or darker by the same contrast."""
    contrast = 96 - (56 * level >> 8)
    background = np.stack([64 + _below(index, 10 + channel, 128) for channel in range(3)], axis=1)
    lighter = np.stack([_below(index, 13 + channel, 2) for channel in range(3)], axis=1)
    lighter = np.where(background < contrast, 1, np.where(background > 255 - contrast, 0, lighter))
    return background.astype(np.int16), (background + (2 * lighter - 1) * contrast).astype(np.int16)


def _clutter(canvas: np.ndarray, index: np.ndarray, level: int) -> None:
    """Small rectangles of other colors behind the shape."""
    x = np.arange(SIDE, dtype=np.int32)
    counts = _below(index, 20, 1 + (CLUTTER * level >> 8))
    for rectangle in range(CLUTTER * level >> 8):
        left, top, width, height, *color = (_below(index, 30 + 8 * rectangle + draw, SIDE) for draw in range(7))
        inside_x = (x >= left[:, None]) & (x <= (left + 1 + width // 6)[:, None])
        inside_y = (x >= top[:, None]) & (x <= (top + 1 + height // 6)[:, None])
        mask = inside_y[:, :, None] & inside_x[:, None, :] & (rectangle < counts)[:, None, None]
        paint = (8 * np.stack(color, axis=1)).astype(np.int16)
        np.copyto(canvas, paint[:, :, None, None], where=mask[:, None])


def _noise(index: np.ndarray) -> np.ndarray:
    """Even integers from -256 to 254, as int16 (n, 3, 32, 32), from one random byte each."""
    words = 3 * SIDE * SIDE // 8
    counter = (index.astype(np.uint64)[:, None] << np.uint64(16)) + np.arange(words, dtype=np.uint64)
    octets = _bits(counter + (np.uint64(1) << np.uint64(48))).astype("<u8").view(np.uint8)
    return 2 * (octets.astype(np.int16) - 128).reshape(-1, 3, SIDE, SIDE)


def _below(index: np.ndarray, purpose: int, limit: int | np.ndarray) -> np.ndarray:
    """An integer from 0 to limit - 1 per image, as int32."""
    bits = _bits((index.astype(np.uint64) << np.uint64(16)) + np.uint64(purpose)) >> np.uint64(32)
    return ((bits * np.asarray(limit).astype(np.uint64)) >> np.uint64(32)).astype(np.int32)


def _bits(counter: np.ndarray) -> np.ndarray:
    """64 random bits per counter: the output function of splitmix64."""
    bits = (counter + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
