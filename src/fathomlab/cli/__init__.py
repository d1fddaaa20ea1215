"""The commands: plan | run | verify | report | list | show | export | publish | new | doctor | data | store | bench."""

import sys
from itertools import pairwise
from typing import Annotated

import typer

from fathomlab.cli import bench, data, doctor, experiments, export, new, planning, publish, report, results, show, store
from fathomlab.cli.guard import guarded

app = typer.Typer(
    name="fathomlab",
    help="Run controlled deep-learning experiments: plan, train, verify, report.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(requested: bool) -> None:
    if requested:
        from fathomlab import __version__

        print(f"fathomlab {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Run controlled deep-learning experiments: plan, train, verify, report."""


for part in (
    planning.app,
    experiments.app,
    report.app,
    results.app,
    show.app,
    export.app,
    publish.app,
    new.app,
    doctor.app,
    bench.app,
):
    app.registered_commands += part.registered_commands
app.add_typer(data.app, name="data")
app.add_typer(store.app, name="store")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit.

    Exit status: 0; 1 if trials failed, claims are not supported, or files are corrupted; 2 for usage and configuration
    errors; 3 if standard output cannot be written; 128 + signal if interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(_guarded(given))


def _guarded(given: list[str]) -> int:
    as_events = "--progress=json" in given or ("--progress", "json") in pairwise(given)
    return guarded(lambda: app(given, "fathomlab", standalone_mode=False), "--json" in given, as_events)


def laboratory(arguments: list[str] | None = None) -> int:
    """The starter files' command: `main.py --experiment 1_1 [--device D] [key=value ...]`, with all options of `run`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    index = next((index for index, word in enumerate(given) if word.split("=")[0] == "--experiment"), None)
    _, equals, name = given[index].partition("=") if index is not None else ("", "", "")
    if index is not None and not equals:
        name = "".join(given[index + 1 : index + 2])
    if index is not None and name:
        rest = given[index + 1 :] if equals else given[index + 2 :]
        args = ["run", name, *given[:index], *rest]
        return _guarded(args)
    if given[:1] in (["--help"], ["-h"]):
        print("usage: python main.py --experiment 1_1 [--device auto|cpu|cuda|cuda:N] [--quick] [key=value ...]")
        return 0
    print("error: --experiment is missing. Example: python main.py --experiment 1_1 training.epochs=3", file=sys.stderr)
    return 2
