# pyright: strict, reportUnknownMemberType=false
"""Every chart of a page as files for papers and slides: SVG, PNG, and PDF, with title and legend on a white background."""

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast
from xml.etree import ElementTree

from fathomlab.analysis.audit import audit
from fathomlab.analysis.study import Study
from fathomlab.analysis.verdicts import judge
from fathomlab.base.files import atomic_write
from fathomlab.report.charts import Chart
from fathomlab.report.figures.hover import move_texts
from fathomlab.report.figures.joined import DPI, joined_figure
from fathomlab.report.figures.style import style, visible_text
from fathomlab.report.plots import panel
from fathomlab.report.section import Section
from fathomlab.report.sections import SECTIONS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("svg", "png", "pdf")
SVG = "http://www.w3.org/2000/svg"


def write_figures(study: Study, folder: Path) -> tuple[Path, ...]:
    """Write each chart of the page of an experiment, named as on the page; equal records give equal bytes.

    Args:
        study: The experiment.
        folder: Where the files go; created if needed. Files of the same names are replaced.
    """
    verdicts, audits = ((), ()) if study.problems else (judge(study), audit(study))
    sections = [section for build in SECTIONS if (section := build(study, verdicts, audits)) is not None]
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for chart in charts(sections):
        for suffix, data in figure_bytes(chart).items():
            path = folder / f"{chart.name}.{suffix}"
            atomic_write(path, data)
            written.append(path)
    return tuple(written)


def figure_bytes(chart: Chart) -> dict[str, bytes]:
    """A chart in each format, by file suffix."""
    figure = joined_figure([[panel(chart)]])
    return {suffix: _file(figure, chart, suffix) for suffix in FORMATS}


def charts(sections: Sequence[Section]) -> Iterator[Chart]:
    """The charts of sections in the order of the page, wherever their content holds them."""
    for section in sections:
        yield from _charts(section.content)


def _charts(value: object) -> Iterator[Chart]:
    if isinstance(value, Chart):
        yield value
    elif isinstance(value, tuple | list):
        for item in cast("Iterable[object]", value):
            yield from _charts(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _charts(getattr(value, field.name))


def _file(figure: "Figure", chart: Chart, suffix: str) -> bytes:
    """A figure in one format, without dates, so that equal figures give equal bytes."""
    target, title = io.BytesIO(), visible_text(chart.full_title or chart.title)
    metadata: dict[str, dict[str, str | None]] = {
        "svg": {"Title": title, "Date": None, "Creator": None},
        "png": {"Title": title, "Software": None},
        "pdf": {"Title": title, "CreationDate": None, "Creator": None, "Producer": None},
    }
    with style():
        import matplotlib as mpl
        from matplotlib.axes import Axes

        for axes in figure.findobj(Axes):
            axes.set_facecolor("white")
        # Letters as outlines in SVG and as embedded TrueType fonts in PDF look the same everywhere.
        with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": chart.name, "pdf.fonttype": 42}):
            figure.savefig(target, format=suffix, dpi=DPI, facecolor="white", metadata=metadata[suffix])
    return _with_titles(target.getvalue()) if suffix == "svg" else target.getvalue()


def _with_titles(svg: bytes) -> bytes:
    """An SVG file whose marks show their values on hover."""
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(svg)
    move_texts(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
