"""What a notebook shows of a value: one small table as text and as HTML, never longer than a screen."""

from collections.abc import Callable, Iterator, Sequence

from fathomlab.base.output import escape_control_chars

MAX_LINES = 30
MAX_CHARS = 2000
MAX_CELL = 40
MAX_NOTE = 160


def mimebundle(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()
) -> dict[str, str]:
    """A title, a table, and notes as `text/plain` and `text/html`, each at most 30 lines and 2,000 characters.

    Rows that do not fit are left out first, then notes. A line says how many.
    """
    cells = [[_clean(cell, MAX_CELL) for cell in row] for row in (header, *rows[:MAX_LINES])]
    texts = [_clean(note, MAX_NOTE) for note in notes[:MAX_LINES]]
    counts = len(rows), len(notes)
    return {
        kind: next(text for text in _shorter(layout, _clean(title, MAX_NOTE), cells, texts, counts) if _fits(text))
        for kind, layout in (("text/plain", _plain), ("text/html", _html))
    }


def _shorter(
    layout: Callable[[str, list[list[str]], list[str]], str],
    title: str,
    cells: list[list[str]],
    notes: list[str],
    counts: tuple[int, int],
) -> Iterator[str]:
    """Ever shorter texts. A note is left out rather than one of the first five rows."""
    for shown_notes in range(len(notes), -1, -1):
        for shown in range(len(cells) - 1, min(len(cells) - 1, 5 if shown_notes else 0) - 1, -1):
            missing = [
                f"{number} more {noun}{'s' * (number > 1)}"
                for number, noun in ((counts[0] - shown, "row"), (counts[1] - shown_notes, "note"))
                if number
            ]
            more = [f"... and {', '.join(missing)}"] if missing else []
            yield layout(title, cells[: shown + 1] if shown else [], [*notes[:shown_notes], *more])


def _plain(title: str, cells: list[list[str]], notes: list[str]) -> str:
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    table = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    return "\n".join([title, *table, *notes])


def _html(title: str, cells: list[list[str]], notes: list[str]) -> str:
    from html import escape  # takes time to import

    rows = [
        f"<tr>{''.join(f'<{tag}>{escape(cell)}' for cell in row)}"
        for tag, row in zip(["th", *["td"] * len(cells)], cells, strict=False)
    ]
    table = ["<table>", *rows, "</table>"] if rows else []
    return "\n".join(
        [f"<div><b>{escape(title)}</b>", *table, *(f"<div>{escape(note)}</div>" for note in notes), "</div>"]
    )


def _clean(text: str, limit: int) -> str:
    """One line without control characters, truncated at `limit`."""
    line = escape_control_chars(" ".join(text.split()))
    return line if len(line) <= limit else line[: limit - 3] + "..."


def _fits(text: str) -> bool:
    return len(text) <= MAX_CHARS and text.count("\n") < MAX_LINES
