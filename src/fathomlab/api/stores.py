"""Results directories: where they are, locks, and reports."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from fathomlab.base.errors import UserError


def default_runs() -> Path:
    """The results directory: `FATHOMLAB_RUNS`, or `runs` in the working directory."""
    return Path(os.environ.get("FATHOMLAB_RUNS") or "runs")


def existing_runs(runs: Path | None) -> Path:
    """The results directory for `--runs`.

    Raises:
        UserError: If it does not exist.
    """
    root = runs or default_runs()
    if not (root / "trials").is_dir():
        raise UserError("no-such-store", f"{root}: not a results directory. Choose one with --runs.")
    return root


@contextmanager
def upkeep(root: Path) -> Iterator[None]:
    """Lock a store for maintenance.

    Raises:
        UserError: If another process uses it, or it cannot be written.
    """
    from fathomlab.store.lease_files import active_holder, has_leases
    from fathomlab.store.leases import EXPIRY_SECONDS
    from fathomlab.store.lock import store_lock

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    try:
        with store_lock(root, wait=False, say=say, remedy="Wait until it has ended."):  # these commands have no --wait
            if has_leases(root):
                say(f"{root}: waiting up to {EXPIRY_SECONDS:.0f} s to see whether other hosts train into it.")
            if holder := active_holder(root, EXPIRY_SECONDS):
                text = f"{root}: results directory is in use by {holder}. Wait until it has ended."
                raise UserError("store-in-use", text)
            yield
    except OSError as error:
        raise _unwritable(error.filename or root, "be changed", error) from None


def write_index(root: Path) -> Path:
    """Write the index over all experiments; returns its path.

    Raises:
        UserError: If it cannot be written.
    """
    from fathomlab.report import page
    from fathomlab.store.reading import Store

    try:
        return page.write_index(Store(root))
    except OSError as error:
        raise _unwritable(root, "write the index", error) from None


def _unwritable(path: str | Path, what: str, error: OSError) -> UserError:
    return UserError("unwritable", f"{path}: cannot {what}: {error.strerror or error}. Make it writable.")


def write_combined_report(
    root: Path, experiments: Sequence[str], target: Path, authors: Sequence[str] = (), course: str = ""
) -> Path:
    """Write one page with several experiments, to be handed in; returns its path.

    Args:
        root: The results directory.
        experiments: Names in the store, in the order of the page.
        target: The `.html` file to write. An existing file is replaced only if it is a report.
        authors: Names for the title block.
        course: Name of the course for the title block.

    Raises:
        UserError: If an experiment does not exist, is named twice, or has an older format; if a name is empty or too long; or
            if the target cannot be written or is not a report.
    """
    from fathomlab.report.combined import title_block, write_combined
    from fathomlab.store.reading import Store

    return write_combined(Store(root), experiments, target, title_block(authors, course, date.today()))


def write_reports(root: Path, experiments: Sequence[str] | None = None) -> list[Path]:
    """Write the reports of these experiments, by default of every readable one, and the index.

    The page of an experiment whose record is corrupted or has an older format stays, because it cannot be written again.

    Returns:
        The paths of the reports, and last that of the index.

    Raises:
        UserError: If the record of one of these experiments is corrupted or has an older format, or a page cannot be written.
    """
    from fathomlab.report.page import write_index, write_report
    from fathomlab.store.reading import Store

    store = Store(root)
    if experiments is None:
        experiments = [record.name for record in store.experiments() if record.cause is None]
    for name in experiments:
        store.readable(name)
    try:
        return [*(write_report(store, name) for name in experiments), write_index(store)]
    except OSError as error:
        folder = Path(error.filename).parent if error.filename else root  # the file is a temporary one
        raise _unwritable(folder, "write the report", error) from None


def write_figures(root: Path, experiment: str, folder: Path) -> tuple[Path, ...]:
    """Write each chart of an experiment's report as SVG, PNG, and PDF; returns the files.

    Raises:
        UserError: If the files cannot be written.
    """
    from fathomlab.analysis.study import study
    from fathomlab.report import figure_files
    from fathomlab.store.reading import Store

    store = Store(root)
    try:
        return figure_files.write_figures(study(store, store.readable(experiment)), folder)
    except OSError as error:
        text = f"{folder}: cannot write figures: {error.strerror or error}. Name another directory with --figures."
        raise UserError("unwritable", text) from None
