"""Publishes experiments as pages of a repository."""

import os
import re
from pathlib import Path

from fathomlab.analysis.study import study
from fathomlab.api.planning import bundled, find_file, readable_experiment
from fathomlab.api.stores import default_runs
from fathomlab.base.errors import UserError, format_value
from fathomlab.export.publication.tables import FILE
from fathomlab.export.publication.writing import write_page, write_tables
from fathomlab.store.reading import Store
from fathomlab.store.records import ExperimentRecord

NAME = re.compile(r"\w[\w.-]*", re.ASCII)
PREFIX = "config_exp"  # of bundled files


def publish_experiment(
    experiment: str,
    to: str | os.PathLike[str],
    runs: str | os.PathLike[str] | None = None,
    name: str = "",
) -> tuple[Path, ...]:
    """Write an experiment as a page `NAME.md`, with its tables and charts in the directory `NAME`.

    The page is generated from the tables only, so that `rebuild_page` gives the same bytes without the results.

    Args:
        experiment: A name in the store or its beginning, a file, or a bundled experiment.
        to: The directory of the page; created if needed.
        runs: The results directory.
        name: Name of the page; by default that of the experiment file.

    Returns:
        The page, the tables, and the charts.

    Raises:
        UserError: If there is no such experiment, the name is taken by another one, or the files cannot be written.
    """
    store = Store(Path(runs) if runs is not None else default_runs())
    record = readable_experiment(store, experiment)
    short = name or Path(record.source).stem.removeprefix(PREFIX) or record.name
    if not NAME.fullmatch(short):
        text = f"name: must have letters, digits, and the characters _ . - only, got {format_value(short)}."
        raise UserError("invalid-option", f"{text} Set it with --name.")
    folder = Path(to) / short
    try:
        tables = write_tables(study(store, record), folder, _file(record, short))
        page, *charts = write_page(folder)
    except OSError as error:
        raise _unwritable(folder, error) from None
    return (page, *tables, *charts)


def rebuild_page(folder: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Write a page and its charts again from its tables, without results and without training: the same bytes.

    Args:
        folder: The directory of the tables.

    Returns:
        The page and the charts.

    Raises:
        UserError: If a table is missing or corrupted, or the files cannot be written.
    """
    try:
        return write_page(Path(folder))
    except OSError as error:
        raise _unwritable(Path(folder), error) from None


def _file(record: ExperimentRecord, name: str) -> str:
    """How commands name the experiment file: a bundled one by its short name, another one by its copy next to the page."""
    short = Path(record.source).stem.removeprefix(PREFIX)
    if short in bundled() and find_file(short).read_bytes() == record.yaml.encode(errors="replace"):
        return short
    return f"{name}/{FILE}"


def _unwritable(folder: Path, error: OSError) -> UserError:
    text = f"{error.filename or folder}: cannot be written: {error.strerror or error}. Choose another directory."
    return UserError("unwritable", text)
