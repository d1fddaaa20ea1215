"""A grid of numbers as a picture of one pixel a number: a heat map of a few kilobytes."""

import base64
import struct
import zlib
from collections.abc import Sequence

# viridis at ninths: dark to bright, readable on light and dark, in print and with any colour vision
STOPS = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725")
# purple over light grey to orange: which of two is larger, told apart with any colour vision
APART = ("#4a2c9b", "#6a57b5", "#928bcb", "#bdb9dd", "#ececec", "#f3cfa2", "#e3a456", "#c87a1c", "#914d06")
SHADES = 255  # 0 is clear: no number


def colour(place: float, stops: Sequence[str] = STOPS) -> tuple[int, int, int]:
    """The colour at a place between 0 and 1."""
    place = min(1.0, max(0.0, place)) * (len(stops) - 1)
    left = min(int(place), len(stops) - 2)
    pairs = zip(_rgb(stops[left]), _rgb(stops[left + 1]), strict=True)
    first, second, third = (round(a + (b - a) * (place - left)) for a, b in pairs)
    return first, second, third


def picture(rows: Sequence[Sequence[float | None]], low: float, high: float, stops: Sequence[str] = STOPS) -> str:
    """A PNG as data URI, the first row on top; None is transparent.

    Args:
        rows: Equally long rows of numbers.
        low: The number that gets the first colour.
        high: The number that gets the last colour, above `low`.
        stops: Colours from low to high, evenly.
    """
    palette = bytes(3) + b"".join(bytes(colour(place / (SHADES - 1), stops)) for place in range(SHADES))
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
