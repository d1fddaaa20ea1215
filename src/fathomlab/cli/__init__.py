"""The commands: plan | run | verify | report | list | show | data | store | bench. Each prints JSON with --json."""

import contextlib
import signal
import sys
from collections.abc import Callable
from typing import Any, TextIO

import typer

from fathomlab.base.problems import UserError
from fathomlab.cli import bench, data, experiments, planning, results, store
from fathomlab.config.plain import printable
from fathomlab.run.signals import Stopped

STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM, 129)  # SIGHUP, which Windows does not have
app = typer.Typer(
    name="fathomlab",
    help="Controlled questions about deep networks: plan, train, measure, report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for part in (planning.app, experiments.app, results.app, bench.app):
    app.registered_commands += part.registered_commands
app.add_typer(data.app, name="data")
app.add_typer(store.app, name="store")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0, 1 when trials failed, 2 for a user's mistake, 128 + signal when stopped."""
    sys.exit(_guarded(lambda: app(arguments, standalone_mode=False)))


def laboratory(arguments: list[str] | None = None) -> int:
    """The seed's command: `main.py --experiment 1_1 [--device D] [key=value ...]`; all options of `run` are taken."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    place = next((place for place, word in enumerate(given) if word.split("=")[0] == "--experiment"), None)
    _, equals, name = given[place].partition("=") if place is not None else ("", "", "")
    if place is not None and not equals:
        name = "".join(given[place + 1 : place + 2])
    if place is not None and name:
        rest = given[place + 1 :] if equals else given[place + 2 :]
        words = ["run", name, *given[:place], *rest]
        return _guarded(lambda: app(words, standalone_mode=False))
    if given[:1] in (["--help"], ["-h"]):
        print("usage: python main.py --experiment 1_1 [--device auto|cpu|cuda] [--quick] [key=value ...]")
        return 0
    print("--experiment is missing. Example: python main.py --experiment 1_1", file=sys.stderr)
    return 2


class _Clean:
    """Standard output as text: control characters and what is no text are escaped, whatever a record or a path holds."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> int:
        return self.stream.write(_lines(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def _guarded(command: Callable[[], Any]) -> int:
    try:
        with contextlib.redirect_stdout(_Clean(sys.stdout)):  # type: ignore[type-var]
            status = command()
        if status in STOPPED:  # 130 is also what typer makes of Ctrl-C, without a word
            raise Stopped(status - 128)
        return status if isinstance(status, int) else 0
    except UserError as error:
        print(_lines(str(error)), file=sys.stderr)
        return 2
    except typer.Exit as leaving:
        return leaving.exit_code
    except (KeyboardInterrupt, typer.Abort) as stopped:
        with contextlib.suppress(OSError):
            print("stopped; finished trials and checkpoints are kept, the same command goes on", file=sys.stderr)
        return 128 + getattr(stopped, "signum", signal.SIGINT)
    except BrokenPipeError:
        return 0
    except Exception as error:
        show = getattr(error, "show", None)
        if show is None or not hasattr(error, "exit_code"):
            raise
        show()
        return int(getattr(error, "exit_code", 2))
