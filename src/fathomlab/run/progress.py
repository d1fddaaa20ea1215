"""Shows how a run goes: a live table on a terminal, plain lines elsewhere, JSON lines on request. Always on stderr."""

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

from fathomlab.config.plain import printable

if TYPE_CHECKING:
    from rich.console import Console

Mode = Literal["auto", "rich", "plain", "json", "off"]
MODES: tuple[Mode, ...] = ("auto", "rich", "plain", "json", "off")
PLAIN_EVERY = 30.0
SPARKS = "▁▂▃▄▅▆▇█"


@dataclass
class Tally:
    """What the events so far add up to.

    Attributes:
        labels: Trial hash -> condition and seed in words.
        running: Trial hash -> (epoch, validation accuracy per epoch).
    """

    labels: Mapping[str, str]
    total: int = 0
    done: int = 0
    failed: int = 0
    epochs: int = 0
    workers: int = 1
    started: float = field(default_factory=time.monotonic)
    running: dict[str, list[float]] = field(default_factory=dict)

    def take(self, event: Mapping[str, Any]) -> None:
        """Add one event."""
        kind = event["event"]
        if kind == "planned":
            self.total, self.workers, self.done = event["trials"] - event["cached"], event["workers"], 0
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
            self.failed += event["status"] != "finished"

    def eta(self) -> str:
        """Time left, judged by the trials done; blank while there are none."""
        if not self.done:
            return ""
        return duration((time.monotonic() - self.started) / self.done * (self.total - self.done))


def duration(seconds: float) -> str:
    """Seconds as people say them: 8 s, 6 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def showing(
    mode: Mode, labels: Mapping[str, str], stream: IO[str] | None = None, log: Path | None = None
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A function that takes the events of a run, shows them on `stream`, and adds its plain lines to the file `log`."""
    out = stream or sys.stderr
    tally = Tally(labels)
    if mode == "auto":
        mode = "rich" if _lively(out) else "plain"
    said = [time.monotonic()]
    with _live(tally, out) if mode == "rich" else nullcontext() as console:

        def take(event: Mapping[str, Any]) -> None:
            tally.take(event)
            text = _line(tally, event, said)
            if text and log is not None:
                _keep(log, text)
            if mode == "json":
                text = json.dumps(_plain(event))
            if console is not None:
                if text and event["event"] != "epoch":
                    console.print(printable(text), markup=False, highlight=False, soft_wrap=True)
            elif text and mode != "off":
                _print(out, text)

        yield take


def _lively(out: IO[str]) -> bool:
    import os

    return out.isatty() and os.environ.get("TERM") != "dumb" and os.environ.get("CI") != "true"


def _plain(event: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in event.items()
    }


def _print(out: IO[str], text: str) -> None:
    """Print a line; a reader that has gone away does not stop a run."""
    try:
        print(printable(text), file=out, flush=True)
    except (BrokenPipeError, ValueError, OSError):
        return


def _keep(log: Path, text: str) -> None:
    """Add a line to the log of the experiment; a full disk does not stop a run."""
    with suppress(OSError), open(log, "a", encoding="utf-8", errors="replace") as file:
        file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {text}\n")


def _line(tally: Tally, event: Mapping[str, Any], said: list[float]) -> str:
    kind = event["event"]
    if kind == "planned":
        workers = "1 worker" if tally.workers == 1 else f"{tally.workers} workers"
        packs = "1 pack" if event["packs"] == 1 else f"{event['packs']} packs"
        trials = "1 trial" if event["trials"] == 1 else f"{event['trials']} trials"
        return f"{trials}, {event['cached']} cached, {tally.total} to run in {packs} on {workers}"
    if kind == "warning":
        return f"note: {event['text']}"
    if kind == "finished":
        said[0] = time.monotonic()
        words = f"trial {tally.done}/{tally.total} {tally.labels.get(event['trial'], event['trial'][:12])}"
        accuracy = (event.get("metrics") or {}).get("test/accuracy")
        fate = f"test accuracy {accuracy:.4f}" if accuracy is not None else f"{event['status']}: {event['cause']}"
        left = f", {tally.eta()} left" if tally.done < tally.total else ""
        return f"{words}: {fate} ({event['seconds']:.1f} s){left}"
    if kind == "epoch" and time.monotonic() - said[0] > PLAIN_EVERY:
        said[0] = time.monotonic()
        label = tally.labels.get(event["trial"], event["trial"][:12])
        return (
            f"running {label}: epoch {event['epoch']}/{tally.epochs}, validation accuracy {event['val/accuracy']:.4f}"
        )
    return ""


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
    title += f", {tally.failed} failed" if tally.failed else ""
    title += f", {tally.eta()} left" if tally.eta() else ""
    table = Table(title=title, title_justify="left", box=None, show_header=False, expand=False)
    shown = list(tally.running.items())[:12]
    for trial, accuracies in shown:
        last = f"{accuracies[-1]:.4f}" if accuracies else ""
        table.add_row(
            Text(printable(tally.labels.get(trial, trial[:12]))),
            f"{len(accuracies)}/{tally.epochs}",
            _spark(accuracies),
            last,
        )
    if len(tally.running) > len(shown):
        table.add_row(f"and {len(tally.running) - len(shown)} more", "", "", "")
    return table


def _spark(values: list[float]) -> str:
    return "".join(SPARKS[min(7, int(8 * max(0.0, value)))] for value in values[-24:])
