"""Figures as SVG: what they contain, what they never contain, and that the caller's matplotlib is left alone."""

import base64
import io
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from PIL import Image

from fathomlab.analysis.statistics import Interval
from fathomlab.report.figures.depths import Cell, Series, depth_figure
from fathomlab.report.figures.heatmap import DIVERGING, Heatmap, heatmap_figure
from fathomlab.report.figures.lines import Line, line_figure
from fathomlab.report.figures.rows import Point, Row, row_figure
from fathomlab.report.figures.scales import linear_axis, log_axis, range_of
from fathomlab.report.figures.svg import VARIABLES, inline_svg
from fathomlab.report.page import write_report
from tests.helpers import stores

STYLE_SHEET = Path(write_report.__code__.co_filename).parent / "templates" / "style.css"
TAGS = {"svg", "title", "desc", "g", "defs", "clipPath", "rect", "path", "use", "text", "image"}
X, Y = linear_axis("epoch", 1, 5), linear_axis("loss (nats)", 0, 4)
HOSTILE = (
    "$x_1^2$ costs 5\\% of $\\alpha$",
    "$",
    "a_b^c{d}",
    "\\frac{1}{0}",
    "<script>alert(1)</script> & ]]> \"'",
    "nul\x00 bell\x07 escape\x1b[31m",
    "\ud800 lone",
    "\ufffe",
    "two\nlines\ttab",
    "\u202egnirts",
    "\U0001f600 \u6df1\u5ea6",
    "_hidden",
    "",
    " ",
)


def lines(count: int, name: str = "depth") -> list[Line]:
    """Lines that end apart from each other, with intervals and two seeds."""
    result: list[Line] = []
    for index in range(count):
        points = tuple((float(epoch), 0.5 * index + epoch / 5) for epoch in range(1, 6))
        intervals = tuple((x, value - 0.1, value + 0.1) for x, value in points)
        seeds = tuple(tuple((x, value + shift) for x, value in points) for shift in (-0.05, 0.05))
        result.append(Line(f"{name} {index}", points, intervals, seeds))
    return result


def parsed(figure: Any, name: str = "x-1") -> ElementTree.Element:
    """The SVG element of a figure."""
    return ElementTree.fromstring(inline_svg(figure, name, "Title", "A description of the figure."))


def texts(root: ElementTree.Element) -> list[str]:
    """All texts that are drawn."""
    return [element.text or "" for element in root.iter("text")]


def bands(root: ElementTree.Element, color: str) -> list[ElementTree.Element]:
    """The intervals that are drawn as bands."""
    return [use for use in root.iter("use") if use.get("fill") == color and use.get("fill-opacity") == "0.18"]


def settings_now() -> dict[str, Any]:
    """The settings of matplotlib, without the backend, which is chosen when it is read."""
    return {key: mpl.rcParams[key] for key in mpl.rcParams if key != "backend"}


def paths(root: ElementTree.Element, **attributes: str) -> list[ElementTree.Element]:
    """The paths with these attributes; an underscore stands for a hyphen."""
    wanted = {key.replace("_", "-"): value for key, value in attributes.items()}
    return [path for path in root.iter("path") if wanted.items() <= path.attrib.items()]


def test_lines_have_a_point_per_epoch_and_a_name():
    """Two lines: mean of five points, a band, two seeds each, names, and both labels."""
    root = parsed(line_figure(lines(2), X, Y))
    for variable in ("var(--s1)", "var(--s2)"):
        means = paths(root, stroke=variable, stroke_width="1.8")
        assert [path.attrib["d"].count("L") for path in means] == [4]
        assert len(bands(root, variable)) == 1
        (seeds,) = paths(root, stroke=variable, stroke_width="0.7")
        assert (seeds.attrib["d"].count("M"), seeds.attrib["d"].count("L")) == (2, 8)
    assert {"depth 0", "depth 1", "epoch", "loss (nats)", "1", "4"} <= set(texts(root))
    (second,) = paths(root, stroke="var(--s2)", stroke_width="1.8")
    assert second.attrib["stroke-dasharray"] == "6,3"


def test_many_lines_have_bars_in_place_of_bands():
    """More than three bands would cover each other; more than five names, too."""
    four, six = (parsed(line_figure(lines(count), X, Y)) for count in (4, 6))
    assert not bands(four, "var(--s1)")
    assert [len(paths(four, stroke=f"var(--s{number})", stroke_width="2.2")) for number in range(1, 5)] == [1] * 4
    assert "depth 3" in texts(four)
    assert "depth 3" not in texts(six)


def test_values_outside_the_axis_are_drawn_at_its_end():
    """No mark leaves the figure, also on a logarithmic axis."""
    wild = Line("wild", ((1.0, -1e9), (2.0, 1e9), (5.0, 1.0)), ((1.0, -1e9, 1e9),), (((1.0, 1e30), (5.0, 1e-30)),))
    for axis in (Y, log_axis("loss (nats)", 0.1, 10)):
        root = parsed(line_figure([wild], X, axis))
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        (band,) = bands(root, "var(--s1)")
        assert band.get("y") == f"{height:g}"
        for path in paths(root, stroke="var(--s1)"):
            numbers = [float(word) for word in path.attrib["d"].split() if word not in "MLCQzZ"]
            assert all(0 <= x <= width for x in numbers[::2])
            assert all(27.9 <= y <= height - 39.9 for y in numbers[1::2])


@pytest.mark.parametrize(
    "values", [(1.7e308, -1.7e308), (5e-324, 1.7e308), (0.0, 0.0), (1.0, 1.0 + 2e-16), (3e38, 1e-45)]
)
def test_extreme_numbers_are_drawn(values: tuple[float, float]):
    """Losses that explode, vanish, or do not change; warnings are errors here."""
    line = Line("a", ((1.0, values[0]), (5.0, values[1])))
    axes = [linear_axis("loss", *range_of(values))]
    axes += [log_axis("loss", min(values), max(values))] if min(values) > 0 else []
    for axis in axes:
        (path,) = paths(parsed(line_figure([line], X, axis)), stroke="var(--s1)", stroke_width="1.8")
        assert path.attrib["d"].count("L") == 1
        assert len(axis.ticks) >= 1


def test_names_of_overlapping_lines_do_not_overlap():
    """Four lines at the same height, and four that end at the same inner point."""
    flat = [Line(f"n{index}", ((1.0, 2.0), (end, 2.0))) for end in (5.0, 3.0) for index in range(4)][:5]
    root = parsed(line_figure(flat, X, Y))
    at = [
        (float(text.attrib["x"]), float(text.attrib["y"])) for text in root.iter("text") if (text.text or "")[0] == "n"
    ]
    assert len(at) == 5
    for index, (x, y) in enumerate(at):
        assert all(abs(x - other[0]) > 15 or abs(y - other[1]) > 11 for other in at[index + 1 :])


def test_rows_have_dots_means_bars_and_crosses():
    """A dot per seed, a cross for a diverged one, an interval of the right length, a bar, and a prediction."""
    mean = Interval(5.0, 4.0, 6.0, 3)
    points = (Point(4.5), Point(5.0), Point(0.0, diverged=True))
    rows = [Row("one", points, mean, note="1 of 3 failed"), Row("two", bar=8.0, predicted=2.0)]
    root = parsed(row_figure(rows, linear_axis("points", 0, 10), zero=True, dashed=(7.0,)))
    uses = [use for use in root.iter("use") if use.get("fill") == "var(--s1)"]
    assert len(uses) == 4
    (interval,) = paths(root, stroke="var(--s1)", stroke_width="2.2")
    start, end = (float(interval.attrib["d"].split()[index]) for index in (1, 4))
    ticks = [use for use in root.iter("use") if use.get("stroke") == "var(--rule)"]
    scale = (float(ticks[-1].attrib["x"]) - float(ticks[0].attrib["x"])) / 10
    assert end - start == pytest.approx(2 * scale, abs=0.1)
    assert len(paths(root, stroke_dasharray="4,3")) == 1
    assert len([use for use in root.iter("use") if use.get("stroke") == "var(--s2)"]) == 1
    assert {"one", "two", "1 of 3 failed", "points"} <= set(texts(root))


def test_marks_of_one_look_share_a_group():
    """Their color is written once; two marks of another color stay outside."""
    points = tuple(Point(float(value)) for value in range(1, 8))
    root = parsed(row_figure([Row("one", points), Row("two", points[:2], series=1)], linear_axis("points", 0, 10)))
    (group,) = (group for group in root.iter("g") if group.get("fill") == "var(--s1)")
    assert [mark.tag for mark in group] == ["use"] * 7
    assert all(set(mark.attrib) == {"href", "x", "y"} for mark in group)
    assert len([use for use in root.iter("use") if use.get("fill") == "var(--s2)"]) == 2


def test_depths_have_every_seed_and_one_name_per_series():
    """Two series of three depths with two seeds each."""
    cells = tuple(Cell(depth, (90.0, 91.0), Interval(90.5, 90.0, 91.0, 2)) for depth in range(3))
    root = parsed(
        depth_figure([Series("plain", cells), Series("residual", cells)], [5, 10, 20], linear_axis("%", 80, 100))
    )
    dots = [use for use in root.iter("use") if use.get("fill-opacity") == "0.45" or use.get("opacity") == "0.45"]
    assert len(dots) == 12
    assert {"plain", "residual", "5", "10", "20", "depth (layers)"} <= set(texts(root))


def test_heatmap_has_a_pixel_per_number():
    """Size, a transparent pixel for None, the ends of the scale, and clipped numbers."""
    rows = ((0.0, None, 10.0), (5.0, -99.0, 99.0))
    heatmap = Heatmap(rows, ("input", "output"), ("init", "step 1", "epoch 1"), 0, 10, ((0.0, "1"), (10.0, "10")), True)
    root = parsed(heatmap_figure(heatmap))
    image, scale = root.iter("image")
    assert image.attrib["image-rendering"].endswith("pixelated")
    pixels = Image.open(io.BytesIO(base64.b64decode(image.attrib["href"].split(",", 1)[1]))).convert("RGBA")
    assert pixels.size == (3, 2)
    colors = [pixels.getpixel((x, y)) for y in (0, 1) for x in range(3)]
    low, middle, high = ((*bytes.fromhex(DIVERGING[index][1:]), 255) for index in (0, 4, 8))
    assert colors[1][3] == 0  # type: ignore[index]
    assert [colors[0], colors[4], colors[2], colors[5]] == [low, low, high, high]
    assert all(abs(a - b) < 4 for a, b in zip(colors[3], middle, strict=True))  # type: ignore[arg-type]
    assert scale.attrib["href"].startswith("data:image/png;base64,")
    assert {"input", "output", "init", "step 1", "1", "10", "epoch"} <= set(texts(root))


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_labels_are_drawn_as_they_are(text: str):
    """No mathematics, markup, or crash; characters that XML forbids are replaced. Warnings are errors here."""
    shown = "".join("\ufffd" if ord(c) < 32 or c in "\ud800\ufffe" else c for c in " ".join(text.split()))
    drawings = (
        line_figure([Line(text, ((1.0, 1.0), (5.0, 2.0))), Line("other", ((1.0, 2.0),))], linear_axis(text, 1, 5), Y),
        row_figure([Row(text, (Point(1.0),), note=text)], linear_axis(text, 0, 2), width=900),
        heatmap_figure(Heatmap(((1.0,),), (text,), (text,), 0, 1, ((0.0, text),)), width=900),
    )
    for figure in drawings:
        root = ElementTree.fromstring(inline_svg(figure, "x", text, text))
        assert (root.find("title").text or "", root.find("desc").text or "") == (shown, shown)  # type: ignore[union-attr]
        assert not shown or any(shown.startswith(drawn.split("\u2026")[0]) and drawn for drawn in texts(root))
        assert {element.tag for element in root.iter()} <= TAGS


def test_svg_has_no_addresses_and_prefixed_ids():
    """Ids start with the name; references lead to them; no namespace, date, or style is left."""
    svg = inline_svg(line_figure(lines(2), X, Y, marks=True), "loss-1", "<b>", 'a "c"')
    root = ElementTree.fromstring(svg)
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    references = {use.attrib["href"][1:] for use in root.iter("use")} | set(re.findall(r"url\(#([^)]+)\)", svg))
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"loss-1-(\d+|t|d)", id_) for id_ in ids)
    assert references
    assert references <= set(ids)
    assert set(ids) - references == {"loss-1-t", "loss-1-d"}
    assert not re.search(r"https?:|xmlns|<style|<metadata|DejaVu|url\((?!#)", svg)
    assert '<title id="loss-1-t">&lt;b&gt;</title>' in svg


def test_colors_are_those_of_the_light_theme():
    """A figure in a notebook looks like the page, and each color has its variable."""
    light = STYLE_SHEET.read_text().split("@media", 1)[0]
    for color, variable in VARIABLES.items():
        assert f"{variable[4:-1]}:{color};" in light, variable
    svg = inline_svg(line_figure(lines(2), X, Y), "x", "t", "d")
    assert not re.search(r"#[0-9a-f]{6}", svg)


def test_settings_of_the_caller_are_ignored_and_kept():
    """Whatever a notebook has set, the bytes are equal, and its settings are as before."""
    before = inline_svg(line_figure(lines(3), X, Y), "x", "t", "d")
    settings = {
        "font.size": 40,
        "svg.fonttype": "path",
        "axes.grid": False,
        "axes.labelsize": 30,
        "xtick.labelsize": 30,
        "path.simplify_threshold": 1.0,
        "text.parse_math": True,
    }
    with mpl.rc_context(settings):
        noted = settings_now()
        assert inline_svg(line_figure(lines(3), X, Y), "x", "t", "d") == before
        assert settings_now() == noted


def test_figure_can_be_saved_by_the_caller():
    """The function returns a matplotlib figure with the colors of the light theme; inlining leaves it unchanged."""
    figure = line_figure(lines(2), X, Y)
    first, second = io.BytesIO(), io.BytesIO()
    figure.savefig(first, format="png")
    inline_svg(figure, "x", "t", "d")
    figure.savefig(second, format="png")
    assert first.getvalue() == second.getvalue()
    assert Image.open(first).convert("RGB").getpixel((0, 0)) == (0xFC, 0xFC, 0xFA)


def test_threads_draw_the_same_bytes():
    """Eight threads at once, while the settings are shared by the process."""
    expected = [inline_svg(line_figure(lines(count), X, Y), "x", "t", "d") for count in range(1, 9)]
    noted = settings_now()
    results: dict[int, str] = {}

    def draw(count: int) -> None:
        results[count] = inline_svg(line_figure(lines(count), X, Y), "x", "t", "d")

    threads = [threading.Thread(target=draw, args=(count,)) for count in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[count] for count in range(1, 9)] == expected
    assert settings_now() == noted


def run(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a fresh process."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | environment)


WRITE = (
    "import sys, pathlib\nfrom fathomlab.report.page import write_report\nfrom fathomlab.store.reading import Store\n"
    "path = write_report(Store(pathlib.Path(sys.argv[1])), sys.argv[2])\n"
    "assert 'matplotlib.pyplot' not in sys.modules\n"
)


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["plan", "1_1"], ["data", "list"]])
def test_commands_without_figures_do_not_import_matplotlib(tmp_path: Path, arguments: list[str]):
    """It takes 0.4 s, so only a page with figures imports it."""
    stores.write_blocks(tmp_path, seeds=1, epochs=2)
    code = (
        "import sys\nfrom fathomlab.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\nassert 'matplotlib' not in sys.modules"
    )
    done = run(code, *arguments, FATHOMLAB_RUNS=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_page_without_figures_does_not_import_matplotlib(tmp_path: Path):
    """An experiment without results has no figure."""
    trials = [(0, stores.write_trial(tmp_path, "x", {}, 0, 0.5, status="failed", cause="no memory", epochs=0))]
    (tmp_path / "trials" / trials[0][1] / "metrics.jsonl").unlink()
    stores.write_experiment(tmp_path, "x", "Nothing", [stores.condition("", {}, None, trials)], seeds=[0])
    done = run(WRITE + "assert 'matplotlib' not in sys.modules", str(tmp_path), "x")
    assert done.returncode == 0, done.stderr
