"""Progress of a run: a live table in a terminal, a display in a notebook, plain lines or JSON lines elsewhere, on stderr."""

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from fathomlab.base.labels import count
from fathomlab.base.output import encodable, escape_control_chars
from fathomlab.execute.events import (
    Emit,
    EpochDone,
    Event,
    Failed,
    Finished,
    Note,
    Planned,
    Started,
    Warned,
    to_document,
)
from fathomlab.execute.notebook import NotebookDisplay, in_notebook

if TYPE_CHECKING:
    from rich.console import Console

Mode = Literal["auto", "rich", "plain", "json", "off"]
MODES: tuple[Mode, ...] = ("auto", "rich", "plain", "json", "off")
PLAIN_EVERY = 30.0
TRUST = 10.0  # planned seconds that count as measured before anything is
SPARKS = "▁▂▃▄▅▆▇█"


@dataclass
class ProgressState:
    """What the events of a round add up to.

    Attributes:
        labels: Trial hash to condition and seed in words.
        work: Trial hash to the planned training time on one core (s).
        running: Trial hash to the validation accuracies per epoch.
        completed: Planned time of the trials with an outcome (s).
        started: Clock at the start of the round (s).
    """

    labels: dict[str, str] = field(default_factory=dict)
    work: Mapping[str, float] = field(default_factory=dict)
    total: int = 0
    done: int = 0
    failed: int = 0
    diverged: int = 0
    epochs: int = 0
    workers: int = 1
    completed: float = 0.0
    started: float = field(default_factory=time.monotonic)
    running: dict[str, list[float]] = field(default_factory=dict)

    def update(self, event: Event) -> None:
        """Add one event. A new plan starts a new round and a new clock."""
        match event:
            case Planned():
                self.total, self.workers, self.done = event.trials - event.cached, max(1, event.workers), 0
                self.labels |= event.labels
                self.work, self.completed, self.started = event.work, 0.0, time.monotonic()
            case Started():
                self.epochs = event.epochs
                self.running |= {trial: [] for trial in event.trials}
            case EpochDone():
                self.running.setdefault(event.trial, []).append(event.metrics["val/accuracy"] or 0.0)
            case Finished() | Failed():
                self.running.pop(event.trial, None)
                self.done += 1
                self.completed += self.work.get(event.trial, 0.0)
                self.failed += event.status == "failed"
                self.diverged += event.status == "diverged"
            case _:
                pass

    def label(self, trial: str) -> str:
        """Condition and seed of a trial in words, or the start of its hash."""
        return self.labels.get(trial, trial[:12])

    def seconds_left(self) -> float:
        """Planned time of the remaining work, scaled by measured over planned time of the work done so far.

        Epochs of running trials count as work done. While little is done, the plan counts as `TRUST` seconds of measurement, so
        that one tiny trial does not predict the time of a large one.
        """
        epochs = max(1, self.epochs)
        running = sum(self.work.get(trial, 0.0) * len(values) / epochs for trial, values in self.running.items())
        done, planned = self.completed + running, sum(self.work.values())
        spent = (time.monotonic() - self.started) * self.workers
        return max(0.0, planned - done) * (spent + TRUST) / (done + TRUST) / self.workers

    def remaining(self) -> str:
        """The time left as text; `""` if it is not known."""
        seconds = self.seconds_left() if self.work and self.done < self.total else 0.0
        return f"{duration(seconds)} remaining" if seconds >= 0.5 else ""


def duration(seconds: float) -> str:
    """Seconds in a readable unit: 8 s, 6 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def progress_reporter(mode: Mode, stream: IO[str] | None = None, log: Path | None = None) -> Iterator[Emit]:
    """A function that takes the events of a run, shows them on `stream`, and appends plain lines to the file `log`."""
    out = stream or sys.stderr
    state = ProgressState()
    notebook = NotebookDisplay(state) if mode == "auto" and stream is None and in_notebook() else None
    if mode == "auto":
        mode = "off" if notebook is not None else "rich" if _is_interactive(out) else "plain"
    last_printed = [time.monotonic()]
    with (
        closing(notebook) if notebook else nullcontext(),
        _live(state, out) if mode == "rich" else nullcontext() as console,
    ):

        def report(event: Event) -> None:
            state.update(event)
            text = _line(state, event, last_printed)
            if text and log is not None:
                _append_log(log, text)
            if notebook is not None:
                notebook.report(event)
            if mode == "json":
                document = to_document(event)
                text = json.dumps({key: value for key, value in document.items() if key not in ("labels", "work")})
            if console is not None:
                if text and not isinstance(event, EpochDone):
                    clean = encodable(escape_control_chars(text), getattr(out, "encoding", None))
                    console.print(clean, markup=False, highlight=False, soft_wrap=True)
            elif text and mode != "off":
                _print(out, text)

        yield report


def _is_interactive(out: IO[str]) -> bool:
    import os

    shows_bars = encodable(SPARKS, getattr(out, "encoding", None)) == SPARKS
    return out.isatty() and shows_bars and os.environ.get("TERM") != "dumb" and os.environ.get("CI") != "true"


def _print(out: IO[str], text: str) -> None:
    """Print a line. A stream that cannot be written does not stop a run."""
    try:
        print(encodable(escape_control_chars(text), getattr(out, "encoding", None)), file=out, flush=True)
    except (OSError, ValueError):
        return


def _append_log(log: Path, text: str) -> None:
    """Append a line to the log of the experiment. A full disk does not stop a run."""
    with suppress(OSError), open(log, "a", encoding="utf-8", errors="replace") as file:
        file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}\n")


def _line(state: ProgressState, event: Event, last_printed: list[float]) -> str:
    """The event as a line of text; `""` if it is not worth one."""
    match event:
        case Planned():
            workers, packs = count(state.workers, "worker"), count(event.packs, "pack")
            time_left = f", about {duration(state.seconds_left())}" if state.work else ""
            return (
                f"{count(event.trials, 'trial')}: {event.cached} cached, {state.total} to train in {packs} on {workers}"
                f"{time_left}"
            )
        case Note() | Warned():
            return f"{event.event}: {event.text}"
        case Finished() | Failed():
            last_printed[0] = time.monotonic()
            accuracy = event.metrics.get("test/accuracy") if isinstance(event, Finished) else None
            outcome = (
                f"test accuracy {100 * accuracy:.2f}%" if accuracy is not None else f"{event.status}: {event.cause}"
            )
            remaining = f", {state.remaining()}" if state.remaining() else ""
            return (
                f"[{state.done}/{state.total}] {state.label(event.trial)}: {outcome} ({event.seconds:.1f} s{remaining})"
            )
        case EpochDone() if time.monotonic() - last_printed[0] > PLAIN_EVERY:
            last_printed[0] = time.monotonic()
            remaining = f", {state.remaining()}" if state.remaining() else ""
            accuracy = event.metrics["val/accuracy"]
            percentage = 100 * (math.nan if accuracy is None else accuracy)
            return (
                f"{state.label(event.trial)}: epoch {event.epoch}/{state.epochs}, validation accuracy {percentage:.2f}%"
                f"{remaining}"
            )
        case _:
            return ""


@contextmanager
def _live(state: ProgressState, out: IO[str]) -> "Iterator[Console]":
    from rich.console import Console
    from rich.live import Live

    console = Console(file=out)
    with Live(console=console, refresh_per_second=8, get_renderable=lambda: _table(state), transient=True):
        yield console


def _table(state: ProgressState) -> Any:
    from rich.table import Table
    from rich.text import Text

    title = f"{state.done}/{state.total} trials"
    title += f", {state.diverged} diverged" if state.diverged else ""
    title += f", {state.failed} failed" if state.failed else ""
    title += f", {state.remaining()}" if state.remaining() else ""
    table = Table(title=title, title_justify="left", box=None, show_header=False, expand=False)
    shown = list(state.running.items())[:12]
    for trial, accuracies in shown:
        last = f"{100 * accuracies[-1]:.2f}%" if accuracies else ""
        table.add_row(
            Text(escape_control_chars(state.label(trial))),
            f"{len(accuracies)}/{state.epochs}",
            _spark(accuracies),
            last,
        )
    if len(state.running) > len(shown):
        table.add_row(f"and {len(state.running) - len(shown)} more", "", "", "")
    return table


def _spark(values: list[float]) -> str:
    return "".join(SPARKS[min(7, int(8 * max(0.0, value)))] for value in values[-24:])
