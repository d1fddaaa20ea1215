"""Reports of large experiments: what a page leaves out and where it says so, and that work grows with conditions, not faster."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fathomlab.analysis import as_json, recorded
from fathomlab.analysis.audit import audit
from fathomlab.analysis.study import Study, study
from fathomlab.api.answers import compare
from fathomlab.api.pages import read_page
from fathomlab.base.errors import UserError
from fathomlab.report import accuracy_plots, tables
from fathomlab.report.numbers import NBSP
from fathomlab.report.page import judged, report_html
from fathomlab.report.sections import SECTIONS, accuracy, curves, trials
from fathomlab.store.reading import Store
from fathomlab.store.records import ConditionRecord, SeedTrial, TrialRecord
from tests.helpers.counting import function_calls


class Copies(Store):
    """A store in which every trial is a copy of one, with other numbers."""

    def __init__(self, original: Store, name: str):
        super().__init__(original.root)
        self._record = original.trial(name)

    def trial(self, trial: str) -> TrialRecord:
        """The copy with this hash."""
        accuracy = 0.5 + int(trial[-4:], 16) / 2**18
        return replace(self._record, trial=trial, metrics={**self._record.metrics, "test/accuracy": accuracy})


def grown(written: Store, conditions: int, seeds: int = 2) -> Study:
    """An experiment with this many conditions, each of a level of two factors."""
    experiment = written.experiment("1_2")  # with gradients and probes
    records: list[ConditionRecord] = []
    for number in range(conditions):
        factors = {"training.lr": round(1e-4 * (1 + number // 4), 6), "model.params.layers_dim": 8 * (1 + number % 4)}
        hashes = (f"{number * seeds + seed:064x}" for seed in range(seeds))
        label = " ".join(f"{key}={value}" for key, value in factors.items())
        records.append(ConditionRecord(label, factors=factors, trials=tuple(map(SeedTrial, range(seeds), hashes))))
    first = experiment.conditions[0].trials[0].trial
    return study(Copies(written, first), replace(experiment, conditions=tuple(records), claims=(), published=()))


def sections(read: Study) -> int:
    """Calls of functions while all sections of a page are built; figures are drawn later."""
    return function_calls(lambda: [build(read, (), ()) for build in SECTIONS])


@pytest.fixture(scope="module")
def large(written: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of an experiment of 9 conditions with 8 seeds, with limits that it exceeds."""
    read = study(written, written.experiment("1_1"))
    with pytest.MonkeyPatch.context() as patch:
        for module in (recorded, as_json):
            patch.setattr(module, "MAX_CONDITIONS", 4)
        for module in (recorded, trials):
            patch.setattr(module, "MAX_TRIALS", 20)
        patch.setattr(tables, "MAX_ROWS", 5)
        text = report_html(read, judged(read), audit(read))
    page = tmp_path_factory.mktemp("large") / "large.html"
    page.write_text(text, encoding="utf-8")
    return page


def test_embedded_numbers_are_those_of_complete_conditions(large: Path):
    """Two conditions have 16 trials, a third would exceed 20. The numbers of the first four conditions are embedded."""
    document = read_page(large).experiment("")
    assert document["left_out"] == {"conditions": 5, "trials": 56}
    assert [len(document[key]) for key in ("conditions", "verdicts")] == [4, 0]
    assert len(document["trials"]["trials"]) == 16


def test_rows_that_can_be_repeated_have_ids(large: Path):
    page = read_page(large)
    names = {name[: trials.SHOWN_DIGITS] for name in page.experiment("")["trials"]["trials"]}
    assert set(page.rows) == names


def test_limited_tables_say_what_they_leave_out(large: Path):
    """Each table with more rows than the limit, in its note and in the name of its file."""
    text = large.read_text(encoding="utf-8")
    assert "The first 16 of 72 rows." in text
    assert "The first 5 of 9 rows." in text
    assert text.count('download="cost-first-5.csv"') == 1
    assert text.count("fathomlab export csv 1_1") == len(re.findall(r"The first [\d,]+ of [\d,]+ rows", text))
    rows = max(part.count("<tr") for part in text.split("<table")[1:])
    assert rows == 17  # with the heading


def test_incomplete_report_is_not_compared(large: Path, written: Store):
    """Conditions that a page leaves out would look as if only the other experiment had them."""
    with pytest.raises(UserError) as raised:
        compare(written.root, str(large), "1_1")
    assert raised.value.code == "incomplete-report"


def test_small_reports_leave_nothing_out(written: Store):
    text = (written.root / "experiments" / "1_1" / "report.html").read_text(encoding="utf-8")
    assert "left_out" not in text
    assert "The first" not in text


def test_charts_of_many_conditions_are_limited(written: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(accuracy_plots, "MAX_CONDITIONS", 3)
    monkeypatch.setattr(accuracy_plots, "MAX_EFFECTS", 2)
    read = grown(written, 40)
    section = accuracy.section(read, (), ())
    assert section is not None
    content = section.content
    assert isinstance(content, accuracy.Accuracy)
    shown = 3 * accuracy_plots.MAX_CHARTS
    assert len(content.charts) == accuracy_plots.MAX_CHARTS - 1  # the first one is next to the answer
    assert content.left_out == f"The charts show the first {shown} of 40 conditions."
    rate, width = content.changes  # 4 effects of the rate, 10 of the width
    assert (len(rate.charts), rate.left_out) == (2, "")
    assert (len(width.charts), len(width.sentences)) == (4, 8)
    assert width.left_out == "The page shows the first 8 of 10 comparisons."


def test_curves_of_many_trials_are_limited(written: Store, monkeypatch: pytest.MonkeyPatch):
    """Panels of 8 conditions with 5 seeds: two of them have 80 curves."""
    read = grown(written, 40, seeds=5)
    monkeypatch.setattr(curves, "MAX_CURVES", 99)
    assert [len(conditions) for _, conditions in curves.curve_panels(read)] == [8, 8]
    section = curves.section(read, (), ())
    assert section is not None
    assert isinstance(section.content, curves.Curves)
    assert section.content.note.endswith("The charts show the first 16 of 40 conditions.")


def test_seed_columns_are_limited(written: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(accuracy_plots, "MAX_SEED_COLUMNS", 3)
    table = accuracy_plots.accuracy_table(grown(written, 2, seeds=5), "t", grown(written, 2, seeds=5).conditions)
    assert [column for column in table.columns if column.startswith("seed ")] == ["seed 0", "seed 1", "seed 2"]
    assert table.left_out == "Columns of the first 3 of 5 seeds."
    assert [row[4] for row in table.rows] == ["5", "5"]


@pytest.mark.parametrize(("names", "expected"), [(["a"] * 20, "a"), (["a"] * 22, f"2{NBSP}others")])
def test_lists_of_names_end_with_a_number(names: Sequence[str], expected: str):
    from fathomlab.report.numbers import first_of

    assert first_of(names).split("; ")[-1] == expected


def test_sections_take_time_proportional_to_conditions(written: Store):
    """Twice as many further conditions need at most twice as many further calls."""
    sections(grown(written, 20))  # fills caches
    few, some, many = (sections(grown(written, conditions)) for conditions in (40, 80, 160))
    assert many - some <= 2 * (some - few)


def test_embedded_json_is_bounded(written: Store):
    """Below 1.5 MB, whatever the size of the experiment."""
    sizes = [len(json.dumps(as_json.summary_json(grown(written, 1200, seeds), ()))) for seeds in (2, 5)]
    assert max(sizes) < 1_500_000
