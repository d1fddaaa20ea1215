"""Published statements next to the results of a synthetic distillation."""

from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from fathomlab.analysis.published import Comparison, comparisons
from fathomlab.analysis.study import Study, study
from fathomlab.analysis.verdicts import judge
from fathomlab.config.published import Published
from fathomlab.report.sections.published import number
from fathomlab.store.reading import Store
from tests.helpers import stores


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Study:
    root = tmp_path_factory.mktemp("runs")
    stores.write_distillation(root)
    store = Store(root)
    return study(store, store.experiment("2_2"))


@pytest.fixture(scope="module")
def compared(written: Study) -> tuple[Comparison, ...]:
    return comparisons(written, judge(written))


def accuracies(written: Study, label: str) -> dict[int, float]:
    """Seed to test accuracy of a condition."""
    return next(item for item in written.conditions if item.record.label == label).outcomes("test/accuracy")


def test_agreement_follows_verdict_interval_and_rounding(compared: tuple[Comparison, ...]) -> None:
    expected = ["agrees", "agrees", "disagrees", "agrees", "agrees", "disagrees", "not tested"]
    assert [item.agreement for item in compared] == expected
    assert compared[0].verdict is not None
    assert compared[0].verdict.decision == "supported"


def test_results_equal_means_over_seeds(written: Study, compared: tuple[Comparison, ...]) -> None:
    baseline, student = accuracies(written, "baseline"), accuracies(written, "alpha=0.8")
    gain, teacher = compared[1].result, compared[3].result
    assert gain is not None
    assert teacher is not None
    assert gain.mean == pytest.approx(fmean(student[seed] - baseline[seed] for seed in baseline), abs=1e-12)
    assert gain.n == 5
    values = accuracies(written, "teacher")
    assert teacher.mean == pytest.approx(fmean(values.values()), abs=1e-12)
    assert teacher.low is not None
    assert teacher.low < teacher.mean < 1


def test_parameters_are_compared_exactly(compared: tuple[Comparison, ...]) -> None:
    result = compared[4].result
    assert result is not None
    assert result.mean == 4_729_418 / 21_282_122 - 1


def test_count_agrees_if_it_rounds_to_the_published_one(written: Study) -> None:
    entries = [
        Published("a", value=value, metric="parameters", factor="role", levels=("teacher",))
        for value in (21_282_122.0, 21_300_000.0, 21_282_123.0)
    ]
    changed = replace(written, experiment=replace(written.experiment, published=tuple(entries)))
    assert [item.agreement for item in comparisons(changed, ())] == ["agrees", "agrees", "disagrees"]


def test_single_seed_leaves_numbers_undecided(tmp_path: Path) -> None:
    stores.write_distillation(tmp_path, seeds=1)
    store = Store(tmp_path)
    one = study(store, store.experiment("2_2"))
    agreements = [item.agreement for item in comparisons(one, judge(one))]
    assert agreements == ["undecided"] * 4 + ["agrees", "disagrees", "not tested"]


def test_number_has_the_unit_of_the_metric() -> None:
    gain = Published("a", value=0.024, factor="role", levels=("distilled", "baseline"))
    assert number(gain, -0.024) == "\u22122.40 points"
    assert number(Published("a", value=0.9, factor="depth", levels=(5,)), 0.9135) == "91.35%"
    losses = Published("a", value=0.1, metric="test/loss", factor="role", levels=("a", "b"))
    assert number(losses, 0.12345) == "+0.1235 nats"
    size = Published("a", value=5e6, metric="parameters", factor="role", levels=("a",))
    assert number(size, 4_729_418) == "4,729,418 parameters"
