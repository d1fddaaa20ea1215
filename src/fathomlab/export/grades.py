"""The table of `fathomlab store grade` as a CSV file for spreadsheets: one row per experiment of each hand-in."""

import codecs
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from fathomlab.analysis.grades import ClaimGrade, Grade
from fathomlab.base.errors import UserError
from fathomlab.base.output import escape_control_chars
from fathomlab.export.files import check_targets, open_target

FORMULA = "=+-@\uff1d\uff0b\uff0d\uff20"  # characters with which a spreadsheet begins to compute
Cell: TypeAlias = str | int | float | None
COLUMNS = (
    *("store", "kind", "experiment", "title", "problem", "quick", "overrides", "conditions", "seeds", "trials"),
    *("finished", "diverged", "failed", "missing", "claims_after_results", "seeds_after_results", "claims_changed"),
    *("changed_options", "copies_of", "copied_trials", "shared_trials", "same_seeds", "damaged"),
    *("torch", "processor", "device", "backend", "code", "modified_data"),
)
CLAIM_COLUMNS = ("claim", "verdict", "effect", "low", "high", "unit")


def write_grades(grades: Sequence[Grade], path: Path, overwrite: bool = False) -> Path:
    """Write the table; returns its path. Texts that a spreadsheet would compute begin with an apostrophe.

    Raises:
        UserError: If the file exists and `overwrite` is false, or if its name says that it is no CSV file.
        OSError: If it cannot be written.
    """
    if path.suffix.lower() not in (".csv", ".txt", "") and not path.exists():
        raise UserError("invalid-option", f"--to {path}: the table is a CSV file. Choose a name that ends with .csv.")
    check_targets([path], overwrite)
    most = max((len(grade.claims) for grade in grades), default=0)
    names = [f"{column}_{number}" for number in range(1, most + 1) for column in CLAIM_COLUMNS]
    with open_target(path) as file:
        writer = csv.writer(codecs.getwriter("utf-8")(file, "backslashreplace"), lineterminator="\r\n")
        writer.writerow((*COLUMNS, *names))
        for grade in grades:
            writer.writerow([safe_cell(cell) for cell in _cells(grade, most)])
    return path


def safe_cell(cell: Cell) -> Cell:
    """A cell that no spreadsheet computes. Numbers stay numbers.

    Example:
        >>> safe_cell("=1+1"), safe_cell(" @SUM(A1)"), safe_cell(-0.5), safe_cell("lab1")
        ("'=1+1", "' @SUM(A1)", -0.5, 'lab1')
    """
    if not isinstance(cell, str):
        return cell
    text = escape_control_chars(cell)
    return f"'{text}" if text.lstrip()[:1] in FORMULA and text.strip() else text


def _cells(grade: Grade, most: int) -> Iterator[Cell]:
    for name in COLUMNS:
        yield _text(getattr(grade, name) if hasattr(grade, name) else getattr(grade.environments, name))
    empty = [None] * (len(CLAIM_COLUMNS) * (most - len(grade.claims)))
    yield from (cell for claim in grade.claims for cell in _claim(claim))
    yield from empty


def _claim(claim: ClaimGrade) -> tuple[Cell, ...]:
    return claim.claim, claim.verdict, claim.effect, claim.low, claim.high, claim.unit


def _text(value: object) -> Cell:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "; ".join(map(str, value))
    return value if isinstance(value, str | int | float | None) else str(value)
