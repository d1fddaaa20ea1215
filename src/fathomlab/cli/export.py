"""export: tables, bundles, trackers, and networks from the results."""

from pathlib import Path
from typing import Annotated, Any

import typer

from fathomlab.base.errors import UserError, format_value
from fathomlab.cli.complete import TRIAL_EXPORTERS, exporters, subjects
from fathomlab.cli.options import Json, RunsFolder, print_json

app = typer.Typer()


@app.command()
def export(
    exporter: Annotated[
        str,
        typer.Argument(help="csv, parquet, bundle, tensorboard, wandb, onnx, or hub.", autocompletion=exporters),
    ],
    subject: Annotated[
        str,
        typer.Argument(
            help="Experiment: a name or its beginning, a file, or a bundled one (e.g. 1_2). "
            "For onnx and hub a trial: the beginning of its hash.",
            metavar="EXPERIMENT|TRIAL",
            autocompletion=subjects,
        ),
    ],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="OPTION=VALUE", help="Further options of the exporter.")
    ] = None,
    to: Annotated[Path | None, typer.Option("--to", help="Directory or file to write.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    plugin: Annotated[
        list[Path] | None, typer.Option("--plugin", help="Plugin file that an exported trial may run; may be repeated.")
    ] = None,
    runs: RunsFolder = None,
    as_json: Json = False,
) -> None:
    """Export tables, one file to hand in, to a tracker, or a network."""
    from fathomlab import api

    values = dict(map(_option, options or ())) | ({"overwrite": True} if overwrite else {})
    if exporter in TRIAL_EXPORTERS:
        result = api.export_trial(exporter, subject, to=to, runs=runs, plugins=plugin or (), **values)
        paths, notes = [str(path) for path in result.paths], result.notes
        document = {"bytes": result.size, "differences": dict(result.differences)}
    elif plugin:
        raise UserError("invalid-option", "--plugin: only for a trial. Exports of experiments run no plugins.")
    else:
        paths = [str(path) for path in api.export_experiment(exporter, subject, to=to, runs=runs, **values)]
        notes, document = (), {}
    if as_json:
        print_json({"exporter": exporter, "paths": paths, **document})
    else:
        print("\n".join([*paths, *notes]) or "Nothing to export.")


def _option(text: str) -> tuple[str, Any]:
    from fathomlab.config.yaml_reader import read_value

    name, equals, value = text.partition("=")
    name = name.strip()
    if not equals or name in ("", "name", "experiment", "trial", "to", "runs", "plugins"):
        raise UserError("invalid-option", f"options of an exporter are OPTION=VALUE, got {format_value(text)}.")
    return name, read_value(value, f"option {name}")
