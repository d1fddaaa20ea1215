"""Merges results directories: trials and experiments of others, and the reports of what was added."""

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

from fathomlab.api.stores import default_runs, upkeep, write_reports
from fathomlab.base.errors import UserError
from fathomlab.store.directory import create_store
from fathomlab.store.merging import merge_store
from fathomlab.store.reading import Store
from fathomlab.store.sources import Source, find_sources, opened
from fathomlab.store.target import Conflict, Merge, Target


@dataclass(frozen=True)
class MergeSummary:
    """What was merged into a results directory, and the reports that were written."""

    root: Path
    sources: tuple[str, ...]
    merge: Merge
    reports: tuple[str, ...]


def merge_stores(sources: Sequence[Path], runs: Path | None = None, dry_run: bool = False) -> MergeSummary:
    """Copy the finished trials and the experiments of other results directories into one. Nothing is overwritten.

    Args:
        sources: Results directories, ZIP files of `fathomlab export bundle`, or directories that contain some.
        runs: The results directory that receives them; it is created if it does not exist.
        dry_run: Change nothing, and return what would be done.

    Raises:
        UserError: If a source does not exist, or if it is the target, contains it, or is inside of it; if the target is in
            use or cannot be written, or if the disk is full.
    """
    root = runs or default_runs()
    usable = _usable(sources, root)
    if not dry_run:
        create_store(root)
    with nullcontext() if dry_run else upkeep(root):
        target, total = Target(root, dry_run), Merge()
        for source in usable:
            total += _merge(target, source)
        reports = () if dry_run else _reports(root, total)
    return MergeSummary(root, tuple(source.label for source in usable), total, reports)


def _merge(target: Target, source: Source) -> Merge:
    total = Merge()
    with ExitStack() as stack:
        try:
            stores = stack.enter_context(opened(source))
        except UserError as error:  # the others are merged all the same
            return Merge(conflicts=(Conflict(source.label, "", error.code, str(error)),))
        for store in stores:
            total += merge_store(target, store.path, store.label)
    return total


def _usable(sources: Sequence[Path], root: Path) -> list[Source]:
    """What can be merged. The target is no source of its own if the search of a directory comes upon it.

    A results directory that contains others would hide them from every later search, so both ways of nesting are refused.
    """
    usable = [source for source in find_sources(sources) if source.kind != "page"]
    if not usable:
        raise UserError("no-such-store", f"{sources[0]}: report pages contain no records. Name results directories.")
    target, named = root.resolve(), {path.resolve() for path in sources}
    for source in usable:
        path = source.path.resolve()
        if path == target and path in named:
            text = "is the results directory that receives the trials. Name another source, or choose another --runs."
            raise UserError("same-store", f"{source.path}: {text}")
        if path in target.parents or (source.kind == "store" and target in path.parents):
            text = "one of them contains the other. Choose a results directory outside with --runs."
            raise UserError("same-store", f"{source.path} and {root}: {text}")
    others = [source for source in usable if source.path.resolve() != target]
    if not others:
        text = f"{sources[0]}: contains no results but {root}, which receives the trials. Name another source."
        raise UserError("same-store", text)
    return others


def _reports(root: Path, merge: Merge) -> tuple[str, ...]:
    """Write the reports of new experiments and of those with new trials, and the index; returns the paths."""
    copied = {*merge.copied}
    changed = [
        record.name
        for record in Store(root).experiments()
        if record.cause is None
        and (
            record.name in merge.experiments
            or not (record.folder / "report.html").exists()
            or any(pair.trial in copied for condition in record.conditions for pair in condition.trials)
        )
    ]
    return tuple(map(str, write_reports(root, changed))) if changed else ()
