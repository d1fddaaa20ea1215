"""Progress of a run: a live table in a terminal, a display in a notebook, plain lines or JSON lines elsewhere, on stderr."""

import json
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from fathomlab.base.clock import RunningClock
from fathomlab.base.output import encodable, escape_control_chars
from fathomlab.execute.events import Effect, Emit, EpochDone, Event, FleetChanged, to_document
from fathomlab.execute.lines import PlainLines
from fathomlab.execute.modes import Mode, print_line, resolve_mode
from fathomlab.execute.notebook import NotebookDisplay, in_notebook
from fathomlab.execute.round import ProgressState
from fathomlab.execute.terminal import live_table


@contextmanager
def progress_reporter(
    mode: Mode, stream: IO[str] | None = None, log: Path | None = None, clock: RunningClock | None = None
) -> Iterator[Emit]:
    """A function that takes the events of a run, shows them on `stream`, and appends plain lines to the file `log`.

    In mode `json`, `stream` gets one JSON object per event and nothing else. `event` names its kind: planned, note, warning,
    started, epoch, measured, finished, effect, fleet, requeued; the other keys are the fields in `execute.events`. In a command,
    other lines on standard error, such as errors, are events of the kind message.
    """
    out = stream or sys.stderr
    state = ProgressState(clock=clock or RunningClock())
    lines, file = PlainLines(state), _Log(log)
    notebook = NotebookDisplay(state) if mode == "auto" and stream is None and in_notebook() else None
    shown = resolve_mode(mode, out) if notebook is None else "off"
    with (
        closing(notebook) if notebook else nullcontext(),
        live_table(state, out) if shown == "rich" else nullcontext() as console,
        closing(file),
    ):

        def report(event: Event) -> None:
            state.update(event)
            text = lines.line(event)
            file.append(text)
            if notebook is not None:
                notebook.report(event)
            if shown == "json":
                document = to_document(event)
                text = json.dumps({key: value for key, value in document.items() if key not in ("labels", "work")})
            if console is not None:
                if text and not isinstance(event, EpochDone | Effect | FleetChanged):  # the table has these
                    clean = encodable(escape_control_chars(text), getattr(out, "encoding", None))
                    console.print(clean, markup=False, highlight=False, soft_wrap=True)
            elif text and shown != "off":
                print_line(out, text)

        yield report


class _Log:
    """The log of an experiment. Lines from before its folder exists are written when it does."""

    def __init__(self, path: Path | None):
        self._path = path
        self._waiting: list[str] = []

    def append(self, text: str) -> None:
        """Append a line; nothing for `""`. A full disk does not stop a run."""
        if self._path is None or not text:
            return
        self._waiting.append(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}\n")
        with suppress(OSError), open(self._path, "a", encoding="utf-8", errors="replace") as file:
            lines, self._waiting = self._waiting, []
            file.writelines(lines)

    def close(self) -> None:
        """Write what waits, unless the folder was never created."""
        with suppress(OSError):
            if self._path is not None and self._waiting:
                with open(self._path, "a", encoding="utf-8", errors="replace") as file:
                    file.writelines(self._waiting)
