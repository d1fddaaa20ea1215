"""Tidy tables: their columns are documented, and what programs read back equals the store."""

import contextlib
import csv
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fathomlab.analysis.study import Study, study
from fathomlab.analysis.verdicts import judge
from fathomlab.base.errors import UserError
from fathomlab.export import tables
from fathomlab.export.csv import Csv
from fathomlab.export.parquet import Parquet
from fathomlab.store.reading import Store
from fathomlab.store.records import Outcome, Speed
from tests.helpers import stores

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "tables.md").read_text(encoding="utf-8")
SECTIONS = {title: text for title, _, text in (part.partition("\n") for part in PAGE.split("\n## "))}
NAMES = ("trials", "curves", "gradients", "verdicts")
FACTORS = ("model.params.hidden_layers_num", "model.params.residual")
IDENTITY = ("experiment", "condition", "role", *FACTORS, "seed", "trial")
READERS = ("csv", "pandas csv", "polars csv", "pandas parquet", "polars parquet")


def documented(section: str) -> list[tuple[str, str]]:
    """Names and types of the columns in a section of the page."""
    return re.findall(r"^\| `([^`]+)` \| (\w+) \|", SECTIONS[section], re.M)


def plain(value: Any) -> Any:
    """None for an empty cell and for NaN, which is how pandas shows null."""
    return None if value == "" or (isinstance(value, float) and math.isnan(value)) else value


def read(reader: str, folder: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a table as a program reads them."""
    library, _, kind = reader.rpartition(" ")
    if not library:
        with open(folder / f"{name}.csv", encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    frames: Any = pytest.importorskip(library, reason=f"{library} is not installed (make setup-extras)")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (make setup-extras)")
    path = folder / f"{name}.{kind}"
    if library == "pandas":
        frame = frames.read_csv(path) if kind == "csv" else frames.read_parquet(path)
        return frame.to_dict("records")
    return (frames.read_csv(path, infer_schema_length=None) if kind == "csv" else frames.read_parquet(path)).to_dicts()


@pytest.fixture(scope="module")
def exported(depths: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the CSV files, and with the Parquet files if pyarrow is installed."""
    folder = tmp_path_factory.mktemp("tables")
    assert Csv().export(depths, folder) == tuple(folder / f"{name}.csv" for name in NAMES)
    with contextlib.suppress(ImportError):
        Parquet().export(depths, folder)
    return folder


def assert_equal(rows: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Compare rows; in a CSV file everything is text."""
    assert len(rows) == len(expected)
    for row, want in zip(rows, expected, strict=True):
        assert list(row) == list(want)
        for key, value in want.items():
            cell = plain(row[key])
            if isinstance(cell, str) and not isinstance(value, str):
                cell = {"true": True, "false": False}[cell] if isinstance(value, bool) else float(cell)
            assert cell == value, key


def test_page_lists_the_columns(depths: Study):
    shared, factor = SECTIONS["Columns of every trial"], "| one per factor |"
    names = [name for name, _ in documented("Columns of every trial")]
    assert names == [column.name for column in (*tables.BEFORE_FACTORS, *tables.AFTER_FACTORS)]
    assert shared.index("`role` |") < shared.index(factor) < shared.index("`seed` |")
    for table in tables.tidy_tables(depths):
        columns = table.columns if table.name == "verdicts" else table.columns[len(IDENTITY) :]
        assert documented(table.name) == [(column.name, column.kind) for column in columns], table.name


def test_parquet_has_the_documented_types(depths: Study, exported: Path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (make setup-extras)")
    for table in tables.tidy_tables(depths):
        schema = parquet.read_schema(exported / f"{table.name}.parquet")
        types = [
            (name, str(kind).replace("double", "float64"))
            for name, kind in zip(schema.names, schema.types, strict=True)
        ]
        assert types == [(column.name, column.kind) for column in table.columns]
        if table.name != "verdicts":
            assert [kind for _, kind in types[3:5]] == ["int64", "bool"]


@pytest.mark.parametrize("reader", READERS)
def test_trials_equal_the_store(depths: Study, exported: Path, reader: str):
    expected = [
        {
            "experiment": "1_2",
            "condition": condition.record.label,
            "role": "supervised",
            **condition.record.factors,
            "seed": seed,
            "trial": record.trial,
            "status": record.status,
            "cause": record.cause,
            "parameters": record.parameters,
            "seconds": record.seconds,
            "calibration_error": 0.01 if record.status == "finished" else None,
            **dict.fromkeys(("brier", "temperature", "scaled_loss", "scaled_calibration_error", "scaled_brier")),
            **dict.fromkeys(("agreement", "teacher_kl", "softened_kl")),
            **dict.fromkeys(("p50_seconds", "p95_seconds", "images_per_second", "batch", "table_seconds")),
            **{name: record.metrics.get(name) for name in tables.METRICS},
        }
        for condition, seed, record in depths.trials
    ]
    assert {row["status"] for row in expected} == {"finished", "diverged", "failed"}
    assert_equal(read(reader, exported, "trials"), expected)


def test_numbers_of_outcome_and_speed_have_their_columns(depths: Study):
    """Each has the name of its field, and integers are integers."""
    outcome = Outcome(calibration_error=0.1, brier=0.2, temperature=1.5, scaled_loss=0.3, scaled_calibration_error=0.4)
    outcome = replace(outcome, scaled_brier=0.5, agreement=0.6, teacher_kl=0.7, softened_kl=0.8, examples=10)
    condition = depths.conditions[0]
    (seed, record), *_ = condition.trials
    record = replace(record, outcome=outcome, speed=Speed(0.001, 0.002, 3000.0, 64), table_seconds=9)
    study = replace(depths, conditions=(replace(condition, trials=((seed, record),)),))
    (table,) = (table for table in tables.tidy_tables(study) if table.name == "trials")
    row = dict(zip((column.name for column in table.columns), next(table.rows()), strict=True))
    names = list(row)[list(row).index("seconds") + 1 : list(row).index("train/loss")]
    assert [row[name] for name in names] == [0.1, 0.2, 1.5, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.001, 0.002, 3000.0, 64, 9.0]
    assert [type(row[name]) for name in ("batch", "table_seconds")] == [int, float]


@pytest.mark.parametrize("reader", READERS)
def test_curves_equal_the_store(depths: Study, exported: Path, reader: str):
    rows = read(reader, exported, "curves")
    expected = [
        {name: record.curves[name][index] for name in tables.CURVES}
        for _, _, record in depths.trials
        for index in range(len(record.curves["epoch"]))
    ]
    assert_equal([{name: row[name] for name in tables.CURVES} for row in rows], expected)
    trials = [record.trial for _, _, record in depths.trials for _ in record.curves["epoch"]]
    assert [row["trial"] for row in rows] == trials
    assert list(rows[0])[: len(IDENTITY)] == list(IDENTITY)


@pytest.mark.parametrize("reader", READERS)
def test_gradients_equal_the_store(depths: Study, exported: Path, reader: str):
    rows = read(reader, exported, "gradients")
    expected = [
        {
            "trial": record.trial,
            "step": snapshot.step,
            "epoch": snapshot.epoch,
            "gradient": column,
            "position": position,
            "layer": snapshot.names[axis][position],
            "norm": norm,
        }
        for _, _, record in depths.trials
        for snapshot in record.probes["gradients"]
        for column, axis in (("weight", "layer"), ("activation", "point"))
        for position, norm in enumerate(snapshot.columns[column])
    ]
    assert any(row["norm"] is None for row in expected)
    assert_equal([{name: row[name] for name in expected[0]} for row in rows], expected)


@pytest.mark.parametrize("reader", READERS)
def test_verdicts_equal_the_analysis(depths: Study, exported: Path, reader: str):
    rows, verdicts = read(reader, exported, "verdicts"), judge(depths)
    expected = [
        {
            "claim": verdict.claim.name,
            "verdict": verdict.decision,
            "effect": verdict.effect.mean if verdict.effect else None,
            "n": verdict.n,
            "level": verdict.tests.level,
            "exploratory": False,
        }
        for verdict in verdicts
    ]
    assert len(expected) == 5
    assert_equal([{name: row[name] for name in expected[0]} for row in rows], expected)


def test_lists_and_mixed_levels_are_text(blocks: Study):
    (trials, *_) = tables.tidy_tables(blocks)
    assert next(row[3] for row in trials.rows()) == "1-1-1-1"
    conditions = tuple(
        replace(condition, record=replace(condition.record, factors={"loss": level}))
        for condition, level in zip(blocks.conditions, [{"type": "focal", "gamma": 2.0}, "ce", 3, None], strict=False)
    )
    (trials, *_) = tables.tidy_tables(replace(blocks, conditions=conditions))
    assert [row[3] for row in trials.rows()] == ["focal(gamma=2)", "ce", "3", None]
    numbers = tuple(
        replace(condition, record=replace(condition.record, factors={"lr": level}))
        for condition, level in zip(blocks.conditions, [1, 0.5, None], strict=False)
    )
    (trials, *_) = tables.tidy_tables(replace(blocks, conditions=numbers))
    assert (trials.columns[3].kind, [row[3] for row in trials.rows()]) == ("float64", [1.0, 0.5, None])


def test_missing_trials_are_rows(tmp_path: Path):
    factors = {"model.params.residual": True}
    trial = stores.write_trial(tmp_path, "x", factors, 1, 0.9)
    pairs = [(1, trial), (2, "0" * 64)]
    stores.write_experiment(tmp_path, "x", "x", [stores.condition("residual=true", factors, None, pairs)])
    store = Store(tmp_path)
    table, curves, gradients, verdicts = tables.tidy_tables(study(store, store.experiment("x")))
    rows = [dict(zip([column.name for column in table.columns], row, strict=True)) for row in table.rows()]
    assert [(row["seed"], row["status"], row["test/accuracy"]) for row in rows] == [
        (1, "finished", 0.9),
        (2, "waiting", None),
    ]
    assert (len(list(curves.rows())), list(gradients.rows()), list(verdicts.rows())) == (6, [], [])


def test_existing_files_are_kept(depths: Study, tmp_path: Path):
    (tmp_path / "curves.csv").write_text("mine")
    with pytest.raises(UserError) as caught:
        Csv().export(depths, tmp_path)
    assert caught.value.code == "target-exists"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"curves.csv": "mine"}
    Csv(overwrite=True).export(depths, tmp_path)
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(NAMES)


def test_failed_export_leaves_the_old_file(depths: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Csv().export(depths, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fathomlab.export.csv._texts", full)
    with pytest.raises(OSError, match="space"):
        Csv(overwrite=True).export(depths, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
