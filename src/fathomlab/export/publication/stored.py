"""Reads the tables of a publication back: the same study, without a store and without training."""

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fathomlab.analysis.study import Study, study
from fathomlab.base.codec import JsonObject, from_json, from_plain
from fathomlab.base.errors import UserError
from fathomlab.data.table import DatasetInfo
from fathomlab.export.publication.checks import CHECKS, Checks, read_checks
from fathomlab.export.publication.tables import (
    EXPERIMENT,
    FILE,
    FORMAT,
    INTEGERS,
    LIKENESS,
    NULL,
    SLOPE,
    TRIALS,
    Document,
)
from fathomlab.report.slopes import TIMES
from fathomlab.store.provenance import Provenance
from fathomlab.store.reading import Store
from fathomlab.store.records import ConditionRecord, ExperimentRecord, Number, Outcome, SeedTrial, TrialRecord

DISCUSSION = "discussion.md"

Row = Mapping[str, str]


@dataclass(frozen=True)
class Publication:
    """What a page shows.

    Attributes:
        name: Its name, and that of the directory of its tables.
        file: How commands name the experiment file.
        study: The experiment, from the tables.
        slopes: Hash of a trial to its gradient slopes.
        checks: Further checks, which people added.
        discussion: What people write about the results; "" without it.
    """

    name: str
    file: str
    study: Study
    slopes: Mapping[str, Mapping[str, float]]
    checks: Checks
    discussion: str


def read_publication(folder: Path) -> Publication:
    """Read the tables of a publication, and what people wrote next to them.

    Args:
        folder: The directory with `experiment.json` and `trials.csv`.

    Raises:
        UserError: If a table is missing, corrupted, or of another format.
    """
    document, table = read_document(folder), _read(folder / TRIALS)
    yaml = _read(folder / FILE) if (folder / FILE).is_file() else ""
    try:
        rows = list(csv.DictReader(io.StringIO(table, newline=""), strict=True))
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("a row has another number of cells")
        records = {row["trial"]: _record(document, folder, number, row) for number, row in enumerate(rows)}
        experiment = replace(_experiment(document, rows), folder=folder, yaml=yaml)
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise UserError("damaged-record", f"{folder / TRIALS}: does not fit to {EXPERIMENT} ({error}).") from None
    read = study(_Tables(folder, records), experiment)
    slopes = {row["trial"]: dict(_slopes(row)) for row in rows}
    discussion = _read(folder / DISCUSSION) if (folder / DISCUSSION).is_file() else ""
    checks = read_checks(folder / CHECKS)
    return Publication(folder.name, document.file, replace(read, looks=document.history), slopes, checks, discussion)


def read_document(folder: Path) -> Document:
    """Read `experiment.json`.

    Raises:
        UserError: If it is missing, corrupted, or of another format.
    """
    path = folder / EXPERIMENT
    text = _read(path)
    try:
        document = from_json(JsonObject, text)
        version, record = document.get("format"), {**document["experiment"], "folder": "", "yaml": ""}
    except (ValueError, TypeError, KeyError):
        raise UserError("damaged-record", f"{path}: not a table that fathomlab publish wrote.") from None
    if version != FORMAT:
        message = f"{path}: format {version}; this version reads format {FORMAT}. Publish the experiment again."
        raise UserError("outdated-record", message)
    try:
        return from_plain(Document, {**document, "experiment": record})
    except ValueError as error:
        raise UserError("damaged-record", f"{path}: {error}.") from None


class _Tables(Store):
    """A store whose trials come from the tables of a publication."""

    def __init__(self, folder: Path, records: Mapping[str, TrialRecord]):
        super().__init__(folder)
        self._records = records

    def trial(self, trial: str) -> TrialRecord:
        return self._records[trial]

    def experiments(self) -> list[ExperimentRecord]:
        return []  # the document contains the looks


def _experiment(document: Document, rows: list[dict[str, str]]) -> ExperimentRecord:
    """The record with the trials of its conditions."""
    trials: dict[str, list[SeedTrial]] = {}
    for row in rows:
        trials.setdefault(row["condition"], []).append(SeedTrial(int(row["seed"]), row["trial"]))
    record = document.experiment
    conditions = tuple(_with_trials(condition, trials) for condition in record.conditions)
    if trials:
        raise ValueError(f"no condition {next(iter(trials))}")
    return replace(record, conditions=conditions)


def _with_trials(condition: ConditionRecord, trials: dict[str, list[SeedTrial]]) -> ConditionRecord:
    return replace(condition, trials=tuple(trials.pop(condition.label, ())))


def _record(document: Document, folder: Path, number: int, row: Row) -> TrialRecord:
    facts = {key: value for key, column in document.facts.items() if (value := column.at(number)) is not None}
    dataset = facts.pop("dataset", None)
    integers = {name: int(row[name]) if row[name] else None for name in INTEGERS}
    curves = {"epoch": integers["epochs"], "step": integers["steps"]}
    return TrialRecord(
        trial=row["trial"],
        content={key: value for key, column in document.options.items() if (value := column.at(number)) is not None},
        status=row["status"],
        cause=row["cause"] or None,
        parameters=integers["parameters"],
        metrics={name: _number(text) for name, text in row.items() if text and _is_metric(name)},
        curves={name: [value] for name, value in curves.items() if value is not None},
        provenance=from_plain(Provenance, facts),
        seconds=_number(row["seconds"]) if row["seconds"] else None,
        folder=folder,
        outcome=Outcome(predicted=tuple(map(int, row["predicted"].split())) or None, **_likeness(row)),
        dataset=None if dataset is None else from_plain(DatasetInfo, dataset),
    )


def _likeness(row: Row) -> Any:
    """How like its teacher a student is."""
    return {name: _number(row[name]) for name in LIKENESS if row.get(name)}


def _is_metric(column: str) -> bool:
    return "/" in column and not column.startswith(SLOPE)


def _slopes(row: Row) -> Iterator[tuple[str, float]]:
    for when in TIMES:
        if text := row.get(f"{SLOPE}{when}"):
            yield when, float(text)


def _number(text: str) -> Number | None:
    """A number as it was written: an integer stays one."""
    if text == NULL:
        return None
    try:
        return int(text)
    except ValueError:
        return float(text)


def _read(path: Path) -> str:
    """The text of a file.

    Raises:
        UserError: If it is missing or unreadable.
    """
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        raise UserError("no-such-file", f"{path}: no such file. Write it with: fathomlab publish EXPERIMENT") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("unreadable-file", f"{path}: cannot be read ({type(error).__name__}).") from None
