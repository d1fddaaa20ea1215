"""The charts of a page as SVG files. Equal tables give equal bytes: ids are numbered, and numbers have two decimals."""

from fathomlab.report.charts import Chart
from fathomlab.report.figures.joined import joined_figure
from fathomlab.report.figures.style import COLORS, GRID, INK, MUTED, PAPER, RULE
from fathomlab.report.figures.svg import inline_svg
from fathomlab.report.plots import panel

NAMED = {"ink": INK, "muted": MUTED, "rule": RULE, "grid": GRID, "paper": PAPER}
ZOOM = 1.2  # of the size for which texts are measured
STYLE = (
    "svg{font-family:system-ui,sans-serif;background:var(--paper)}"
    "text:not([fill]){fill:var(--muted)}text:not([font-size]){font-size:12px}*{stroke-linejoin:round}"
)


def svg_file(chart: Chart) -> str:
    """A chart with its title and legend, in the colors of the report's light theme."""
    colors = {**{f"s{number}": color for number, color in enumerate(COLORS, start=1)}, **NAMED}
    variables = "".join(f"--{name}:{color};" for name, color in colors.items())
    title = chart.full_title or chart.title
    svg = str(inline_svg(joined_figure([[panel(chart)]]), chart.name, title, chart.description))
    start, _, rest = svg.partition(">")
    width, height = (f"{ZOOM * float(size):.0f}" for size in svg.partition('viewBox="')[2].split('"')[0].split()[2:])
    start += f' xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
    return f"{start}><style>:root{{{variables}}}{STYLE}</style>{rest}\n"
