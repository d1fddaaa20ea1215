"""A grid of numbers as an image with one pixel per number: a heatmap of a few kilobytes."""

import base64
import struct
import zlib
from collections.abc import Sequence

# viridis, dark to bright: readable on light and dark pages, in print, and with any color vision
STOPS = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725")
# purple to light gray to orange: a diverging scale for any color vision
APART = ("#4a2c9b", "#6a57b5", "#928bcb", "#bdb9dd", "#ececec", "#f3cfa2", "#e3a456", "#c87a1c", "#914d06")
SHADES = 255  # 0 is transparent: no number


def color(place: float, stops: Sequence[str] = STOPS) -> tuple[int, int, int]:
    """The color at a position between 0 and 1."""
    place = min(1.0, max(0.0, place)) * (len(stops) - 1)
    left = min(int(place), len(stops) - 2)
    pairs = zip(_rgb(stops[left]), _rgb(stops[left + 1]), strict=True)
    first, second, third = (round(a + (b - a) * (place - left)) for a, b in pairs)
    return first, second, third


def picture(rows: Sequence[Sequence[float | None]], low: float, high: float, stops: Sequence[str] = STOPS) -> str:
    """Draw a PNG as a data URI, first row on top. None is transparent.

    Args:
        rows: Rows of numbers, all of the same length.
        low: Number of the first color.
        high: Number of the last color; greater than `low`.
        stops: Colors from low to high, evenly spaced.
    """
    palette = bytes(3) + b"".join(bytes(color(place / (SHADES - 1), stops)) for place in range(SHADES))
    lines = b"".join(b"\0" + bytes(_shade(value, low, high) for value in row) for row in rows)
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 3, 0, 0, 0)
    chunks = (
        (b"IHDR", header),
        (b"PLTE", palette),
        (b"tRNS", b"\0"),
        (b"IDAT", zlib.compress(lines, 9)),
        (b"IEND", b""),
    )
    data = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)
    return "data:image/png;base64," + base64.b64encode(data).decode()


def _shade(value: float | None, low: float, high: float) -> int:
    if value is None:
        return 0
    place = min(1.0, max(0.0, (value - low) / (high - low)))
    return 1 + round(place * (SHADES - 1))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _rgb(code: str) -> tuple[int, int, int]:
    return int(code[1:3], 16), int(code[3:5], 16), int(code[5:7], 16)
