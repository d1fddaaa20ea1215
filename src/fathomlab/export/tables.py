"""An experiment as four tidy tables: trials, curves, gradients, verdicts. CSV and Parquet have the same columns.

Each of the first three begins with the columns that identify a trial, so that no table needs a join.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from fathomlab.analysis.tables import OUTCOME, SPEED, measured_numbers
from fathomlab.base.labels import format_level
from fathomlab.base.output import encodable

if TYPE_CHECKING:
    from fathomlab.analysis.study import Condition, Study
    from fathomlab.store.records import TrialRecord

Kind: TypeAlias = Literal["string", "int64", "float64", "bool"]
Cell: TypeAlias = str | int | float | bool | None
Trials: TypeAlias = "Sequence[tuple[Condition, int, TrialRecord]]"


@dataclass(frozen=True)
class TableColumn:
    """A column: its name and its type. Every column may be null."""

    name: str
    kind: Kind


@dataclass(frozen=True)
class TidyTable:
    """A table. `rows` may be called several times, and creates one row at a time."""

    name: str
    columns: tuple[TableColumn, ...]
    rows: Callable[[], Iterator[tuple[Cell, ...]]]


EXPERIMENT = (TableColumn("experiment", "string"),)
BEFORE_FACTORS = (*EXPERIMENT, TableColumn("condition", "string"), TableColumn("role", "string"))
AFTER_FACTORS = (TableColumn("seed", "int64"), TableColumn("trial", "string"))
TRIAL = (
    TableColumn("status", "string"),
    TableColumn("cause", "string"),
    TableColumn("parameters", "int64"),
    TableColumn("seconds", "float64"),
)
METRICS = (
    "train/loss",
    "train/accuracy",
    "val/loss",
    "val/accuracy",
    "test/loss",
    "test/accuracy",
    "best/epoch",
    "best/val/accuracy",
    "best/test/loss",
    "best/test/accuracy",
)
CURVES = ("epoch", "step", "lr", "train/loss", "train/accuracy", "val/loss", "val/accuracy", "seconds")
INTEGERS = ("epoch", "step", "best/epoch", "batch")
GRADIENTS = (
    TableColumn("step", "int64"),
    TableColumn("epoch", "int64"),
    TableColumn("gradient", "string"),
    TableColumn("position", "int64"),
    TableColumn("layer", "string"),
    TableColumn("norm", "float64"),
)
PROFILES = (("weight", "layer"), ("activation", "point"))  # columns of the probe with the axis of their names
VERDICTS = (
    *EXPERIMENT,
    TableColumn("claim", "string"),
    TableColumn("kind", "string"),
    TableColumn("factor", "string"),
    TableColumn("levels", "string"),
    TableColumn("metric", "string"),
    TableColumn("expect", "string"),
    TableColumn("matters", "float64"),
    TableColumn("unit", "string"),
    TableColumn("verdict", "string"),
    TableColumn("effect", "float64"),
    TableColumn("low", "float64"),
    TableColumn("high", "float64"),
    TableColumn("n", "int64"),
    TableColumn("p", "float64"),
    TableColumn("p_against", "float64"),
    TableColumn("p_holm", "float64"),
    TableColumn("level", "float64"),
    TableColumn("exploratory", "bool"),
    TableColumn("seeds_added_after_results", "bool"),
    TableColumn("sentence", "string"),
)


def tidy_tables(study: "Study") -> tuple[TidyTable, ...]:
    """The tables of an experiment. Trials without a result are rows with their status and null for what they lack."""
    factors = _factor_columns(study)
    identity = (*BEFORE_FACTORS, *factors, *AFTER_FACTORS)
    metrics = _measured(METRICS, (record.metrics for _, _, record in study.trials))
    further = tuple(TableColumn(name, _kind_of(name)) for name in (*OUTCOME, *SPEED, "table_seconds"))
    curves = _measured(CURVES, (record.curves for _, _, record in study.trials))

    def keys(condition: "Condition", seed: int, record: "TrialRecord") -> tuple[Cell, ...]:
        names = map(_text, (study.experiment.name, condition.record.label, condition.record.role))
        levels = (_level(condition.record.factors.get(column.name), column.kind) for column in factors)
        return (*names, *levels, seed, record.trial)

    def trial_rows() -> Iterator[tuple[Cell, ...]]:
        for condition, seed, record in study.trials:
            fixed = (record.status, _cell(record.cause, "string"), record.parameters, _cell(record.seconds, "float64"))
            numbers = measured_numbers(record)
            more = (_cell(numbers[column.name], column.kind) for column in further)
            values = (_cell(record.metrics.get(column.name), column.kind) for column in metrics)
            yield (*keys(condition, seed, record), *fixed, *more, *values)

    def curve_rows() -> Iterator[tuple[Cell, ...]]:
        for condition, seed, record in study.trials:
            start = keys(condition, seed, record)
            for index in range(len(next(iter(record.curves.values()), ()))):
                cells = (_at(record.curves.get(column.name), index, column.kind) for column in curves)
                yield (*start, *cells)

    return (
        TidyTable("trials", (*identity, *TRIAL, *further, *metrics), trial_rows),
        TidyTable("curves", (*identity, *curves), curve_rows),
        TidyTable("gradients", (*identity, *GRADIENTS), lambda: _gradient_rows(study.trials, keys)),
        TidyTable("verdicts", VERDICTS, lambda: _verdict_rows(study)),
    )


def _gradient_rows(trials: Trials, keys: Callable[..., tuple[Cell, ...]]) -> Iterator[tuple[Cell, ...]]:
    for condition, seed, record in trials:
        start = keys(condition, seed, record)
        for snapshot in record.probes.get("gradients", ()):
            for column, axis in PROFILES:
                norms = snapshot.columns.get(column, ())
                for position, (name, norm) in enumerate(zip(snapshot.names.get(axis, ()), norms, strict=True)):
                    cells = (snapshot.step, snapshot.epoch, column, position, _text(name), _cell(norm, "float64"))
                    yield (*start, *cells)


def _verdict_rows(study: "Study") -> Iterator[tuple[Cell, ...]]:
    """One row per claim; none if the claims cannot be evaluated, which the report explains."""
    from fathomlab.analysis.as_json import verdict_json
    from fathomlab.analysis.verdicts import judge

    for verdict in () if study.problems else judge(study):
        claim = verdict.claim
        values = {
            **verdict_json(verdict),
            "experiment": study.experiment.name,
            "claim": claim.name,
            "factor": claim.factor,
            "levels": ", ".join(map(format_level, claim.levels)),
            "unit": "fraction" if claim.in_points else "nats",
            "level": verdict.tests.level,
        }
        yield tuple(_cell(values[column.name], column.kind) for column in VERDICTS)


def _measured(names: Iterable[str], found: "Iterable[Iterable[str]]") -> tuple[TableColumn, ...]:
    """The columns that every table has, and after them whatever else was measured, in order of appearance."""
    every = dict.fromkeys([*names, *(name for record in found for name in record)])
    return tuple(TableColumn(name, _kind_of(name)) for name in every)


def _kind_of(number: str) -> Kind:
    return "int64" if number in INTEGERS else "float64"


def _factor_columns(study: "Study") -> tuple[TableColumn, ...]:
    """A column per factor. Its type is that of all its levels; lists, components, and mixed levels are text."""
    levels: dict[str, list[Any]] = {}
    for condition in study.every:
        for key, level in condition.record.factors.items():
            levels.setdefault(key, []).append(level)
    return tuple(TableColumn(key, _kind(values)) for key, values in levels.items())


def _kind(levels: Iterable[Any]) -> Kind:
    kinds = {type(level) for level in levels if level is not None}
    if kinds == {bool}:
        return "bool"
    if kinds == {int}:
        return "int64"
    return "float64" if kinds and kinds <= {int, float} else "string"


def _level(level: Any, kind: Kind) -> Cell:
    return _text(level) if isinstance(level, str) else _cell(level, kind)


def _at(values: Sequence[Any] | None, index: int, kind: Kind) -> Cell:
    return None if values is None else _cell(values[index], kind)


def _cell(value: Any, kind: Kind) -> Cell:
    """A value of the column's type; None stays None."""
    if value is None:
        return None
    if kind == "string":
        return _text(value if isinstance(value, str) else format_level(value))
    return {"int64": int, "float64": float, "bool": bool}[kind](value)


def _text(text: str) -> str:
    """A text that every program can read: half of a surrogate pair, which is no character, is escaped."""
    return encodable(text, "utf-8")
