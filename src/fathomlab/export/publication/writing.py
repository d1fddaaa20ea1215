"""Writes a publication: the tables from a study, and the page with its charts from the tables."""

from pathlib import Path

from fathomlab.analysis.study import Study
from fathomlab.base.errors import UserError
from fathomlab.base.files import atomic_write
from fathomlab.export.publication.figures import svg_file
from fathomlab.export.publication.page import charts, page_text
from fathomlab.export.publication.stored import read_document, read_publication
from fathomlab.export.publication.tables import EXPERIMENT, FILE, TRIALS, document_text, trials_text


def write_tables(study: Study, folder: Path, file: str) -> tuple[Path, ...]:
    """Write the tables of an experiment. What people wrote next to them stays.

    Args:
        study: The experiment.
        folder: Where they go; created if needed.
        file: How commands name the experiment file.

    Raises:
        UserError: If the directory has the tables of another experiment.
        OSError: If they cannot be written.
    """
    if (folder / EXPERIMENT).is_file():
        other = read_document(folder).experiment.name
        if other != study.experiment.name:
            text = f"{folder}: has the tables of {other}. Choose another name for the page with --name."
            raise UserError("target-exists", text)
    texts = {EXPERIMENT: document_text(study, file), TRIALS: trials_text(study)}
    texts |= {FILE: study.experiment.yaml} if study.experiment.yaml else {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in texts.items():
        atomic_write(folder / name, content.encode(errors="replace"))
    return tuple(folder / name for name in texts)


def write_page(folder: Path) -> tuple[Path, ...]:
    """Write the page of a publication next to the directory of its tables, and its charts into it.

    Args:
        folder: The directory of the tables.

    Returns:
        The page, then the charts.

    Raises:
        UserError: If a table is missing or corrupted.
        OSError: If they cannot be written.
    """
    folder = folder if folder.name not in ("", "..") else folder.resolve()
    item = read_publication(folder)
    page = folder.with_name(f"{folder.name}.md")
    drawn = {folder / f"{chart.name}.svg": svg_file(chart) for chart in charts(item)}
    for old in set(folder.glob("*.svg")) - drawn.keys():
        old.unlink()
    for path, content in {page: page_text(item), **drawn}.items():
        atomic_write(path, content.encode(errors="replace"))
    return (page, *drawn)
