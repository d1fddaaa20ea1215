"""store check | repair | prune: maintenance of results."""

from typing import Annotated, Any

import typer

from fathomlab.cli.options import Json, RunsFolder, count, print_json

app = typer.Typer(help="Check, repair, and clean up the results directory.", no_args_is_help=True)


@app.command()
def check(runs: RunsFolder = None, as_json: Json = False) -> None:
    """Verify every file. Exits with 1 if one is corrupted."""
    from fathomlab import api
    from fathomlab.store.upkeep import check_store

    found = check_store(api.existing_runs(runs))
    if as_json:
        print_json(found)
    else:
        for fault in found["faults"]:
            print(f"{fault['path']}: {fault['problem']}")
        whole = "no problems found" if not found["faults"] else count(len(found["faults"]), "problem")
        print(f"{count(found['trials'], 'trial')}, {count(found['files'], 'file')}: {whole}")
    if found["faults"]:
        raise typer.Exit(1)


@app.command()
def repair(runs: RunsFolder = None, as_json: Json = False) -> None:
    """Truncate incomplete logs, quarantine corrupted files, regenerate reports."""
    from fathomlab import api
    from fathomlab.store.upkeep import rebuild_store

    root = api.existing_runs(runs)
    with api.upkeep(root):
        done = rebuild_store(root)
        names = api.rewrite_reports(root)
    _print_changes(done, names, as_json)


@app.command()
def prune(
    runs: RunsFolder = None,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Also remove unfinished trials.")] = False,
    orphans: Annotated[bool, typer.Option("--orphans", help="Also remove unreferenced trials.")] = False,
    damaged: Annotated[bool, typer.Option("--damaged", help="Also remove quarantined files.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed.")] = False,
    as_json: Json = False,
) -> None:
    """Remove checkpoints of finished trials; optionally other files."""
    from fathomlab import api
    from fathomlab.store.upkeep import prune_store

    root = api.existing_runs(runs)
    with api.upkeep(root):
        done = prune_store(root, unfinished, orphans, damaged, dry_run)
    _print_changes(done, [], as_json)


def _print_changes(done: list[dict[str, Any]], reports: list[str], as_json: bool) -> None:
    if as_json:
        print_json({"done": done, "reports": reports})
        return
    for line in done:
        print(f"{line['path']}: {line['did']}")
    size = sum(line.get("bytes", 0) for line in done)
    print(
        f"{count(len(done), 'change')}"
        + (f", {size / 1e6:.1f} MB" if size else "")
        + (f", {count(len(reports), 'report')} written" if reports else "")
    )
