"""data list | download | import: get datasets."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fathomlab.base.labels import count
from fathomlab.base.output import escape_control_chars
from fathomlab.cli.options import Json, print_json, print_table

app = typer.Typer(help="List, download, and import datasets.", no_args_is_help=True)


@app.command("list")
def data_list(as_json: Json = False) -> None:
    """List datasets, their location, and how to get missing ones."""
    from fathomlab import data

    rows = data.status()
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    cells: list[tuple[str, str, str]] = []
    for row in rows:
        where = f"{row.folder} ({row.bytes / 1e6:.0f} MB)" if row.folder else "part of fathomlab"
        cells.append((row.name, row.state, where if row.present else row.remedy))
    print_table("", ("dataset", "state", "where, or how to get it"), cells)


@app.command("download")
def data_download(
    name: Annotated[str, typer.Argument(help="Name of a dataset, as in data list.")], as_json: Json = False
) -> None:
    """Download a dataset and verify its checksums."""
    from fathomlab import data

    folder = data.download_dataset(name)
    if as_json:
        print_json({"name": name, "folder": str(folder)})
    else:
        print(f"{name}: {folder}")


@app.command("import")
def data_import(
    folder: Annotated[Path, typer.Argument(help="Folder with files of torchvision, Keras, or the publisher.")],
    as_json: Json = False,
) -> None:
    """Import datasets from a folder. Files are verified, never executed."""
    from fathomlab import data

    report = data.import_folder(folder)
    if as_json:
        print_json([asdict(file) | {"source": str(file.source)} for file in report.files])
        for entry in report.skipped:
            print(escape_control_chars(str(entry)), file=sys.stderr)
        return
    for file in report.files:
        checksum = "published checksum" if file.official else "not the published checksum, listed in SHA256SUMS"
        print(f"{file.name}: {escape_control_chars(str(file.source))} -> {file.file} ({checksum})")
    for entry in report.skipped:
        print(escape_control_chars(str(entry)))
    print(f"Imported {count(len(report.files), 'file')} into {report.folder}.")
    for name, missing in report.missing.items():
        print(f"{name}: still missing {', '.join(missing)}" if missing else f"{name}: complete")
