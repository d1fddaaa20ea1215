"""store check | rebuild | prune: the upkeep of results."""

from typing import Annotated, Any

import typer

from fathomlab.cli.options import Json, RunsFolder, count, print_json

app = typer.Typer(
    help="The store: verify it, repair what can be derived, remove what is not needed.", no_args_is_help=True
)


@app.command()
def check(runs: RunsFolder = None, as_json: Json = False) -> None:
    """Compare every file with its SHA-256; exit status 1 where something is damaged. Changes nothing."""
    from fathomlab import api
    from fathomlab.store.upkeep import check_store

    found = check_store(api.existing_runs(runs))
    if as_json:
        print_json(found)
    else:
        for fault in found["faults"]:
            print(f"{fault['path']}: {fault['problem']}")
        whole = "all whole" if not found["faults"] else count(len(found["faults"]), "fault")
        print(f"{count(found['trials'], 'trial')}, {count(found['files'], 'file')}: {whole}")
    if found["faults"]:
        raise typer.Exit(1)


@app.command()
def rebuild(runs: RunsFolder = None, as_json: Json = False) -> None:
    """Repair what can be: cut torn logs, set damaged files aside, write reports and index again."""
    from fathomlab import api
    from fathomlab.store.upkeep import rebuild_store

    root = api.existing_runs(runs)
    with api.upkeep(root):
        done = rebuild_store(root)
        names = api.rewrite_reports(root)
    _say(done, names, as_json)


@app.command()
def prune(
    runs: RunsFolder = None,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Also trials that are not finished.")] = False,
    orphans: Annotated[bool, typer.Option("--orphans", help="Also trials that belong to no experiment.")] = False,
    damaged: Annotated[bool, typer.Option("--damaged", help="Also what has been set aside as damaged.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Remove what finished trials no longer need; with options also whole trials."""
    from fathomlab import api
    from fathomlab.store.upkeep import prune_store

    root = api.existing_runs(runs)
    with api.upkeep(root):
        done = prune_store(root, unfinished, orphans, damaged, dry_run)
    _say(done, [], as_json)


def _say(done: list[dict[str, Any]], reports: list[str], as_json: bool) -> None:
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
