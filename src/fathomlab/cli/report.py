"""report: writes pages from the results, combines several on one, or compares two."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fathomlab.base.errors import UserError
from fathomlab.base.labels import count
from fathomlab.cli.browser import open_page
from fathomlab.cli.complete import experiments as experiment_names
from fathomlab.cli.links import file_link
from fathomlab.cli.options import Json, RunsFolder, print_json

if TYPE_CHECKING:
    from fathomlab.base.codec import JsonObject
    from fathomlab.store.reading import Store

app = typer.Typer()


@app.command()
def report(
    experiments: Annotated[
        list[str] | None,
        typer.Argument(
            help="Experiments: names or their beginnings, files, or bundled ones [default: all].",
            autocompletion=experiment_names,
        ),
    ] = None,
    runs: RunsFolder = None,
    combine: Annotated[
        Path | None,
        typer.Option("--combine", metavar="FILE", help="Write one page with these experiments instead, to hand in."),
    ] = None,
    authors: Annotated[
        list[str] | None, typer.Option("--author", help="Author on the page of --combine; may be repeated.")
    ] = None,
    course: Annotated[str, typer.Option("--course", help="Course on the page of --combine.")] = "",
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Compare two reports (PAGE.html, PAGE.html#EXPERIMENT, or experiments)."),
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write each chart of EXPERIMENT as SVG, PNG, and PDF.")
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open the page, or the index, in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Regenerate reports and the index from the results, combine experiments on one page, or compare two reports."""
    from fathomlab import api
    from fathomlab.store.reading import Store

    root = runs or api.default_runs()
    if diff is not None:
        _print_differences(root, *diff, as_json)
        return
    if combine is None and (authors or course):
        raise UserError("invalid-option", "--author and --course need --combine FILE.")
    if figures is not None and len(experiments or ()) != 1:
        raise UserError("missing-argument", "--figures: name one EXPERIMENT, as in: fathomlab report 1_2 --figures DIR")
    store = Store(root)
    named = [api.find_experiment(store, name) for name in experiments or ()]
    names = (named if combine else list(dict.fromkeys(named))) or store.experiment_names()
    if not names:
        raise UserError("no-such-experiment", f"No experiments in {root}. Start with: fathomlab run 1_2 --quick")
    unreadable = [] if experiments else [record for record in store.experiments() if record.cause is not None]
    names = [name for name in names if name not in {record.name for record in unreadable}]
    combined = [api.write_combined_report(root, names, combine, authors or (), course)] if combine else []
    for record in unreadable:
        print(f"{record.folder}: {record.cause}. Its report stays as it is.", file=sys.stderr)
    written = [] if combined else api.write_reports(root, names)
    drawn = [path for name in names for path in api.write_figures(root, name, figures)] if figures else []
    _print_pages(written, combined, drawn, figures, _tuned(store, names) if as_json else None)
    if open_it:
        link = file_link((combined or (written if experiments else written[-1:]))[0])
        if reason := open_page(link):
            print(f"Not opened, because {reason}. Open this link: {link}", file=sys.stderr)


def _print_pages(
    written: Sequence[Path],
    combined: Sequence[Path],
    drawn: Sequence[Path],
    figures: Path | None,
    tuned: "Sequence[JsonObject] | None",
) -> None:
    """Print where the pages are, or all as JSON if the tuned conditions are given. The last one that is written is the index."""
    reports, index = written[:-1], written[-1:]
    if tuned is not None:
        document: JsonObject = {"combined": str(combined[0])} if combined else {}
        document |= {"reports": [str(path) for path in reports], **({"index": str(index[0])} if index else {})}
        document |= {"figures": [str(path) for path in drawn]} if figures else {}
        print_json({**document, **({"tuned": tuned} if tuned else {})})
        return
    for path in combined:
        print(f"combined: {file_link(path)} ({path.stat().st_size / 1e6:.1f} MB)")
    for path in reports:
        print(f"report: {file_link(path)}")
    for path in index:
        print(f"index: {file_link(path)}")
    if figures:
        print(f"figures: {count(len(drawn), 'file')} in {figures}")


def _tuned(store: "Store", names: Sequence[str]) -> "list[JsonObject]":
    from fathomlab.analysis.as_json import tuned_json

    return tuned_json(store, names)


def _print_differences(root: Path, first: str, second: str, as_json: bool) -> None:
    from fathomlab import api
    from fathomlab.analysis.as_json import differences_json
    from fathomlab.analysis.compare import format_diff

    rows = api.compare(root, first, second)
    print_json(differences_json(rows)) if as_json else print("\n".join(format_diff(rows)))
