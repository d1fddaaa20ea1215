# pyright: strict, reportUnknownMemberType=false
"""A matplotlib figure as inline SVG for a page: it follows light and dark, and equal figures give equal bytes."""

import io
from itertools import groupby
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from markupsafe import Markup

from fathomlab.report.figures.hover import move_texts
from fathomlab.report.figures.scales import FONT_SIZE
from fathomlab.report.figures.style import COLORS, GRID, INK, MUTED, PAPER, RULE, style, visible_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VARIABLES = {color: f"var(--s{number})" for number, color in enumerate(COLORS, start=1)} | {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    GRID: "var(--grid)",
    PAPER: "var(--paper)",
}
# Values of the style sheet, which need no attribute.
USUAL = {
    ("text", "fill"): "var(--muted)",
    ("text", "font-size"): f"{FONT_SIZE}px",
    ("text", "text-anchor"): "start",
}
DROPPED = frozenset({"font-family", "stroke-linejoin", "stroke-miterlimit", "version", "preserveAspectRatio"})
COORDINATES = ("d", "x", "y", "width", "height", "cx", "cy", "r")
DIGITS = 2


def inline_svg(figure: "Figure", name: str, title: str, description: str, kind: str = "") -> Markup:
    """The SVG element of a figure.

    Args:
        figure: The figure; unchanged afterwards.
        name: Unique on the page; all ids start with it.
        title: Name of the figure for screen readers.
        description: What the figure shows, for screen readers.
        kind: CSS class of the element.
    """
    target = io.StringIO()
    with style():
        import matplotlib as mpl

        with mpl.rc_context({"svg.hashsalt": name}):
            nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            figure.savefig(target, format="svg", transparent=True, metadata=nothing)
    root = ElementTree.fromstring(target.getvalue())
    box = root.attrib["viewBox"]
    width = float(box.split()[2])
    move_texts(root)
    _rename_ids(root, name)
    for element in root.iter():
        _simplify(element)
    _remove_invisible(root)
    _group_marks(root)
    attributes = {"viewBox": box, "style": f"max-width:{width * 1.2:.0f}px", "role": "img"}
    attributes |= {"class": kind} if kind else {}
    svg = ElementTree.Element("svg", attributes | {"aria-labelledby": f"{name}-t {name}-d"})
    for tag, text in (("title", title), ("desc", description)):
        ElementTree.SubElement(svg, tag, {"id": f"{name}-{tag[0]}"}).text = visible_text(text)
    svg.extend(root)
    return Markup(ElementTree.tostring(svg, encoding="unicode"))


def _rename_ids(root: ElementTree.Element, name: str) -> None:
    """Number the ids that something refers to; the others would repeat on a page."""
    numbers: dict[str, str] = {}
    for element in root.iter():
        for key, value in element.attrib.items():
            reference = value.removeprefix("url(").removesuffix(")")
            if reference.startswith("#") and key != "id" and (key.endswith("href") or reference != value):
                new = numbers.setdefault(reference[1:], f"{name}-{len(numbers) + 1}")
                element.set(key, value.replace(reference, f"#{new}"))
    for element in root.iter():
        old = element.attrib.pop("id", "")
        if old in numbers:
            element.set("id", numbers[old])


def _simplify(element: ElementTree.Element) -> None:
    """Names without namespaces, attributes in place of `style`, CSS variables for colors, and short numbers."""
    element.tag = element.tag.rpartition("}")[2]
    element.tail = None
    if element.tag not in ("text", "title"):
        element.text = None
    attributes = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
    for item in attributes.pop("style", "").split(";"):
        key, _, value = item.partition(":")
        if key.strip():
            attributes[key.strip()] = VARIABLES.get(value.strip(), value.strip())
    if "font" in attributes:  # older versions of matplotlib: "12px 'DejaVu Sans', ..."
        attributes["font-size"] = next(word for word in attributes.pop("font").split() if word.endswith("px"))
    for key in COORDINATES:
        if key in attributes:
            attributes[key] = " ".join(map(_short, attributes[key].split()))
    if attributes.get("transform", "").startswith("rotate(-0 "):
        del attributes["transform"]
    element.attrib.clear()
    for key, value in attributes.items():
        if key not in DROPPED and USUAL.get((element.tag, key)) != value:
            element.set(key, value)


def _short(word: str) -> str:
    """A number of a path with at most two decimals; letters as they are."""
    try:
        number = float(word)
    except ValueError:
        return word
    text = f"{number:.{DIGITS}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _remove_invisible(parent: ElementTree.Element) -> None:
    """Remove what is not drawn, and replace groups without attributes by their content."""
    for child in list(parent):
        _remove_invisible(child)
        position = list(parent).index(child)
        if _is_invisible(child):
            parent.remove(child)
        elif child.tag == "g" and not child.attrib:
            parent.remove(child)
            for offset, inner in enumerate(child):
                parent.insert(position + offset, inner)


def _group_marks(root: ElementTree.Element) -> None:
    """Move the look of marks that follow each other into a group, which makes figures with many seeds small."""
    for parent in list(root.iter()):
        runs = groupby(list(parent), lambda child: _look(child) if child.tag == "use" else None)
        for look, run in [(look, list(run)) for look, run in runs if look]:
            if len(run) < 3:
                continue
            group = ElementTree.Element("g", dict(look))
            parent.insert(list(parent).index(run[0]), group)
            for mark in run:
                parent.remove(mark)
                for key, _ in look:
                    del mark.attrib[key]
                group.append(mark)


def _look(mark: ElementTree.Element) -> tuple[tuple[str, str], ...]:
    return tuple((key, value) for key, value in mark.attrib.items() if key not in ("href", "x", "y"))


def _is_invisible(element: ElementTree.Element) -> bool:
    if element.tag == "path":
        return "id" not in element.attrib and element.get("fill") == "none" and element.get("stroke", "none") == "none"
    return element.tag in ("metadata", "style") or (element.tag in ("g", "defs") and not len(element))
