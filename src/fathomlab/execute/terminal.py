"""Progress in a terminal: lines that are redrawn below the messages of the run."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from fathomlab.base.output import escape_control_chars
from fathomlab.execute.modes import SPARKS
from fathomlab.execute.round import ProgressState

if TYPE_CHECKING:
    from rich.console import Console

MAX_RUNNING = 12
NARROW = 64  # columns


@contextmanager
def live_table(state: ProgressState, out: IO[str]) -> "Iterator[Console]":
    """Show the state of a run until the context ends; messages are printed above it with the console."""
    from rich.console import Console
    from rich.live import Live

    console = Console(file=out)

    def redraw() -> Any:
        return _renderable(state, console.width)

    with Live(console=console, refresh_per_second=8, get_renderable=redraw, transient=True):
        yield console


def _renderable(state: ProgressState, width: int) -> Any:
    """Counts, workers, and the effect so far as wrapped text, and a row per running trial; no bars in a narrow terminal."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    narrow = width < NARROW
    table = Table(box=None, show_header=False, expand=False, padding=(0, 1, 0, 0))
    table.add_column(overflow="fold")
    for _ in range(2 if narrow else 3):
        table.add_column(no_wrap=True, justify="right", min_width=5)
    shown = list(state.running.items())[:MAX_RUNNING]
    for trial, accuracies in shown:
        last = f"{100 * accuracies[-1]:.2f}%" if accuracies else ""
        bars = [] if narrow else [_spark(accuracies)]
        label = Text(escape_control_chars(state.label(trial)))
        table.add_row(label, state.epoch(trial, len(accuracies)), *bars, last)
    texts = [Text(state.summary(), style="bold")]
    if state.fleet is not None:
        texts.append(Text(state.fleet.text()))
    if state.effect:
        texts.append(Text(escape_control_chars(state.effect)))
    more = len(state.running) - len(shown)
    return Group(*texts, table, *([Text(f"and {more} more")] if more > 0 else []))


def _spark(values: list[float]) -> str:
    return "".join(SPARKS[min(7, int(8 * max(0.0, value)))] for value in values[-12:])
