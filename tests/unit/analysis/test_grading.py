"""One row per experiment of a hand-in, what a student changed, and which trials come from one training."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fathomlab.analysis.as_json import summary_json
from fathomlab.analysis.edits import Reference, changed_options, majority, option_values
from fathomlab.analysis.grades import Grade
from fathomlab.analysis.grading import claims_hash, grade_page, grade_store
from fathomlab.analysis.identical import Copies, find_copies, find_same_seeds, training
from fathomlab.analysis.study import study
from fathomlab.analysis.verdicts import judge
from fathomlab.base.identity import content_hash
from fathomlab.store.maintenance import check_store
from fathomlab.store.reading import Store
from tests.helpers import stores


@pytest.fixture
def store(tmp_path: Path) -> Store:
    stores.write_depths(tmp_path / "runs", cause="no memory")
    return Store(tmp_path / "runs")


def rows(store: Store) -> list[Grade]:
    return [row.grade for row in grade_store(store, "ada", "store", check_store(store.root).problems)]


def record_file(store: Store) -> Path:
    return store.root / "experiments" / "1_2" / "experiment.json"


def test_row_counts_trials_and_has_every_verdict(store: Store):
    (row,) = rows(store)
    assert (row.trials, row.finished, row.diverged, row.failed, row.missing) == (40, 38, 1, 1, 0)
    assert (row.store, row.experiment, row.conditions, row.seeds) == ("ada", "1_2", 8, (42, 43, 44, 45, 46))
    assert (row.quick, row.overrides, row.damaged, row.problem) == (False, ("experiment.seeds=5",), (), "")
    verdicts = judge(study(store, store.experiment("1_2")))
    assert [(claim.claim, claim.verdict) for claim in row.claims] == [
        (verdict.claim.name, verdict.decision) for verdict in verdicts
    ]
    assert [claim.effect for claim in row.claims] == [verdict.effect and verdict.effect.mean for verdict in verdicts]
    assert row.environments.torch == ("2.13.0",)
    assert row.environments.code == ("fathomlab 0.1.0, commit c0ffee000000 with changes",)


def test_page_gives_the_same_row_as_its_store(store: Store):
    """Except for what a page does not contain: overrides, the commit, damage."""
    read = study(store, store.experiment("1_2"))
    document = json.loads(json.dumps(summary_json(read, judge(read))))
    (row,), page = rows(store), grade_page(document, "ada").grade
    left_out = {"kind": "page", "overrides": None, "claims_hash": page.claims_hash}
    assert replace(page, environments=row.environments) == replace(row, **left_out)
    assert page.environments.torch == row.environments.torch


@pytest.mark.parametrize("document", [{}, {"name": 1}, {"name": "x", "conditions": 3}, {"name": "x", "trials": []}])
def test_other_documents_are_no_page(document: dict[str, Any]):
    with pytest.raises(ValueError, match=r".*"):
        grade_page(document, "ada")


def test_missing_and_damaged_trials_are_counted(store: Store):
    """The file is named, and another experiment of the store is not concerned."""
    stores.write_blocks(store.root)
    first, second = store.experiment("1_2").conditions[0].trials[:2]
    (store.root / "trials" / first.trial / "result.json").unlink()
    (store.root / "trials" / second.trial / "metrics.jsonl").write_text("x\ny\n")
    grades = {row.experiment: row for row in rows(store)}
    assert (grades["1_2"].finished, grades["1_2"].missing) == (36, 2)
    assert [text.partition(":")[0] for text in grades["1_2"].damaged] == [f"trials/{second.trial[:12]}"]
    assert grades["1_3"].damaged == ()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 3}', '{"format": 1}', '{"format": 99}'])
def test_damaged_records_are_rows(store: Store, text: str):
    record_file(store).write_text(text)
    (row,) = rows(store)
    assert (row.experiment, row.trials, bool(row.problem)) == ("1_2", 0, True)


def test_store_without_experiments_is_a_row(tmp_path: Path):
    (row,) = rows(Store(tmp_path))
    assert row.problem == "contains no experiments"


def test_error_in_one_experiment_does_not_hide_others(store: Store, monkeypatch: pytest.MonkeyPatch):
    stores.write_blocks(store.root)

    def broken(_: Store, record: Any) -> Any:
        if record.name == "1_2":
            raise ZeroDivisionError
        return study(store, record)

    monkeypatch.setattr("fathomlab.analysis.grading.study", broken)
    problems = {row.experiment: row.problem for row in rows(store)}
    assert problems == {"1_2": "cannot be evaluated (ZeroDivisionError)", "1_3": ""}


def test_edits_after_results_are_flags(store: Store):
    stores.change(record_file(store), claims_late=True)
    (row,) = rows(store)
    assert (row.claims_after_results, row.seeds_after_results) == (True, False)


def test_hash_of_claims_is_that_of_the_claims(store: Store):
    """Not the one that a record states."""
    record = store.experiment("1_2")
    assert claims_hash(record) == content_hash(stores.claims()) != record.claims_hash


def test_options_are_compared_by_their_values():
    contents = [{"seed": seed, "format": 3, "training": {"lr": lr}} for seed, lr in ((1, 0.1), (2, 0.1), (3, 0.2))]
    assert option_values(contents) == {"training.lr": ("0.1", "0.2")}
    assert changed_options(option_values(contents), option_values(contents[1:])) == ()
    changed = changed_options(option_values(contents), option_values([*contents[:1], {"x": 1}]))
    assert changed == ("training.lr: 0.1, 0.2 (reference: 0.1)", "x: none (reference: 1)")


def test_majority_needs_more_than_half_of_three():
    assert [majority(values) for values in ("aa", "aab", "aabb", "abc", "")] == [None, "a", None, None, None]


def test_reference_concerns_name_or_title():
    reference = Reference("lab1", "Lab 1")
    assert reference.concerns("lab1-quick-0123abcd", "")
    assert reference.concerns("renamed-0123abcd", "Lab 1")
    assert not reference.concerns("lab2-0123abcd", "Lab 2")
    assert not Reference("lab1").concerns("lab2-0123abcd", "")


A, B, C = ("t1", "10:00", 1.25), ("t2", "10:00", 1.25), ("t1", "10:00", 1.2500000001)


def test_copies_are_grouped_by_stores():
    groups = find_copies({"ada": {A, B}, "bob": {A, B}, "cy": {C}, "dan": {B}}, set())
    assert groups == (Copies(("ada", "bob"), ("t1",)), Copies(("ada", "bob", "dan"), ("t2",)))


def test_shared_trials_are_no_copies():
    assert find_copies({"ada": {A, B}, "bob": {A, B}}, {A, B}) == ()


def test_equal_results_of_two_trainings_are_no_copies(tmp_path: Path):
    """Same options, seeds, and metrics, since training is deterministic. Only the measured time differs, in its last digits."""
    both = [tmp_path / name for name in ("ada", "bob")]
    for root in both:
        stores.write_blocks(root)
    trainings = {root.name: {training(Store(root).trial(name)) for name in Store(root).trials()} for root in both}
    assert trainings["ada"] == trainings["bob"]  # as copied
    for path in both[1].glob("trials/*/result.json"):
        stores.change(path, seconds=json.loads(path.read_text())["seconds"] + 1e-6)
    honest = {training(Store(both[1]).trial(name)) for name in Store(both[1]).trials()}
    assert None not in honest
    assert find_copies({"ada": trainings["ada"], "bob": honest}, set()) == ()  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("result", "seconds", None),
        ("result", "seconds", 0),
        ("result", "status", "failed"),
        ("provenance", "started", None),
    ],
)
def test_unmeasured_trials_prove_nothing(tmp_path: Path, file: str, key: str, value: Any):
    stores.write_blocks(tmp_path)
    name = Store(tmp_path).trials()[0]
    stores.change(tmp_path / "trials" / name / f"{file}.json", **{key: value})
    assert training(Store(tmp_path).trial(name)) is None


def test_same_seeds_are_grouped_by_experiment():
    groups = find_same_seeds(
        [("lab1", (1, 2), "ada"), ("lab1", (1, 2), "bob"), ("lab1", (3,), "cy"), ("lab2", (1, 2), "cy")]
    )
    assert [(item.experiment, item.seeds, item.stores) for item in groups] == [("lab1", (1, 2), ("ada", "bob"))]
