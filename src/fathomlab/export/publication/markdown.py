"""Markdown of a page: texts, tables, and code."""

from collections.abc import Sequence

from fathomlab.analysis.statistics import Interval
from fathomlab.report.figures.style import visible_text
from fathomlab.report.numbers import NBSP, plain, significant
from fathomlab.report.tables import Table

ESCAPED = str.maketrans({char: f"\\{char}" for char in "\\`*[]|"} | {"<": "&lt;", ">": "&gt;"})

REPEAT = "repeat"  # heading of the commands
WORDS = ("excluded", REPEAT)  # headings of columns of text on the right


def text(words: str) -> str:
    """Words of an experiment in one line, without a meaning in Markdown."""
    return visible_text(words).translate(ESCAPED)


def code(words: str) -> str:
    """Words as code; `|` would end a cell of a table."""
    fence = "``" if "`" in words else "`"
    return f"{fence}{visible_text(words).replace('|', chr(92) + '|')}{fence}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A table of cells that are Markdown.

    Args:
        columns: Headings.
        rows: A cell per column.
        texts: Number of columns on the left that contain text; numbers are aligned on the right.
    """
    lines = [columns, ["---" if index < texts or name in WORDS else "--:" for index, name in enumerate(columns)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def report_table(shown: Table) -> str:
    """A table of the report."""
    rows = [[text(cell) for cell in row] for row in shown.rows]
    note = f"\n\n{text(shown.left_out)}" if shown.left_out else ""
    return table([text(column) for column in shown.columns], rows, shown.texts) + note


def interval(mean: Interval | None, scale: float = 1.0, digits: int | None = 2) -> str:
    """A mean with its 95% interval: "97.31 (97.20 to 97.42)".

    Args:
        mean: The interval; None if there is no value.
        scale: Factor from its unit to the unit of the cell.
        digits: Decimals; None for four significant digits.
    """
    if mean is None:
        return ""
    values = [None if value is None else scale * value for value in (mean.mean, mean.low, mean.high)]
    cells = [significant(value) if digits is None else plain(value, digits) for value in values]
    return f"{cells[0]} ({cells[1]} to {cells[2]})" if mean.low is not None else cells[0]


def page(blocks: Sequence[str]) -> str:
    """Blocks with an empty line between them."""
    return "\n\n".join(block.strip("\n") for block in blocks if block).replace(NBSP, " ") + "\n"
