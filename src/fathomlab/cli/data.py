"""data list | download | import: what to train on."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fathomlab.cli.options import Json, print_json

app = typer.Typer(help="Data sets: what is here, and how to get what is not.", no_args_is_help=True)


@app.command("list")
def data_list(as_json: Json = False) -> None:
    """Say which data sets are here, where, and how to get what is not."""
    from fathomlab import data

    rows = data.status()
    if as_json:
        print_json(rows)
        return
    for row in rows:
        where = f"{row['folder']} ({row['bytes'] / 1e6:.0f} MB)" if row["folder"] else "comes with fathomlab"
        print(f"{row['name']:<14} {row['state']:<10} {where if row['present'] else row['remedy']}")


@app.command("download")
def data_download(
    name: Annotated[str, typer.Argument(help="A data set, as the list shows it.")], as_json: Json = False
) -> None:
    """Fetch a data set, check every file, and put it into the data folder."""
    from fathomlab import data

    folder = data.download(name)
    if as_json:
        print_json({"name": name, "folder": str(folder)})
    else:
        print(f"{name}: {folder}")


@app.command("import")
def data_import(
    folder: Annotated[Path, typer.Argument(help="What torchvision or Keras has left.")], as_json: Json = False
) -> None:
    """Take data sets over from a folder, after checking every file; nothing in it is executed."""
    from fathomlab import data

    imported = data.import_folder(folder)
    if as_json:
        print_json([{key: str(value) for key, value in asdict(entry).items()} for entry in imported])
        return
    for entry in imported:
        print(entry)
