"""What pages embed of trials, and when a repeated trial agrees with the page."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fathomlab.analysis.recorded import RecordedTrial, read_trials, record_trials
from fathomlab.analysis.repetition import compare_repetition, provenance_changes
from fathomlab.analysis.study import study
from fathomlab.base.codec import to_plain
from fathomlab.base.identity import content_hash
from fathomlab.store.provenance import BackendBuild, DataSource, Hardware, Provenance, Resumption
from fathomlab.store.reading import Store
from tests.helpers import stores

ENVIRONMENT = {"torch": "2.13.0", "kernels": "AVX512", "code": "c0de"}
ORIGIN = Provenance(
    hardware=Hardware("EPYC", 2),
    environment=ENVIRONMENT,
    precision="fp32",
    backend=BackendBuild("reference", "torch 2.13.0"),
    data=DataSource("mnist", {"train": "a", "test": "b"}),
)


def recorded(accuracy: float, **also: Any) -> RecordedTrial:
    """A finished trial."""
    metrics = {"test/accuracy": accuracy, "best/test/accuracy": accuracy, "test/loss": 0.5}
    fields = {"parameters": 10, "status": "finished", "metrics": metrics, "provenance": ORIGIN, "condition": "c"}
    return RecordedTrial("f" * 64, {"seed": 3}, **(fields | also))


def test_recorded_trials_survive_json(tmp_path: Path):
    """Contents keep their hash, and metrics and packs their bits, for conditions that differ in every section."""
    stores.write_all(tmp_path)
    store = Store(tmp_path)
    for record in store.experiments():
        read = study(store, record)
        trials = {trial.trial: trial for _, _, trial in read.trials if trial.status in ("finished", "diverged")}
        table = json.loads(json.dumps(to_plain(record_trials(read)), allow_nan=False))
        result = {trial.trial: trial for trial in read_trials(table)}
        assert result.keys() == trials.keys()
        for name, trial in result.items():
            assert content_hash(trial.content) == name
            assert trial.content == trials[name].content
            known = {key: value for key, value in trial.metrics.items() if value is not None}
            assert known == {key: value for key, value in trials[name].metrics.items() if value is not None}
            assert trial.provenance.versions == trials[name].provenance.versions


def test_recorded_trials_name_packs_of_known_trials_only(tmp_path: Path):
    """In the order of the slots; a pack with a trial that the store has lost is unknown."""
    stores.write_depths(tmp_path, depths=(5,), epochs=1, seeds=2)
    store = Store(tmp_path)
    first, second = (condition.trials for condition in store.experiment("1_2").conditions)
    members = [second[0].trial, first[0].trial]
    for name, pack in ((first[0].trial, members), (first[1].trial, [first[1].trial, "0" * 64])):
        stores.change(tmp_path / "trials" / name / "provenance.json", pack={"size": 2, "place": 1, "members": pack})
    stores.reseal(tmp_path)
    trials = {
        trial.trial: trial.pack for trial in read_trials(to_plain(record_trials(study(store, store.experiment("1_2")))))
    }
    assert (trials[first[0].trial], trials[first[1].trial]) == (tuple(members), ())


@pytest.mark.parametrize("change", [{"rows": [9]}, {"rows": [-1]}, {"rows": []}, {"values": []}, {"rows": ["x"]}])
def test_read_trials_rejects_wrong_indices(change: dict[str, Any]):
    """Beyond the values, negative, too few, and of another type."""
    table = {"trials": ["f" * 64], "content": {"seed": {"values": [3], "rows": [0]}}, "facts": {}, "metrics": {}}
    table |= {"packs": {"values": [], "rows": [None]}}
    (trial,) = read_trials(table)
    assert trial.content == {"seed": 3}
    table["content"] = {"seed": {"values": [3], "rows": [0]} | change}
    with pytest.raises(ValueError, match=r"no such row|no such value|valid integer"):
        read_trials(table)


def test_read_trials_rejects_numbers_whose_sums_overflow():
    table = {"trials": ["f" * 64], "content": {}, "facts": {"status": {"values": ["finished"], "rows": [0]}}}
    table |= {"metrics": {"a": [0.5]}, "packs": {"values": [[0]], "rows": [0]}}
    (trial,) = read_trials(table)
    assert (trial.metrics, trial.pack) == ({"a": 0.5}, ("f" * 64,))
    with pytest.raises(ValueError, match="too large"):
        read_trials(table | {"metrics": {"a": [10**400]}})


@pytest.mark.parametrize("pack", [[1], [-1], ["x"], "x", 5, {"a": 0}])
def test_read_trials_rejects_wrong_packs(pack: Any):
    table = {"trials": ["f" * 64], "content": {}, "facts": {}, "metrics": {}, "packs": {"values": [pack], "rows": [0]}}
    with pytest.raises(ValueError, match="unknown member"):
        read_trials(table)


def test_equal_environments_require_equal_bits():
    """One unit in the last place is too much."""
    page = recorded(0.9)
    assert compare_repetition(page, page, [page]).identical
    other_loss = replace(page, metrics={**page.metrics, "test/loss": math.nextafter(0.5, 1)})
    assert not compare_repetition(page, other_loss, [page]).agrees
    close = recorded(math.nextafter(0.9, 1))
    result = compare_repetition(page, close, [page])
    assert (result.identical, result.agrees, result.tolerance, result.changes) == (False, False, 0.0, ())
    assert result.rows[0].difference == math.nextafter(0.9, 1) - 0.9


@pytest.mark.parametrize(
    ("accuracies", "difference", "agrees"),
    [
        ((0.90, 0.91, 0.92), 0.039, True),
        ((0.90, 0.91, 0.92), 0.041, False),
        ((0.90, 0.90, 0.90), 0.0019, True),
        ((0.90, 0.90, 0.90), 0.0021, False),
        ((0.80, 0.90), 0.099, True),
        ((0.80, 0.90), 0.101, False),
    ],
)
def test_other_environments_have_a_tolerance(accuracies: tuple[float, ...], difference: float, agrees: bool):
    """Four standard deviations between the seeds, at least 0.2 points, and 10 points with fewer than three seeds."""
    seeds = [recorded(value) for value in accuracies]
    other = replace(ORIGIN, environment=ENVIRONMENT | {"kernels": "AVX2"})
    for sign in (1, -1):
        repeated = recorded(accuracies[0] + sign * difference, provenance=other)
        result = compare_repetition(seeds[0], repeated, seeds)
        assert (result.agrees, result.identical) == (agrees, False)
    assert len(result.changes) == 1


def test_tolerance_counts_seeds_with_an_accuracy():
    """A diverged seed has none."""
    seeds = [*(recorded(value) for value in (0.90, 0.91, 0.92)), recorded(0.5, status="diverged", metrics={})]
    result = compare_repetition(seeds[0], recorded(0.93), seeds, ["the pack"])
    assert (result.tolerance, result.basis) == (pytest.approx(0.04), "4 standard deviations of 3 seeds")


@pytest.mark.parametrize("change", [{"status": "diverged"}, {"parameters": 11}])
def test_other_outcomes_never_agree(change: dict[str, Any]):
    """Also in another environment."""
    page = recorded(0.9)
    assert not compare_repetition(page, recorded(0.9, **change), [page], ["the pack"]).agrees


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"hardware": Hardware("Xeon", 2)}, "the processor"),
        ({"environment": {**ENVIRONMENT, "code": "other"}}, "the code"),
        ({"precision": "bf16"}, "the precision"),
        ({"backend": BackendBuild("native", "torch 2.13.0")}, "the backend"),
        ({"data": DataSource("mnist", {"train": "a", "test": "x"})}, "the data file test"),
    ],
)
def test_changes_of_provenance_are_named(change: dict[str, Any], text: str):
    """One phrase each; other cores and later versions of the program change no bits."""
    same = replace(ORIGIN, hardware=Hardware("EPYC", 64), versions={"fathomlab": "9"})
    assert provenance_changes(ORIGIN, same) == ()
    (phrase,) = provenance_changes(ORIGIN, replace(ORIGIN, **change))
    assert phrase.startswith(text)


def test_a_resumption_elsewhere_is_a_change():
    """A resumption in the same environment keeps the bits."""
    for environment, changes in ((ENVIRONMENT, 0), ({**ENVIRONMENT, "torch": "2.12"}, 1)):
        page = replace(ORIGIN, resumed=(Resumption(5, environment, ()),))
        assert len(provenance_changes(page, ORIGIN)) == changes
