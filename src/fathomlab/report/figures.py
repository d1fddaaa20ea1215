"""Render Vega-Lite specifications as inline SVG: small, without JavaScript, and byte-identical for equal data.

The specifications are plain mappings, because building them with a library takes longer than rendering them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from markupsafe import Markup, escape

from fathomlab.report.merging import merged
from fathomlab.report.tables import Table

COLORS = tuple(f"var(--s{place})" for place in range(1, 9))
DASHES: tuple[tuple[int, ...], ...] = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3), (4, 2), (1, 3), (10, 4), (3, 1))
SHAPES = ("circle", "triangle-up", "square", "diamond", "triangle-down", "cross", "triangle-left", "triangle-right")
WIDTH = 280
PADDING = {"left": 6, "right": 6, "top": 3, "bottom": 3}
MOST_LINES = len(COLORS)
CONFIG: dict[str, Any] = {
    "aria": False,
    "background": None,
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "gridColor": "var(--grid)",
        "domainColor": "var(--rule)",
        "tickColor": "var(--rule)",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "labelFlush": False,
        "tickSize": 4,
    },
    "axisY": {"domain": False, "ticks": False, "labelPadding": 6, "title": None, "tickCount": 5},
    "axisX": {"grid": False, "titlePadding": 6},
}
TAG = re.compile(r"<[^>]+>")
NUMBER = re.compile(r"-?\d+\.\d{2,}")
DROPPED = re.compile(
    r' (?:class|role|aria-[a-z]+|pointer-events|font-family|xmlns(?::\w+)?|version|display)="[^"]*"'
    r'| stroke-miterlimit="10"| opacity="1"| stroke-width="1"'
)
USUAL = re.compile(r' fill="var\(--muted\)"| font-size="11px"')  # defaults of the style sheet
INVISIBLE = re.compile(r'<path d="(?:M0,0h0v0h0Z)?"/>|<path d="M[\d.,]+h[\d.]+v[\d.]+h-[\d.]+Z"/>|<g></g>')
REFERENCE = re.compile(r'(id="|url\(#|href="#)(clip\d+|gradient_\d+)')
UNDRAWABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
HEAD = re.compile(r'^<svg[^>]*viewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*>')


@dataclass(frozen=True)
class Key:
    """A legend entry: a text with its color, and the dash, shape, or width that distinguishes it without color."""

    text: str
    color: str
    dash: str = ""
    shape: str = ""
    broad: bool = False


@dataclass(frozen=True)
class Figure:
    """A figure with its legend and its data as a table."""

    name: str
    title: str
    description: str
    svg: Markup
    table: Table
    keys: tuple[Key, ...] = ()


def channel(values: Sequence[Any], count: int) -> dict[str, Any]:
    """The encoding that gives group number `g` its color, dash, or shape."""
    scale = {"domain": list(range(count)), "range": list(values[:count])}
    return {"field": "g", "type": "nominal", "legend": None, "scale": scale}


def line_keys(texts: Sequence[str]) -> tuple[Key, ...]:
    """The legend of lines, distinguished by color and dash."""
    return tuple(Key(text, COLORS[i], dash=",".join(map(str, DASHES[i]))) for i, text in enumerate(texts))


def point_keys(texts: Sequence[str]) -> tuple[Key, ...]:
    """The legend of points, distinguished by color and shape."""
    return tuple(Key(text, COLORS[i], shape=SHAPES[i]) for i, text in enumerate(texts))


def drawn(name: str, title: str, description: str, spec: dict[str, Any]) -> Markup:
    """Render a specification as SVG. Its ids start with `name`; title and description are for screen readers."""
    import vl_convert  # takes 0.5 s to import, so pages without figures skip it

    svg = vl_convert.vegalite_to_svg({"width": WIDTH, "config": CONFIG, "padding": PADDING, **drawable(spec)})
    return slimmed(svg, name, title, description)


def drawable(value: Any) -> Any:
    """Replace characters that SVG does not allow. The renderer aborts the process on control characters."""
    if isinstance(value, str):
        return UNDRAWABLE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, dict):
        return {drawable(key): drawable(item) for key, item in cast(dict[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        return [drawable(item) for item in cast(list[Any], value)]
    return value


def slimmed(svg: str, name: str, title: str, description: str) -> Markup:
    """Remove from a Vega SVG what a page does not need; rename ids; round coordinates to a tenth of a pixel."""
    svg = TAG.sub(lambda tag: _slim(tag[0]), svg)
    numbers: dict[str, str] = {}
    svg = REFERENCE.sub(lambda found: found[1] + numbers.setdefault(found[2], f"{name}-{len(numbers) + 1}"), svg)
    svg = merged(INVISIBLE.sub("", svg.replace("xlink:href=", "href=")))
    size = HEAD.match(svg)
    assert size is not None, "the renderer gave no picture"
    head = (
        f'<svg viewBox="0 0 {size[1]} {size[2]}" style="max-width:{float(size[1]) * 1.25:.0f}px" role="img" '
        f'aria-labelledby="{name}-t {name}-d"><title id="{name}-t">{escape(title)}</title>'
        f'<desc id="{name}-d">{escape(description)}</desc>'
    )
    return Markup(head + svg[size.end() :])


def _slim(tag: str) -> str:
    tag = NUMBER.sub(_tenth, DROPPED.sub("", tag))
    return USUAL.sub("", tag) if tag.startswith("<text") else tag


def _tenth(found: re.Match[str]) -> str:
    text = f"{float(found[0]):.1f}".removesuffix(".0")
    return "0" if text == "-0" else text
