"""How progress is shown on a stream. Imports nothing large: a command uses it for its first line."""

import os
from contextlib import suppress
from typing import IO, Literal

from fathomlab.base.output import encodable, escape_control_chars

Mode = Literal["auto", "rich", "plain", "json", "off"]
MODES: tuple[Mode, ...] = ("auto", "rich", "plain", "json", "off")
SPARKS = "▁▂▃▄▅▆▇█"


def resolve_mode(mode: Mode, out: IO[str] | None) -> Mode:
    """What `auto` means on a stream: a live table in a terminal that can redraw lines, else plain lines."""
    if out is None:  # standard error is closed
        return "off"
    if mode != "auto":
        return mode
    shows_bars = encodable(SPARKS, getattr(out, "encoding", None)) == SPARKS
    automated = os.environ.get("CI", "").lower() not in ("", "0", "false")
    return "rich" if out.isatty() and shows_bars and os.environ.get("TERM") != "dumb" and not automated else "plain"


def print_line(out: IO[str], text: str) -> None:
    """Print a line. A stream that cannot be written does not stop a run."""
    with suppress(OSError, ValueError):
        print(encodable(escape_control_chars(text), getattr(out, "encoding", None)), file=out, flush=True)
