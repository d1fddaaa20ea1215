"""export: tables, bundles, and trackers from the results."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fathomlab.base.errors import UserError, format_value
from fathomlab.cli.complete import experiments, exporters
from fathomlab.cli.options import Json, RunsFolder, print_json

app = typer.Typer()


@app.command()
def export(
    exporter: Annotated[
        str, typer.Argument(help="csv, parquet, bundle, tensorboard, or wandb.", autocompletion=exporters)
    ],
    experiment: Annotated[
        str,
        typer.Argument(
            help="Experiment: a name or its beginning, a file, or a bundled one (e.g. 1_2).", autocompletion=experiments
        ),
    ],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="OPTION=VALUE", help="Further options of the exporter.")
    ] = None,
    to: Annotated[Path | None, typer.Option("--to", help="Directory or file to write.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    runs: RunsFolder = None,
    as_json: Json = False,
) -> None:
    """Export as tables, as one file to hand in, or to a tracker."""
    from fathomlab import api

    values = dict(map(_option, options or ())) | ({"overwrite": True} if overwrite else {})
    paths = [str(path) for path in api.export_experiment(exporter, experiment, to=to, runs=runs, **values)]
    if as_json:
        print_json({"exporter": exporter, "paths": paths})
    else:
        print("\n".join(paths) or "Nothing to export.")


def _option(text: str) -> tuple[str, Any]:
    from fathomlab.config.yaml_reader import read_value

    name, equals, value = text.partition("=")
    if not equals or name in ("name", "experiment", "to", "runs"):
        raise UserError("invalid-option", f"options of an exporter are OPTION=VALUE, got {format_value(text)}.")
    return name.strip(), read_value(value, f"option {name}")
