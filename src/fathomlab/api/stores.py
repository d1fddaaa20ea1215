"""Stores: where they are, holding them, and the pages made from them."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fathomlab.base.problems import UserError
from fathomlab.report.page import write_index, write_report
from fathomlab.store.lock import locked
from fathomlab.store.reading import Store


def default_runs() -> Path:
    """The store: `FATHOMLAB_RUNS`, or `runs` in the working folder."""
    return Path(os.environ.get("FATHOMLAB_RUNS") or "runs")


def existing_runs(runs: Path | None) -> Path:
    """The store that `--runs` names.

    Raises:
        UserError: There is none.
    """
    root = runs or default_runs()
    if not (root / "trials").is_dir():
        raise UserError("no-such-store", f"{root}: is no store of results. Name one with --runs.")
    return root


@contextmanager
def upkeep(root: Path) -> Iterator[None]:
    """Hold a store while it is repaired.

    Raises:
        UserError: Another process trains into it.
    """
    with locked(root, wait=False, say=lambda text: print(text, file=sys.stderr)):
        yield


def rewrite_reports(root: Path) -> list[str]:
    """Write the report of every experiment that can be read, and the index; returns their paths."""
    names = [record.name for record in Store(root).experiments() if record.cause is None]
    written = [str(write_reports(root, name)) for name in names]
    return [*written, str(write_index(Store(root)))]


def write_reports(root: Path, experiment: str) -> Path:
    """Write an experiment's report and the index over all experiments; returns the report's path."""
    store = Store(root)
    try:
        path = write_report(store, experiment)
        write_index(store)
    except OSError as error:
        raise UserError(
            "unwritable", f"{root}: the report cannot be written there: {error.strerror or error}."
        ) from None
    return path
