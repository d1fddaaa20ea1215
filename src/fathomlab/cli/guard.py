"""Runs a command so that whatever happens becomes an exit status and at most one message."""

import contextlib
import io
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import typer

from fathomlab.base.errors import ConfigError, UserError
from fathomlab.base.output import encodable, escape_control_chars
from fathomlab.cli import pytorch
from fathomlab.cli.event_lines import EventLines
from fathomlab.execute.signals import RunInterrupted

OUTPUT_FAILED = 3
MEANT = {  # what other programs call the commands
    "train": "run",
    "fit": "run",
    "start": "run",
    "resume": "run",
    "ls": "list",
    "check": "doctor",
    "info": "doctor",
    "open": "report",
    "init": "new",
    "create": "new",
    "clean": "store",
    "download": "data",
}
OVERRIDES = {  # what other programs have as options
    "epochs": "training.epochs=3",
    "lr": "training.lr=0.01",
    "learning-rate": "training.lr=0.01",
    "optimizer": "training.optimizer=SGD",
    "batch-size": "data.batch_size=64",
    "dataset": "data.name=cifar-10",
    "seed": "seed=1",
    "seeds": "experiment.seeds=5",
    "depth": "experiment.depths=5,10",
}


class OutputError(Exception):
    """Standard output cannot be written."""


class Stopped(Exception):
    """A run was stopped. Typer turns every `KeyboardInterrupt` into status 130, whichever signal it was."""

    def __init__(self, reason: RunInterrupted, kept: str = "Progress is saved; run the same command to resume."):
        """Stopped by `reason`; `kept` says what is left of the run."""
        super().__init__(str(reason))
        self.reason, self.kept = reason, kept


class ReaderGone(Exception):
    """The reader of standard output has gone, as in `fathomlab list | head`. Not an OSError, which typer handles."""


class Output(io.TextIOBase):
    """Standard output that shows any text: control characters are escaped, and unavailable characters are replaced."""

    def __init__(self, stream: TextIO | None):
        """Write to `stream`; None if standard output is closed."""
        self.stream = stream

    def write(self, text: str) -> int:
        """Write text.

        Raises:
            OutputError: If the stream cannot be written.
            ReaderGone: If the reader has gone.
        """
        if self.stream is None:
            raise OutputError("it is closed")
        clean = "\n".join(map(escape_control_chars, text.split("\n")))
        with _reported():
            self.stream.write(encodable(clean, self.stream.encoding))
        return len(text)

    def flush(self) -> None:
        """Write what is buffered; raises as `write` does."""
        if self.stream is not None:
            with _reported():
                self.stream.flush()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self.stream is not None and self.stream.isatty()

    def fileno(self) -> int:
        """The descriptor of the stream."""
        if self.stream is None:
            raise io.UnsupportedOperation("fileno")
        return self.stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream."""
        return (self.stream.encoding if self.stream is not None else None) or "utf-8"


def guarded(command: Callable[[], Any], as_json: bool, as_events: bool = False) -> int:
    """Call a command and return its exit status.

    Args:
        command: Prints its result on standard output.
        as_json: Whether errors are also printed on standard output as {"problems": [{"code", "file", "line", "key",
            "message"}]}.
        as_events: Whether standard error contains one JSON object per line, and nothing else.
    """
    errors: TextIO | None = sys.stderr  # None if it is closed
    events = EventLines(errors) if as_events and errors is not None else None
    with (
        contextlib.redirect_stderr(events) if events else contextlib.nullcontext(),  # type: ignore[type-var]
        _reserved(sys.stdout) if as_json else contextlib.nullcontext(sys.stdout) as stream,
    ):
        status = _guarded(command, as_json, stream)
        if events is not None:
            events.end()
        return status


def _guarded(command: Callable[[], Any], as_json: bool, stream: TextIO | None) -> int:
    output = Output(stream)
    try:
        with contextlib.redirect_stdout(output):  # type: ignore[type-var]
            status = _status(command, as_json)
            output.flush()
        return status
    except ReaderGone:
        _discard(stream)
        return 0
    except OutputError as error:
        _discard(stream)
        _complain(f"error: standard output cannot be written: {error}")
        return OUTPUT_FAILED
    finally:
        try:
            sys.stderr.flush()
        except (OSError, ValueError):
            _discard(sys.stderr)
        except AttributeError:  # standard error is closed
            pass


def _status(command: Callable[[], Any], as_json: bool) -> int:
    try:
        status = pytorch.call(command)
        if status == 128 + signal.SIGINT:  # typer turns Ctrl-C into 130 without a message
            raise RunInterrupted
        return status if isinstance(status, int) else 0
    except UserError as error:
        if as_json:
            print(json.dumps({"problems": _problems(error)}, indent=1))
        _complain(str(error) if isinstance(error, ConfigError) else f"error: {error}")
        return 2
    except typer.Exit as leaving:
        return leaving.exit_code
    except (KeyboardInterrupt, typer.Abort, Stopped) as stopped:
        stop = stopped if isinstance(stopped, Stopped) else Stopped(RunInterrupted())
        _complain(_stopped(stop))
        return 128 + stop.reason.signum
    except (ReaderGone, OutputError):
        raise
    except Exception as error:
        show = getattr(error, "show", None)
        if show is None or not hasattr(error, "exit_code"):
            raise
        if as_json:
            print(
                json.dumps({"problems": [_problem("usage", "", "", str(getattr(error, "message", error)))]}, indent=1)
            )
        with contextlib.suppress(OSError, ValueError):
            show()
        _explain(error)
        return int(getattr(error, "exit_code", 2))


def _explain(error: Exception) -> None:
    """Print all commands after the error that there is no such command, and how to set an option of training."""
    message = str(getattr(error, "message", ""))
    known = getattr(getattr(getattr(error, "ctx", None), "command", None), "commands", {})
    if match := re.match(r"No such command '(.*?)'", message):
        meant = MEANT.get(match[1].lower(), "")
        hint = f"Did you mean '{meant}'? " if meant in known else ""
        _complain(f"{hint}Commands: {', '.join(known)}.")
    elif (match := re.match(r"No such option: --([a-z-]+)", message)) and match[1] in OVERRIDES:
        _complain(f"Options of training are overrides: {OVERRIDES[match[1]]}")


def _stopped(stop: Stopped) -> str:
    text, reason = "Interrupted", stop.reason
    if reason.minutes is not None:
        text = f"Stopped at the limit of {reason.minutes:g} minute{'s' * (reason.minutes != 1)}"
    return f"{text}. {stop.kept}"


def _problems(error: UserError) -> list[dict[str, Any]]:
    if isinstance(error, ConfigError):
        return [_problem(one.code, one.location, one.path, one.message) for one in error.problems]
    return [_problem(error.code, "", "", str(error))]


def _problem(code: str, location: str, key: str, message: str) -> dict[str, Any]:
    """One problem as data; file and line are null for overrides and for errors outside the file."""
    match = re.fullmatch(r"(.*):(\d+)", location)
    file, line = (match[1], int(match[2])) if match else (location or None, None)
    return {"code": code, "file": file, "line": line, "key": key or None, "message": message}


def _complain(text: str) -> None:
    """Print a message on standard error; a stream that cannot be written changes nothing."""
    clean = "\n".join(map(escape_control_chars, text.split("\n")))
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(encodable(clean, sys.stderr.encoding), file=sys.stderr, flush=True)


@contextlib.contextmanager
def _reported() -> Any:
    try:
        yield
    except BrokenPipeError:
        raise ReaderGone from None
    except (OSError, ValueError) as error:
        raise OutputError(getattr(error, "strerror", None) or str(error)) from None


@contextlib.contextmanager
def _reserved(stream: TextIO | None) -> Iterator[TextIO | None]:
    """Standard output for the command alone: what libraries and child processes of plugins write goes to standard error."""
    try:
        if stream is None or stream.fileno() != 1:
            raise OSError
        stream.flush()
        copy = os.dup(1)
        os.dup2(2, 1)
    except (OSError, ValueError):  # it is closed, or a program has replaced it
        yield stream
        return
    with os.fdopen(copy, "w", encoding=stream.encoding, errors=stream.errors) as reserved:
        try:
            yield reserved
        finally:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
            os.dup2(copy, 1)


def _discard(stream: TextIO | None) -> None:
    """Send what is still buffered nowhere, so that the interpreter does not exit with status 120."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())  # type: ignore[union-attr]
        os.close(null)
