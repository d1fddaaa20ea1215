"""publish: an experiment as a page of a repository, with the tables that it is generated from."""

from pathlib import Path
from typing import Annotated

import typer

from fathomlab.base.errors import UserError
from fathomlab.cli.complete import experiments as experiment_names
from fathomlab.cli.options import Json, RunsFolder, print_json

app = typer.Typer()


@app.command()
def publish(
    experiment: Annotated[
        str | None,
        typer.Argument(
            help="Experiment: a name or its beginning, a file, or a bundled one.", autocompletion=experiment_names
        ),
    ] = None,
    to: Annotated[Path | None, typer.Option("--to", metavar="DIR", help="Directory of the page.")] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Write a page again from the directory of its tables."),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Name of the page [default: that of the file].")] = "",
    runs: RunsFolder = None,
    as_json: Json = False,
) -> None:
    """Write an experiment as a Markdown page, with the tables and charts to commit."""
    from fathomlab import api

    if source is not None:
        if experiment is not None or to is not None or name:
            raise UserError("invalid-option", "--from: needs neither EXPERIMENT nor --to and --name.")
        paths = api.rebuild_page(source)
    elif experiment is None or to is None:
        text = "name an EXPERIMENT and --to DIR, as in: fathomlab publish 1_2 --to docs/results"
        raise UserError("missing-argument", text)
    else:
        paths = api.publish_experiment(experiment, to, runs, name)
    names = [str(path) for path in paths]
    print_json({"paths": names}) if as_json else print("\n".join(names))
