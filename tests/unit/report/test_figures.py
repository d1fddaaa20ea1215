"""The parts of a figure: thinning, images of numbers, SVG size, and numbers and tables as text."""

import base64
import csv
import io
import struct
import zlib
from urllib.parse import unquote

import pytest

from fathomlab.analysis.statistics import Interval
from fathomlab.base.labels import format_factor_level
from fathomlab.report.curves import thinned
from fathomlab.report.figures import slimmed
from fathomlab.report.grids import spread
from fathomlab.report.numbers import count, duration, grouped, percent, plain, signed, span
from fathomlab.report.pixels import color, picture
from fathomlab.report.tables import table


def test_thinning_keeps_ends_and_spikes():
    """A spike of one epoch among ten thousand survives; few points are left as they are."""
    points = [(epoch, 100.0 if epoch == 7321 else -5.0 if epoch == 44 else epoch / 1e4) for epoch in range(10_000)]
    kept = thinned(points, 400)
    assert 200 < len(kept) <= 400
    assert {points[0], points[-1], (7321, 100.0), (44, -5.0)} <= set(kept)
    assert kept == sorted(kept)
    assert thinned(points[:400], 400) == points[:400]


def test_a_spread_keeps_the_start_and_the_end():
    """Initialization, first step and last epoch are always among the snapshots."""
    assert spread(5, 8) == [0, 1, 2, 3, 4]
    chosen = spread(202, 52)
    assert (chosen[:2], chosen[-1], len(chosen)) == ([0, 1], 201, 52)


def test_a_picture_has_a_pixel_for_each_number():
    """Decoded by hand: size, the clear shade for None, the first and the last shade at the ends of the scale."""
    data = base64.b64decode(picture([[0.0, None, 10.0], [5.0, -99.0, 99.0]], 0.0, 10.0).split(",", 1)[1])
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks: dict[bytes, bytes] = {}
    place = 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        kind, content = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        assert struct.unpack(">I", data[place + 8 + length : place + 12 + length])[0] == zlib.crc32(kind + content)
        chunks[kind] = content
        place += 12 + length
    assert struct.unpack(">II", chunks[b"IHDR"][:8]) == (3, 2)
    assert zlib.decompress(chunks[b"IDAT"]) == bytes([0, 1, 0, 255, 0, 128, 1, 255])
    assert chunks[b"tRNS"] == b"\0"
    assert tuple(chunks[b"PLTE"][3:6]) == color(0) == (0x44, 0x01, 0x54)
    assert tuple(chunks[b"PLTE"][-3:]) == color(1) == (0xFD, 0xE7, 0x25)


def test_an_svg_is_renamed_rounded_and_described():
    """Counters of the process go, titles are escaped, coordinates keep a tenth; text keeps its digits."""
    raw = (
        '<svg xmlns="http://www.w3.org/2000/svg" class="marks" width="10" viewBox="0 0 100 50">'
        '<clipPath id="clip41"><rect x="0"/></clipPath><g clip-path="url(#clip41)" role="x" aria-label="y">'
        '<path d="M1.23456,2.98765L-0.01,3"/><text font-family="sans-serif">0.12345</text></g></svg>'
    )
    made = slimmed(raw, "loss-1", "<b>", 'a "c"')
    again = slimmed(raw.replace("clip41", "clip77"), "loss-1", "<b>", 'a "c"')
    assert made == again
    assert made == (
        '<svg viewBox="0 0 100 50" style="max-width:125px" role="img" aria-labelledby="loss-1-t loss-1-d">'
        '<title id="loss-1-t">&lt;b&gt;</title><desc id="loss-1-d">a &#34;c&#34;</desc>'
        '<clipPath id="loss-1-1"><rect x="0"/></clipPath><g clip-path="url(#loss-1-1)">'
        '<path d="M1.2,3L0,3"/><text>0.12345</text></g></svg>'
    )


def test_numbers_have_signs_units_and_commas():
    """Signs, no minus zero, percentages, durations, thousands."""
    assert [signed(value) for value in (0.5, -0.5, -0.001, 0.0)] == ["+0.50", "\u22120.50", "0.00", "0.00"]
    assert [plain(value) for value in (-0.001, -1.5, None)] == ["0.00", "-1.50", ""]
    assert percent(0.98126) == "98.13"
    assert span(Interval(1.0, -0.5, 2.5, 3)) == "\u22120.50 to +2.50"
    assert span(Interval(1.0, None, None, 1)) == ""
    assert [duration(value) for value in (2.345, 59.6, 125, 7800, None)] == [
        "2.3 s",
        "60 s",
        "2 min 5 s",
        "2 h 10 min",
        "",
    ]
    assert (count(1, "trial"), count(2, "trial")) == ("1\u00a0trial", "2\u00a0trials")
    assert (grouped("21282122"), grouped("-3.5")) == ("21,282,122", "-3.5")
    assert count(1200, "trial") == "1,200\u00a0trials"


@pytest.mark.parametrize(
    ("key", "level", "expected"),
    [
        ("model.params.residual", False, "plain"),
        ("model.params.residual", True, "residual"),
        ("model.params.layers_dim", 32, "width 32"),
        ("model.params.layers", [3, 4, 6, 3], "blocks 3-4-6-3"),
        ("model.params.batch_norm", True, "batch norm on"),
        ("training.optimizer", "SGD", "optimizer SGD"),
    ],
)
def test_word_names_a_level(key: str, level: object, expected: str):
    """Readable names of factors and levels."""
    assert format_factor_level(key, level) == expected


def test_a_csv_address_decodes_to_the_table():
    """Commas, quotes, newlines, markup and letters beyond ASCII come back."""
    rows = [['a,"b"', "1.5"], ["<i>\n#?&%41", "\u00e9\u2028"]]
    made = table("t", ["x", "y"], rows)
    head, content = made.data_uri.split(",", 1)
    assert head == "data:text/csv;charset=utf-8"
    assert not set(content) & set(' "<>#%&?\n') - {"%"}
    assert list(csv.reader(io.StringIO(unquote(content), newline=""))) == [["x", "y"], *rows]
