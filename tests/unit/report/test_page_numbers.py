"""Numbers on the page equal those of the records."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from fathomlab.analysis.as_json import summary_json
from fathomlab.analysis.study import study
from fathomlab.analysis.verdicts import judge
from fathomlab.report.answers import answers
from fathomlab.store.reading import Store
from tests.helpers import stores
from tests.helpers.pages import elements, embedded, page, tables

EXPERIMENTS = ("1_1", "1_2", "1_3", "2_2")


def results(store: Store, name: str) -> dict[str, dict[int, dict[str, float]]]:
    """Label to seed to metrics of finished trials, straight from the files."""
    record = json.loads((store.root / "experiments" / name / "experiment.json").read_text())
    entries: dict[str, dict[int, dict[str, float]]] = {}
    for condition in record["conditions"]:
        group = entries.setdefault(condition["label"], {})
        for pair in condition["trials"]:
            result = json.loads((store.root / "trials" / pair["trial"] / "result.json").read_text())
            if result["status"] == "finished":
                group[pair["seed"]] = result["metrics"]
    return entries


def numbers(text: str) -> Any:
    """The numbers in a sentence, to compare with expected ones at two decimals."""
    return pytest.approx(
        [float(item.replace("\u2212", "-")) for item in re.findall(r"[-\u2212+]?\d+\.?\d*", text)], abs=0.005
    )


def test_accuracy_table_matches_the_records(written: Store):
    """Each seed's accuracy, the mean and n of every condition of 1.2."""
    rows = {row["condition"]: row for row in tables(page(written, "1_2"))["accuracy-1"]}
    entries = results(written, "1_2")
    assert len(rows) == len(entries) == 8
    for label, seeds in entries.items():
        depth, residual = re.findall(r"=(\w+)", label)
        row = rows[f"{'residual' if residual == 'true' else 'plain'}, depth {depth}"]
        values = [100 * metrics["test/accuracy"] for metrics in seeds.values()]
        assert row["mean (%)"] == f"{sum(values) / len(values):.2f}"
        assert row["seeds"] == str(len(values))
        assert [row[f"seed {seed}"] for seed in seeds] == [f"{value:.2f}" for value in values]


def test_answer_is_the_paired_interval(written: Store):
    """Depth 10: mean and 95% interval from the files, with t(0.975, 4) = 2.776; excluded pairs are reported."""
    entries = results(written, "1_2")
    plain, residual = (entries[f"hidden_layers_num=10 residual={word}"] for word in ("false", "true"))
    values = [100 * (residual[seed]["test/accuracy"] - plain[seed]["test/accuracy"]) for seed in plain]
    mean = sum(values) / 5
    half = 2.7764451 * (sum((value - mean) ** 2 for value in values) / 4 / 5) ** 0.5
    (shown,) = answers(study(written, written.experiment("1_2")))
    card = {card.label: card for card in shown.cards}
    assert [10, mean, 95, mean - half, mean + half, 5] == numbers(card["Depth 10"].sentence)
    assert card["Depth 10"].value == f"{mean:+.2f}"
    assert {label: "excluded" in item.certainty for label, item in card.items()} == {
        "Depth 5": False,
        "Depth 10": False,
        "Depth 20": True,
        "Depth 40": True,
    }
    assert "1 of 5 diverged" in card["Depth 40"].certainty
    assert card["Depth 20"].sentence in elements(page(written, "1_2")).text


def test_effects_end_at_the_largest_possible_difference(tmp_path: Path):
    """Two seeds that disagree; the card says that the interval is clipped."""
    conditions: list[Any] = []
    for residual, values in ((False, (0.1, 0.85)), (True, (0.9, 0.9))):
        factors = {"model.params.residual": residual}
        pairs = [(seed, stores.write_trial(tmp_path, "x", factors, seed, value)) for seed, value in enumerate(values)]
        conditions.append(stores.condition(f"residual={residual}", factors, None, pairs))
    stores.write_experiment(tmp_path, "x", "Clipped", conditions, seeds=[0, 1])
    store = Store(tmp_path)
    (shown,) = answers(study(store, store.experiment("x")))
    assert "\u2212100.00 to +100.00" in shown.cards[0].certainty
    assert "clipped" in shown.cards[0].certainty


def test_distillation_table_has_gains_and_reductions(written: Store):
    """77.8% fewer parameters, and the gain computed by hand."""
    rows = {row["network"]: row for row in tables(page(written, "2_2"))["distillation"]}
    entries = results(written, "2_2")
    assert list(rows) == ["teacher", "baseline student", *(f"distilled, alpha {alpha}" for alpha in (0.7, 0.8, 0.9))]
    assert rows["teacher"]["fewer than teacher (%)"] == ""
    assert rows["distilled, alpha 0.8"]["fewer than teacher (%)"] == "77.8"
    assert rows["distilled, alpha 0.8"]["parameters"] == "4729418"
    base = entries["baseline"]
    gains = [100 * (entries["alpha=0.8"][seed]["test/accuracy"] - base[seed]["test/accuracy"]) for seed in base]
    assert rows["distilled, alpha 0.8"]["gain over baseline (points)"] == f"{sum(gains) / 5:.2f}"


def test_gradient_and_curve_tables_match_the_records(written: Store):
    """One cell of a heat map and one point of a curve, averaged by hand."""
    shown = tables(page(written, "1_2"))
    factors = {"model.params.hidden_layers_num": 5, "model.params.residual": False}
    (condition,) = (item for item in written.experiment("1_2").conditions if item.factors == factors)
    folders = [written.root / "trials" / pair.trial for pair in condition.trials]
    curves = [[json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] for folder in folders]
    mean = sum(100 * curve[2]["val/accuracy"] for curve in curves) / 5
    assert shown["val-accuracy-1"][2]["depth 5: mean"] == f"{mean:.2f}"
    lines = [json.loads((folder / "gradients.jsonl").read_text().splitlines()[1]) for folder in folders]
    logs = [math.log10(line["weight"][2]) for line in lines]
    row = next(row for row in shown["weight-gradients-1"] if row["layer"] == "hidden.2")
    assert float(row["step 1"]) == pytest.approx(sum(logs) / 5, abs=0.006)


def test_embedded_numbers_match_the_summary(written: Store):
    """What a comparison of two reports reads: the same as the analysis says, whatever markup the records hold."""
    for name in EXPERIMENTS:
        experiment = study(written, written.experiment(name))
        assert embedded(page(written, name)) == summary_json(experiment, judge(experiment))
