"""Progress of a run: a live table in a terminal, plain lines elsewhere, JSON lines on request. Always on stderr."""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from fathomlab.base.output import encodable, escape_control_chars

if TYPE_CHECKING:
    from rich.console import Console

Mode = Literal["auto", "rich", "plain", "json", "off"]
MODES: tuple[Mode, ...] = ("auto", "rich", "plain", "json", "off")
PLAIN_EVERY = 30.0
TRUST = 10.0  # planned seconds that count as measured before anything is
SPARKS = "▁▂▃▄▅▆▇█"


@dataclass
class Tally:
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

    def take(self, event: Mapping[str, Any]) -> None:
        """Add one event. A new plan starts a new round with its own clock."""
        kind = event["event"]
        if kind == "planned":
            self.total, self.workers, self.done = event["trials"] - event["cached"], max(1, event["workers"]), 0
            self.labels |= event.get("labels", {})
            self.work, self.completed, self.started = event.get("work", {}), 0.0, time.monotonic()
        elif kind == "started":
            self.epochs = event["epochs"]
            for trial in event["trials"]:
                self.running[trial] = []
        elif kind == "epoch":
            value = event["val/accuracy"]
            self.running.setdefault(event["trial"], []).append(value if math.isfinite(value) else 0.0)
        elif kind == "finished":
            self.running.pop(event["trial"], None)
            self.done += 1
            self.completed += self.work.get(event["trial"], 0.0)
            self.failed += event["status"] == "failed"
            self.diverged += event["status"] == "diverged"

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
def showing(
    mode: Mode, stream: IO[str] | None = None, log: Path | None = None
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A function that takes the events of a run, shows them on `stream`, and appends plain lines to the file `log`."""
    out = stream or sys.stderr
    tally = Tally()
    if mode == "auto":
        mode = "rich" if _lively(out) else "plain"
    last_printed = [time.monotonic()]
    with _live(tally, out) if mode == "rich" else nullcontext() as console:

        def take(event: Mapping[str, Any]) -> None:
            tally.take(event)
            text = _line(tally, event, last_printed)
            if text and log is not None:
                _keep(log, text)
            if mode == "json":
                text = json.dumps(_plain(event))
            if console is not None:
                if text and event["event"] != "epoch":
                    clean = encodable(escape_control_chars(text), getattr(out, "encoding", None))
                    console.print(clean, markup=False, highlight=False, soft_wrap=True)
            elif text and mode != "off":
                _print(out, text)

        yield take


def _lively(out: IO[str]) -> bool:
    import os

    shows_bars = encodable(SPARKS, getattr(out, "encoding", None)) == SPARKS
    return out.isatty() and shows_bars and os.environ.get("TERM") != "dumb" and os.environ.get("CI") != "true"


def _plain(event: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in event.items()
        if key not in ("labels", "work")
    }


def _print(out: IO[str], text: str) -> None:
    """Print a line. A stream that cannot be written does not stop a run."""
    try:
        print(encodable(escape_control_chars(text), getattr(out, "encoding", None)), file=out, flush=True)
    except (OSError, ValueError):
        return


def _keep(log: Path, text: str) -> None:
    """Append a line to the log of the experiment. A full disk does not stop a run."""
    with suppress(OSError), open(log, "a", encoding="utf-8", errors="replace") as file:
        file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}\n")


def _line(tally: Tally, event: Mapping[str, Any], last_printed: list[float]) -> str:
    kind = event["event"]
    if kind == "planned":
        workers, packs = _count(tally.workers, "worker"), _count(event["packs"], "pack")
        time_left = f", about {duration(tally.seconds_left())}" if tally.work else ""
        return (
            f"{_count(event['trials'], 'trial')}: {event['cached']} cached, {tally.total} to train in {packs} on {workers}"
            f"{time_left}"
        )
    if kind in ("note", "warning"):
        return f"{kind}: {event['text']}"
    if kind == "finished":
        last_printed[0] = time.monotonic()
        label = tally.labels.get(event["trial"], event["trial"][:12])
        accuracy = (event.get("metrics") or {}).get("test/accuracy")
        outcome = (
            f"test accuracy {100 * accuracy:.2f}%" if accuracy is not None else f"{event['status']}: {event['cause']}"
        )
        remaining = f", {tally.remaining()}" if tally.remaining() else ""
        return f"[{tally.done}/{tally.total}] {label}: {outcome} ({event['seconds']:.1f} s{remaining})"
    if kind == "epoch" and time.monotonic() - last_printed[0] > PLAIN_EVERY:
        last_printed[0] = time.monotonic()
        label = tally.labels.get(event["trial"], event["trial"][:12])
        remaining = f", {tally.remaining()}" if tally.remaining() else ""
        accuracy = f"validation accuracy {100 * event['val/accuracy']:.2f}%"
        return f"{label}: epoch {event['epoch']}/{tally.epochs}, {accuracy}{remaining}"
    return ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@contextmanager
def _live(tally: Tally, out: IO[str]) -> "Iterator[Console]":
    from rich.console import Console
    from rich.live import Live

    console = Console(file=out)
    with Live(console=console, refresh_per_second=8, get_renderable=lambda: _table(tally), transient=True):
        yield console


def _table(tally: Tally) -> Any:
    from rich.table import Table
    from rich.text import Text

    title = f"{tally.done}/{tally.total} trials"
    title += f", {tally.diverged} diverged" if tally.diverged else ""
    title += f", {tally.failed} failed" if tally.failed else ""
    title += f", {tally.remaining()}" if tally.remaining() else ""
    table = Table(title=title, title_justify="left", box=None, show_header=False, expand=False)
    shown = list(tally.running.items())[:12]
    for trial, accuracies in shown:
        last = f"{100 * accuracies[-1]:.2f}%" if accuracies else ""
        table.add_row(
            Text(escape_control_chars(tally.labels.get(trial, trial[:12]))),
            f"{len(accuracies)}/{tally.epochs}",
            _spark(accuracies),
            last,
        )
    if len(tally.running) > len(shown):
        table.add_row(f"and {len(tally.running) - len(shown)} more", "", "", "")
    return table


def _spark(values: list[float]) -> str:
    return "".join(SPARKS[min(7, int(8 * max(0.0, value)))] for value in values[-24:])
