"""Divergence is an outcome: every mean says which seeds it excludes, and nothing is computed silently on survivors."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fathomlab.analysis.study import Study, exclusions, study
from fathomlab.report.accuracy_plots import accuracy_charts, accuracy_note, accuracy_table, effect_charts
from fathomlab.report.answers import answers
from fathomlab.report.charts import panels
from fathomlab.report.effects import accuracy, clipped, effect_panels
from fathomlab.report.findings import main_panels, panel_finding
from fathomlab.report.page import write_index, write_report
from fathomlab.report.sections.accuracy import changes_note
from fathomlab.report.sections.cost import cost_table
from fathomlab.report.sections.curves import curve_charts, curve_note
from fathomlab.report.sections.distillation import distillation_sentence, distillation_table
from fathomlab.report.sections.gradients import gradient_charts
from fathomlab.report.sections.methods import methods
from fathomlab.report.sections.predictions import calibration_table
from fathomlab.report.sections.probes import probe_figures
from fathomlab.report.slopes import condition_slopes, slopes_table
from fathomlab.report.tables import Table
from fathomlab.report.warnings import teacher_warnings
from fathomlab.store.reading import Store
from tests.helpers import stores

SOME, ALL = "2 of 5 diverged", "all 5 seeds diverged"
LIMITS = ("model.params.dropout", (0.0, 0.5))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Dropout x depth: at dropout 0.5 two of five seeds diverge at depth 5, and all at depth 10."""
    root = tmp_path_factory.mktemp("runs")
    conditions: list[Any] = []
    for depth in (5, 10):
        for dropout in LIMITS[1]:
            factors = {"model.params.hidden_layers_num": depth, LIMITS[0]: dropout}
            trials: list[Any] = []
            for seed in range(5):
                bad = dropout == 0.5 and (depth == 10 or seed < 2)
                options: dict[str, Any] = {"layers": depth, "slope": -0.1, "epochs": 4}
                options |= {"status": "diverged", "cause": "the loss was not finite"} if bad else {}
                trials.append((seed, stores.write_trial(root, "x", factors, seed, 0.9 + seed / 100, **options)))
            label = f"hidden_layers_num={depth} dropout={dropout}"
            conditions.append(stores.condition(label, factors, depth, trials))
    stores.write_experiment(root, "x", "Dropout", conditions, seeds=list(range(5)))
    for file in root.glob("trials/*/gradients.jsonl"):  # a diverged trial stops early
        if json.loads((file.parent / "result.json").read_text())["status"] == "diverged":
            file.write_text("".join(line + "\n" for line in file.read_text().splitlines()[:4]))
    return Store(root)


@pytest.fixture(scope="module")
def results(store: Store) -> Study:
    """The experiment of the store."""
    return study(store, store.experiment("x"))


def column(table: Table, name: str) -> dict[str, str]:
    """One column by the first."""
    return {row[0]: row[table.columns.index(name)] for row in table.rows}


def reasons(results: Study) -> dict[str, str]:
    """What each condition excludes."""
    return {item.name: item.excluded(results.metric) for item in results.conditions}


def test_exclusions_are_counted_by_reason():
    """One reason for all seeds is said as such."""
    assert exclusions(["diverged", "failed", "diverged"], 5) == "2 of 5 diverged, 1 of 5 failed"
    assert (exclusions(["diverged"] * 5, 5), exclusions([], 5)) == (ALL, "")


def test_every_table_of_means_names_excluded_seeds(results: Study):
    """The accuracy, calibration, and slope tables agree on what they exclude."""
    expected = {"dropout 0, depth 5": "", "dropout 0.5, depth 5": SOME}
    expected |= {"dropout 0, depth 10": "", "dropout 0.5, depth 10": ALL}
    assert reasons(results) == expected
    accuracies = accuracy_table(results, "x", results.conditions)
    assert column(accuracies, "excluded") == expected
    assert column(accuracies, "seeds") == dict(zip(expected, ("5", "3", "5", "0"), strict=True))
    assert column(accuracies, "seed 0")["dropout 0.5, depth 5"] == "diverged"
    calibration = calibration_table(results)
    assert calibration is not None
    assert column(calibration, "excluded") == expected
    assert column(slopes_table(condition_slopes(results)), "excluded") == expected
    assert column(cost_table(results), "diverged") == dict(zip(expected, ("0", "2", "0", "5"), strict=True))


def test_slopes_at_the_end_are_of_finished_trials(results: Study):
    """The last snapshot of a diverged trial is not the end of training; at initialization all seeds count."""
    table = slopes_table(condition_slopes(results))
    assert column(table, "seeds")["dropout 0.5, depth 5"] == "5"
    assert column(table, "at the end: seeds")["dropout 0.5, depth 5"] == "3"
    assert column(table, "at the end: seeds")["dropout 0.5, depth 10"] == ""


def test_curves_average_finished_seeds_only(results: Study):
    """The legend names the diverged seeds, and the mean excludes them at every epoch."""
    for _, figures in curve_charts(results):
        texts = [key.text for figure in figures for key in figure.keys]
        assert [SOME in text for text in texts].count(True) == 1
        assert [ALL in text for text in texts].count(True) == 1
        figure = next(figure for figure in figures if any(SOME in key.text for key in figure.keys))
        index = next(position for position, name in enumerate(figure.table.columns) if SOME in name and "seeds" in name)
        assert {row[index] for row in figure.table.rows} == {"3"}
    assert "finished" in curve_note(results)


def test_heatmaps_say_how_many_seeds_a_cell_has(results: Study):
    """Diverged seeds count until they stop; the table has the smallest number of seeds per layer."""
    maps = {figure.title: figure for kind in gradient_charts(results) for figure in kind.heatmaps.maps}
    (some,) = {title for title in maps if SOME in title}
    assert "3 to 5 of 5 seeds" in maps[some].description
    assert {row[-1] for row in maps[some].table.rows} == {"3"}
    assert any(ALL in title for title in maps)


def test_probes_name_diverged_conditions(results: Study):
    """Legends of the other probes say it, too."""
    texts = [key.text for probe in probe_figures(results) for figure in probe.charts for key in figure.keys]
    assert any(SOME in text for text in texts)
    finished = [figure for probe in probe_figures(results) for figure in probe.charts if "at the end" in figure.title]
    assert finished
    assert not any(ALL in key.text for figure in finished for key in figure.keys)


def test_effects_report_excluded_pairs(results: Study):
    """A panel for each factor; its figure, table, and answers count the pairs without a difference."""
    panels = {panel.subject: panel for panel in effect_panels(results)}
    assert set(panels) == {"depth", "dropout"}
    assert [effect.excluded for effect in panels["dropout"].effects] == [SOME, ALL]
    (figure,) = effect_charts(panels["dropout"])
    assert SOME in figure.description
    assert column(figure.table, "excluded pairs") == {"depth 5": SOME, "depth 10": ALL}
    (depth,) = [answer for answer in answers(results) if "depth" in answer.question]
    assert [ALL in card.certainty for card in depth.cards] == [False, True]
    assert panel_finding(panels["dropout"]).endswith(f"No value: depth 10 ({ALL}).")
    assert len(answers(results)) == 3  # levels, depth, dropout


def test_answers_of_a_diverged_condition_have_no_number(results: Study):
    """All seeds diverged: that is the answer, not an empty card."""
    cards = {card.label: card for answer in answers(results) for card in answer.cards}
    empty = [card for card in cards.values() if card.certainty == ALL]
    assert len(empty) >= 2
    assert {card.unit for card in empty} == {""}
    assert ALL in accuracy_note(results)
    assert SOME in accuracy_charts(results)[0].description
    assert any(SOME in key.text for key in accuracy_charts(results)[0].keys)


def test_page_methods_and_index_count_diverged_trials(store: Store, results: Study):
    """Diverged trials are not called failed."""
    assert "7\u00a0trials diverged" in write_report(store, "x").read_text()
    assert "7 trials diverged" in " ".join(methods(results, []))
    index = write_index(store).read_text()
    assert "<b>7</b> diverged" in index
    assert "failed" not in index.split("<main")[1]


def test_accuracy_intervals_are_bounded(tmp_path: Path):
    """Two seeds far apart: the interval ends at 0 and 100, and the page says so."""
    trials = [(seed, stores.write_trial(tmp_path, "y", {}, seed, value)) for seed, value in ((0, 0.1), (1, 0.9))]
    stores.write_experiment(tmp_path, "y", "Wide", [stores.condition("", {}, None, trials)], seeds=[0, 1])
    results = study(Store(tmp_path), Store(tmp_path).experiment("y"))
    interval = accuracy(results, results.conditions[0])
    assert interval is not None
    assert (interval.low, interval.high) == (0.0, 100.0)
    assert results.conditions[0].name in clipped(results)
    assert "clipped" in answers(results)[0].cards[0].certainty


def test_one_seed_mentions_neither_band_nor_interval(tmp_path: Path):
    """Captions describe only what is drawn."""
    stores.write_blocks(tmp_path, seeds=1, epochs=3)
    results = study(Store(tmp_path), Store(tmp_path).experiment("1_3"))
    figures = [figure for _, group in curve_charts(results) for figure in group] + accuracy_charts(results)
    figures += [figure for panel in effect_panels(results) for figure in effect_charts(panel)]
    for text in (
        curve_note(results),
        accuracy_note(results),
        changes_note(results),
        *(figure.description for figure in figures),
    ):
        assert not any(word in text.lower() for word in ("interval", "band", "mean"))


def distilled(root: Path, teachers: dict[int, Any]) -> Study:
    """A distillation with baseline accuracy 0.9; `teachers`: seed to accuracy, or None for a diverged trial."""
    conditions: list[Any] = []
    for role, factors in (("teacher", {}), ("baseline", {}), ("distilled", {"distillation.alpha": 0.5})):
        trials: list[Any] = []
        for seed, value in teachers.items():
            level = value if role == "teacher" else 0.9 + seed / 1000
            options = {"role": role} | ({"status": "diverged", "cause": "loss"} if level is None else {})
            trials.append((seed, stores.write_trial(root, "z", factors, seed, level or 0.0, **options)))
        conditions.append(stores.condition(role, factors, None, trials, role))
    stores.write_experiment(root, "z", "Distillation", conditions, seeds=list(teachers))
    return study(Store(root), Store(root).experiment("z"))


@pytest.mark.parametrize(
    ("teachers", "parts"),
    [
        ({0: 0.8, 1: 0.82}, ["81.0% vs. 90.1%"]),
        ({0: 0.99, 1: 0.85, 2: 0.99}, ["in 1 of 3", "seed 1"]),
        ({0: 0.95, 1: 0.96}, []),
        ({0: None, 1: None}, ["all"]),
    ],
)
def test_teacher_that_is_not_better_is_reported_first(tmp_path: Path, teachers: dict[int, Any], parts: list[str]):
    """On average, in some seeds, not at all, or because it diverged."""
    results = distilled(tmp_path, teachers)
    text = " ".join(teacher_warnings(results)).replace("\u00a0", " ")
    assert bool(text) == bool(parts)
    assert all(part in text for part in parts), text
    page = write_report(Store(tmp_path), "z").read_text()
    assert ('id="warnings"' in page) == bool(parts)
    if parts:
        assert page.index('id="warnings"') < page.index('class="summary"')
        assert teacher_warnings(results)[0].split("(")[0] in write_index(Store(tmp_path)).read_text()


def test_distillation_table_names_excluded_pairs(tmp_path: Path):
    """A diverged student is missing from mean and gain, and both say so; a pair with a diverged trial diverged."""
    distilled(tmp_path, {0: 0.95, 1: 0.96, 2: 0.97})
    for position, status in ((1, "failed"), (2, "diverged")):
        trial = Store(tmp_path).experiment("z").conditions[position].trials[0].trial
        file = tmp_path / "trials" / trial / "result.json"
        stores.change(file, status=status, metrics={}, outcome={})
    results = study(Store(tmp_path), Store(tmp_path).experiment("z"))
    table = distillation_table(results)
    assert table is not None
    assert list(column(table, "excluded").values()) == ["", "1 of 3 failed", "1 of 3 diverged"]
    assert list(column(table, "excluded pairs").values()) == ["", "", "1 of 3 diverged"]
    assert column(table, "gain over baseline (points)")["teacher"] == ""
    assert "1 of 3 diverged" in distillation_sentence(results)


def test_students_are_compared_with_their_baseline(tmp_path: Path):
    """With a varied student width, each width has its own baseline."""
    key = "student_model.params.width"
    conditions: list[Any] = []
    for width, level in ((4, 0.5), (8, 0.8)):
        for role in ("baseline", "distilled"):
            factors = {key: width}
            value = level + (0.1 if role == "distilled" else 0.0)
            trials = [(seed, stores.write_trial(tmp_path, "w", factors, seed, value, role=role)) for seed in (0, 1)]
            conditions.append(stores.condition(f"{role} {width}", factors, None, trials, role))
    stores.write_experiment(tmp_path, "w", "Widths", conditions, seeds=[0, 1])
    panels = effect_panels(study(Store(tmp_path), Store(tmp_path).experiment("w")))
    gains = [effect.interval.mean for effect in panels[0].effects if effect.interval]
    assert gains == pytest.approx([10.0, 10.0])


def test_panel_without_any_epoch_is_left_out(tmp_path: Path):
    """Trials that diverge in the first epoch have no curve."""
    conditions: list[Any] = []
    for residual, depth in ((False, 5), (False, 10), (True, 5), (True, 10)):
        factors = {"model.params.hidden_layers_num": depth, "model.params.residual": residual}
        options: dict[str, Any] = {"epochs": 0, "status": "diverged"} if residual else {"epochs": 3}
        trial = stores.write_trial(tmp_path, "x", factors, 0, 0.5, **options)
        conditions.append(stores.condition(f"{residual} {depth}", factors, depth, [(0, trial)]))
    stores.write_experiment(tmp_path, "x", "Curves", conditions, seeds=[0])
    results = study(Store(tmp_path), Store(tmp_path).experiment("x"))
    assert {tuple(chart.title for chart in charts) for _, charts in curve_charts(results)} == {("plain",)}


def test_many_series_have_a_panel_per_depth(tmp_path: Path):
    """More series than panels: the lines of a panel are the series, without the depth that they share."""
    conditions: list[Any] = []
    for depth in (5, 10):
        for width in range(1, 8):
            factors = {"model.params.layers_dim": width, "model.params.hidden_layers_num": depth}
            trial = stores.write_trial(tmp_path, "x", factors, 0, 0.5, epochs=1)
            conditions.append(stores.condition(f"{width} {depth}", factors, depth, [(0, trial)]))
    stores.write_experiment(tmp_path, "x", "Widths", conditions, seeds=[0])
    groups = panels(study(Store(tmp_path), Store(tmp_path).experiment("x")))
    assert [name for name, _ in groups] == ["depth 5", "depth 10"]
    assert [item.level for item in groups[1][1]] == [f"width {width}" for width in range(1, 8)]


def test_effects_with_a_number_come_first(results: Study):
    """A factor whose every pair diverged is named after one with a result."""
    trials = {condition.name: condition for condition in results.conditions}
    kept = [item for name, item in trials.items() if "dropout 0.5" not in name or item.depth == 10]
    assert [bool(panel.known) for panel in main_panels(replace(results, conditions=tuple(kept)))] == [True, False]
