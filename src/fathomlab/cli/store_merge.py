"""store merge: copies the results of others into one results directory."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fathomlab.base.labels import count, format_bytes
from fathomlab.cli.links import file_link
from fathomlab.cli.options import Json, RunsFolder, print_json

if TYPE_CHECKING:
    from fathomlab.api.merging import MergeSummary
    from fathomlab.store.target import Merge

MAX_LISTED = 20  # conflicts that are printed; --json has all


def merge(
    sources: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Results directories, or ZIP files of `export bundle`."),
    ],
    runs: RunsFolder = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be copied.")] = False,
    as_json: Json = False,
) -> None:
    """Copy trials and experiments of others into --runs. Exits with 1 if there are conflicts.

    Every file is verified. Nothing is overwritten, and a second call continues.
    """
    from fathomlab.api.merging import merge_stores

    summary = merge_stores(sources, runs, dry_run)
    if as_json:
        print_json(_document(summary, dry_run))
    else:
        _print(summary, dry_run)
    if summary.merge.conflicts:
        raise typer.Exit(1)


def _document(summary: "MergeSummary", dry_run: bool) -> dict[str, object]:
    from fathomlab.base.codec import to_plain

    head = {"runs": str(summary.root), "sources": list(summary.sources), "dry_run": dry_run}
    return {**head, **to_plain(summary.merge), "reports": list(summary.reports)}


def _print(summary: "MergeSummary", dry_run: bool) -> None:
    merge = summary.merge
    for conflict in merge.conflicts[:MAX_LISTED]:
        # the reason of a source as a whole begins with its path
        print(f"conflict: {f'{conflict.source}: {conflict.path}: ' if conflict.path else ''}{conflict.reason}")
    if hidden := merge.conflicts[MAX_LISTED:]:
        kinds = ", ".join(f"{number} {code}" for code, number in Counter(item.code for item in hidden).items())
        print(f"and {count(len(hidden), 'more conflict')} ({kinds}). --json lists all.")
    print(f"{count(len(summary.sources), 'source')}: {', '.join(_counts(merge, dry_run))}")
    if summary.reports:
        print(f"{count(len(summary.reports) - 1, 'report')} written. Index: {file_link(Path(summary.reports[-1]))}")


def _counts(merge: "Merge", dry_run: bool) -> list[str]:
    verb = "to copy" if dry_run else "copied"
    texts = [f"{count(len(merge.copied), 'trial')} {verb} ({format_bytes(merge.bytes)})"]
    texts += [f"{merge.equal:,} already there"] if merge.equal else []
    texts += [f"{merge.completed:,} completed with weights or images"] if merge.completed else []
    texts += [f"{merge.unfinished:,} without an outcome left out"] if merge.unfinished else []
    texts += [f"{merge.refused:,} refused"] if merge.refused else []
    texts += [f"{count(len(merge.experiments), 'experiment')} {verb}"]
    return [*texts, count(len(merge.conflicts), "conflict")] if merge.conflicts else texts
