"""Predictions, distillation, cost, and the methods text."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fathomlab.analysis.statistics import Interval
from fathomlab.analysis.study import Study, study
from fathomlab.analysis.verdicts import judge
from fathomlab.report.sections.cost import cost_table, operations, reused, total_time
from fathomlab.report.sections.distillation import distillation_sentence, distillation_table
from fathomlab.report.sections.methods import methods
from fathomlab.report.sections.predictions import calibration_charts, calibration_table, collapses, histogram_charts
from fathomlab.report.sections.provenance import resumed
from fathomlab.store.reading import Store
from tests.helpers import stores


def of(store: Store, name: str) -> Study:
    """An experiment of a store."""
    return study(store, store.experiment(name))


def test_collapsed_networks_are_named_with_class_and_share(written: Store):
    """Plain nets of depth 40 answer with the digit 1: its share in the test set is their accuracy."""
    results = of(written, "1_2")
    collapsed = collapses(results)
    assert {(item.condition, item.label, item.share) for item in collapsed} == {("plain, depth 40", "1", 1.0)}
    assert len(collapsed) == 5
    assert all(item.truth is not None and item.truth == pytest.approx(0.1135, abs=0.012) for item in collapsed)
    (figure,) = histogram_charts(results)
    assert figure.table.rows[1][:2] == ("1", "100.00")
    assert collapses(of(written, "1_1")) == []


def test_collapse_needs_more_than_half_of_predictions(tmp_path: Path):
    """More than half is, and its class has no known share where other classes are predicted too."""
    stores.write_blocks(tmp_path, seeds=1, epochs=2)
    store = Store(tmp_path)
    names = [condition.trials[0].trial for condition in store.experiment("1_3").conditions[:2]]
    for name, counts in zip(names, ([5000, 5000], [5001, 4999]), strict=True):
        file = tmp_path / "trials" / name / "result.json"
        result = json.loads(file.read_text())
        result["outcome"]["predicted"] = counts
        stores.change(file, outcome=result["outcome"])
    (collapsed,) = collapses(of(store, "1_3"))
    assert (collapsed.share, collapsed.truth, collapsed.label) == (0.5001, None, "airplane")


def test_calibration_pools_seeds_and_averages_errors(written: Store):
    """Five seeds with 10,000 images each in one bin; 1 % in each trial."""
    results = of(written, "1_2")
    table = calibration_table(results)
    assert table is not None
    assert table.rows[0] == ("plain, depth 5", "1.00", "1.00", "1.00", "5", "")
    figure = calibration_charts(results)[0]
    row = next(dict(zip(figure.table.columns, row, strict=True)) for row in figure.table.rows if row[0] == "depth 5")
    assert (row["bin"], row["confidence (%)"], row["images"]) == ("15", "99.00", "50000")
    condition = results.conditions[0]
    mean = sum(condition.outcomes("test/accuracy").values()) / 5
    assert row["accuracy (%)"] == f"{100 * mean:.2f}"


def test_share_of_the_lead_is_a_ratio_of_paired_means(written: Store):
    """By hand, in the table and in the sentence; alpha, temperature and agreement as the trials tell them."""
    results = of(written, "2_2")
    student = next(item for item in results.conditions if item.name == "distilled, alpha 0.8")
    top, low, distilled_values = (
        item.outcomes("test/accuracy") for item in (results.conditions[0], results.conditions[1], student)
    )
    expected = (
        100
        * sum(distilled_values[seed] - low[seed] for seed in distilled_values)
        / sum(top[seed] - low[seed] for seed in distilled_values)
    )
    table = distillation_table(results)
    assert table is not None
    row = next(dict(zip(table.columns, row, strict=True)) for row in table.rows if row[0] == student.name)
    assert (row["alpha"], row["temperature"], row["share of teacher's lead (%)"]) == ("0.8", "3", f"{expected:.1f}")
    assert row["agreement with teacher (%)"] == "90.00"
    assert distillation_sentence(results).startswith("Teacher \u2212 baseline: +")
    assert distillation_table(of(written, "1_2")) is None


def test_operations_are_counted_by_hand(written: Store):
    """MLP 784-128 with five hidden layers and ten classes: products of the matrices, six operations each."""
    results = of(written, "1_2")
    trial = results.conditions[0].trials[0][1]
    macs = 784 * 128 + 5 * 128 * 128 + 128 * 10
    assert operations(trial) == 6 * macs * 48_000 * 6
    unknown = {"model": {"type": "Transformer"}, "data": {"name": "mnist"}, "training": {"epochs": 6}}
    for content in (unknown, {**trial.content, "training": {}}, {}):
        assert operations(replace(trial, content=content)) is None
    assert operations(replace(trial, dataset=None)) is None
    table = cost_table(results)
    assert (
        dict(zip(table.columns, table.rows[0], strict=True))["TFLOP per trial"] == f"{6 * macs * 48_000 * 6 / 1e12:.3g}"
    )


def test_earlier_trials_are_reused(tmp_path: Path):
    """By the times in the record."""
    stores.write_blocks(tmp_path, seeds=1, epochs=2)
    results = of(Store(tmp_path), "1_3")
    assert not any(reused(results, trial) for _, _, trial in results.trials)
    file = tmp_path / "trials" / results.trials[0][2].trial / "provenance.json"
    stores.change(file, started="2026-11-21T09:00:00+00:00")
    results = of(Store(tmp_path), "1_3")
    assert [reused(results, trial) for _, _, trial in results.trials[:2]] == [True, False]
    assert "1\u00a0trial " in total_time(results)


def test_resumed_reports_trials_and_drift(tmp_path: Path):
    """Resumed in the same environment, and in another."""
    stores.write_blocks(tmp_path, seeds=1, epochs=2)
    results = of(Store(tmp_path), "1_3")
    assert resumed(results) == []
    for (_, _, trial), torch in zip(results.trials[:2], ("2.13", "2.12"), strict=True):
        file = tmp_path / "trials" / trial.trial / "provenance.json"
        again = [{"step": 5, "environment": {"torch": torch}, "members": []}]
        stores.change(file, environment={"torch": "2.13"}, resumed=again)
    results = of(Store(tmp_path), "1_3")
    first, second = resumed(results)
    assert (first[:8], second[:7]) == ("2\u00a0trials", "1\u00a0trial")
    assert results.trials[1][2].trial[:10] in second


def test_methods_contain_the_facts_of_the_records(written: Store):
    """Numbers and names from the records, and nothing that was not done."""
    results = of(written, "1_2")
    equal, _, _, trend, _ = judge(results)
    text = " ".join(methods(results, [equal, trend]))
    for fact in ("8 conditions", "5, 10, 20, and 40", "60,000", "10,000", "28 x 28", "10 classes", "20%", "6 epochs"):
        assert fact in text, fact
    for fact in (
        "Adam",
        "learning rate 0.001",
        "batch size 128",
        "5 seeds",
        "42, 43, 44, 45, and 46",
        "PyTorch 2.13.0",
    ):
        assert fact in text, fact
    for fact in (
        "AMD EPYC 9555",
        "Up to 4 networks",
        "2 claims",
        "0.025",
        "0.05",
        "1 trial diverged",
        "1 trial failed",
    ):
        assert fact in text, fact
    for absent in ("dropout", "ootstrap", "distilled", "checkpoint", "interim", "pending"):
        assert absent not in text, absent
    distilled = " ".join(methods(of(written, "2_2"), []))
    assert "alpha 0.7, 0.8, and 0.9, temperature 3" in distilled
    assert "diverged" not in distilled
    assert "95%" not in " ".join(methods(of(written, "1_3"), []))  # one seed has no interval
    assert "ootstrap" in " ".join(methods(results, [replace(equal, effect=Interval(0.0, -0.01, 0.01, 20))]))
