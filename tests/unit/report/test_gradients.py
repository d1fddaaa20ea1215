"""Slopes and gradient maps: closed forms, what theory predicts, and the paired difference by hand."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

from fathomlab.analysis.study import Study, study
from fathomlab.report.grids import Quantity, difference
from fathomlab.report.sections.gradients import Profile, gradient_charts, probe_cost, profile_table
from fathomlab.report.sections.probes import probe_figures
from fathomlab.report.slopes import condition_slopes, predicted_logs, slope, slopes_sentence, slopes_table
from fathomlab.store.reading import Store
from tests.helpers import stores


@pytest.fixture(scope="module")
def results(written: Store) -> Study:
    """The experiment with gradients."""
    return study(written, written.experiment("1_2"))


def test_slope_equals_least_squares():
    """Exact on a line, minus its rise; halved where a block has two layers; none with a zero or two points."""
    norms = [math.exp(0.3 * layer) for layer in range(9)]
    assert slope(norms) == pytest.approx(-0.3)
    assert slope(norms, stride=2) == pytest.approx(-0.15)
    bent = [1.0, math.e, 1.0, math.e**3]  # ln: 0, 1, 0, 3; by hand: (1.5*0 + 0.5*1 - 0.5*0 - 1.5*3) / 5
    assert slope(bent) == pytest.approx(-0.8)
    assert slope([1.0, 0.0, 1.0]) is None
    assert slope([1.0, None, 1.0]) is None
    assert slope([1.0, 2.0]) is None


def test_plain_slopes_agree_with_theory_and_residual_do_not(results: Study):
    """The synthetic norms shrink by 0.39 decades a layer, as theory says (0.896 nats); those of residual nets grow too little."""
    result = {item.condition.name: item for item in condition_slopes(results)}
    plain, residual = result["plain, depth 20"], result["residual, depth 20"]
    assert plain.start is not None
    assert plain.prediction is not None
    assert plain.prediction.slope == pytest.approx(math.log(1 / 6) / 2, abs=1e-4)
    assert plain.start.mean == pytest.approx(-0.39 * math.log(10), abs=0.02)
    assert plain.agreement == "agrees"
    assert residual.agreement == "differs"


def test_agreement_uses_interval_and_tolerance(results: Study):
    """Just inside and just outside the widened interval."""
    item = condition_slopes(results)[0]
    assert item.start is not None
    assert item.prediction is not None
    start = replace(item.start, mean=1.0, low=0.9, high=1.1)
    inside = replace(item, start=start, prediction=replace(item.prediction, slope=1.14, tolerance=0.05))
    outside = replace(item, start=start, prediction=replace(item.prediction, slope=1.16, tolerance=0.05))
    assert (inside.agreement, outside.agreement) == ("agrees", "differs")
    below = [
        replace(item, start=start, prediction=replace(item.prediction, slope=0.86, tolerance=t)) for t in (0.05, 0.03)
    ]
    assert [result.agreement for result in below] == ["agrees", "differs"]
    assert replace(item, prediction=None).agreement == ""
    text = slopes_sentence([inside, outside])
    assert "1 of 2" in text
    assert outside.condition.name in text


def test_slopes_table_is_measured_from_the_files(results: Study):
    """One condition at initialization, after the first epoch and at the end, from the norms themselves."""
    table = slopes_table(condition_slopes(results))
    row = next(dict(zip(table.columns, row, strict=True)) for row in table.rows if row[0] == "residual, depth 10")
    condition = next(item for item in results.conditions if item.name == "residual, depth 10")
    for column, index in (("at initialization", 0), ("after epoch 1", 2), ("at the end", -1)):
        values = [slope(trial.probes["gradients"][index].columns["activation"]) for _, trial in condition.trials]
        assert row[column] == f"{fmean(value for value in values if value is not None):.4f}"
    assert (row["seeds"], row["excluded"]) == ("5", "")


def test_batch_norm_plain_network_has_a_depth_limit(tmp_path: Path):
    """16 depth scales of ln(pi/(pi-1))/2 are 41.8 layers; only with batch norm."""
    stores.write_depths(tmp_path, depths=(40,), epochs=2)
    store = Store(tmp_path)
    assert all(item.limit is None for item in condition_slopes(study(store, store.experiment("1_2"))))
    for file in (tmp_path / "trials").glob("*/trial.json"):
        content = json.loads(file.read_text())["content"]
        content["model"]["params"]["batch_norm"] = True
        stores.change(file, content=content)
    stores.reseal(tmp_path)
    result = {item.condition.residual: item.limit for item in condition_slopes(study(store, store.experiment("1_2")))}
    assert result[False] == pytest.approx(41.8, abs=0.1)
    assert result[True] is None


def test_predicted_profile_has_the_measured_mean(results: Study):
    """Same mean height, the predicted steps; nothing where the layers do not fit."""
    condition = next(item for item in results.conditions if item.name == "plain, depth 5")
    trial = condition.trials[0][1]
    measured: list[float | None] = [0.0, 1.0, None, 3.0, 4.0, 5.0]
    theory = predicted_logs(trial, measured)
    assert theory[1] - theory[0] == pytest.approx(-math.log10(1 / 6) / 2, abs=1e-3)
    assert fmean(value for index, value in enumerate(theory) if index != 2) == pytest.approx(13 / 5)
    assert predicted_logs(trial, measured[:4]) == []


def test_map_difference_is_paired_by_seed(results: Study):
    """One cell and its deviation by hand; a seed that only one of the two has is left out."""
    plain, residual = results.residual_pairs()[1]
    gap = difference(plain, residual, Quantity("gradients", "activation"))
    assert gap is not None
    logs: list[float] = []
    for seed, trial in plain.trials:
        other = dict(residual.trials)[seed]
        before, after = (record.probes["gradients"][1].columns["activation"][3] for record in (trial, other))
        assert before is not None
        assert after is not None
        logs.append(math.log10(after / before))
    assert gap.rows[3][1] == pytest.approx(fmean(logs), abs=0.006)
    assert gap.deviations[3][1] == pytest.approx(stdev(logs))
    fewer = difference(replace(plain, trials=plain.trials[:3]), residual, Quantity("gradients", "activation"))
    assert fewer is not None
    assert (gap.planned, fewer.planned) == (5, 3)
    assert {number for row in gap.counts for number in row} == {5}
    assert {number for row in fewer.counts for number in row} == {3}
    assert difference(replace(plain, trials=()), residual, Quantity("gradients", "activation")) is None


def test_maps_are_arranged_in_threes(results: Study):
    """Plain, residual, their difference; activation gradients first; the cost of the probe in images."""
    activation, weight = gradient_charts(results)
    assert activation.heatmaps.title.startswith("Activation")
    assert [figure.title for figure in activation.heatmaps.maps[:3]] == [
        "plain, depth 5",
        "residual, depth 5",
        "residual / plain, depth 5",
    ]
    assert (activation.heatmaps.columns, len(activation.heatmaps.maps), len(weight.profiles)) == (3, 12, 0)
    scales = [
        re.search(r"colors from (1e-?\d+) to (1e-?\d+)", chart.description) for chart in activation.heatmaps.maps[:3]
    ]
    ends = [scale.groups() for scale in scales if scale is not None]
    assert ends == [("1e-5", "1e-1"), ("1e-5", "1e-1"), ("1e-4", "1e4")]
    assert "standard deviation, init" in activation.heatmaps.maps[2].table.columns
    # 8 snapshots of 128 images, 6 epochs of 375 steps
    assert f"{100 * 8 / (6 * 375):.2g}%" in probe_cost(results)


def test_other_probes_have_figures_with_tables(results: Study):
    """Means over seeds of what the files hold, geometric on logarithmic scales; the noise scale is a ratio of means."""
    updates, representation, noise = (probe.charts for probe in probe_figures(results))
    ratio = next(figure for figure in updates if "plain, at initialization" in figure.title)
    assert dict(zip(ratio.table.columns, ratio.table.rows[2], strict=True))["depth 5"] == "0.003"
    assert noise[0].table.rows[0][:2] == ("init", "40")
    dead = next(figure for figure in representation if "dead" in figure.title)
    assert (dead.table.rows[0][1], dead.table.rows[1][1]) == ("", "0.5")


def test_without_probes_there_is_no_figure(written: Store):
    """An experiment without probes has none of these."""
    results = study(written, written.experiment("1_3"))
    result: list[Any] = [
        gradient_charts(results),
        condition_slopes(results),
        probe_figures(results),
        probe_cost(results),
    ]
    assert result == [[], [], [], ""]


def test_profile_table_has_the_layers_of_every_network():
    """Also of networks whose layers have other names."""
    deep = Profile("deep", "deep", ("input", "hidden.1", "output"), (-1.0, -2.0, -3.0), ())
    other = Profile("other", "other", ("conv", "output"), (-4.0, -5.0), ())
    assert profile_table("profile", [other, deep]).rows == (
        ("input", "", "-1.00"),
        ("hidden.1", "", "-2.00"),
        ("output", "-5.00", "-3.00"),
        ("conv", "-4.00", ""),
    )
