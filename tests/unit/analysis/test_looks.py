"""Earlier analyses of the same question share the error level, however the seeds were added."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fathomlab.analysis.looks import looks_at
from fathomlab.analysis.sequential import look_levels
from fathomlab.analysis.verdicts import verdicts

FACTOR = "model.params.residual"


def history(made: SimpleNamespace, folder: Path, *runs: tuple[str, list[int]], **changes: Any) -> tuple[Any, list[Any]]:
    """A store with one experiment per run: its time and its seeds. All ask whether shortcuts help."""
    effects = {seed: 0.03 + 0.01 * ((seed * 7) % 5 - 2) for seed in range(40)}
    conditions = [({FACTOR: True}, [0.5 + effects[seed] for seed in range(40)]), ({FACTOR: False}, [0.5] * 40)]
    store, whole = made.store(conditions, [made.claim()], claims_hash="c", resolved={"seeds": []})
    records = []
    for number, (created, seeds) in enumerate(runs):
        page = folder / str(number)
        page.mkdir()
        (page / "report.html").touch()
        own = tuple(
            replace(condition, trials=tuple(pair for pair in condition.trials if pair[0] in seeds))
            for condition in whole.conditions
        )
        records.append(
            replace(
                whole, name=str(number), folder=page, conditions=own, created=created, seeds=tuple(seeds), **changes
            )
        )
    store.records = records
    return store, records


def test_a_single_analysis_has_no_looks(made: SimpleNamespace, tmp_path: Path):
    """The full level, and no mark."""
    store, (record,) = history(made, tmp_path, ("t1", list(range(5))))
    looks = looks_at(store, record)
    assert (looks.n, looks.made, looks.changed) == (5, (), False)
    (verdict,) = verdicts(store, record)
    assert (verdict["decided_at"], verdict["seeds_added_after_results"]) == (5.0, False)


def test_seeds_added_by_hand_are_a_second_look(made: SimpleNamespace, tmp_path: Path):
    """Five seeds, then ten: both decide at the levels of two looks within a budget of ten, and the second is marked."""
    store, (early, late) = history(made, tmp_path, ("t1", list(range(5))), ("t2", list(range(10))))
    levels = look_levels([(5, 10), (10, 10)])
    (first,), (second,) = verdicts(store, early), verdicts(store, late)
    assert first["decided_at"] == pytest.approx(200 * levels[0])
    assert second["decided_at"] == pytest.approx(200 * levels[1])
    assert (first["seeds_added_after_results"], second["seeds_added_after_results"]) == (False, True)
    assert any("5 seeds" in note for note in second["notes"])


def test_order_does_not_depend_on_the_clock_alone(made: SimpleNamespace, tmp_path: Path):
    """Two runs within one second: more seeds came later."""
    store, (late, early) = history(made, tmp_path, ("t1", list(range(10))), ("t1", list(range(5))))
    assert (looks_at(store, early).changed, looks_at(store, late).changed) == (False, True)


@pytest.mark.parametrize("seeds", [list(range(5, 10)), [0, 1, 3], list(range(3, 12))])
def test_other_seeds_after_results_are_marked(made: SimpleNamespace, tmp_path: Path, seeds: list[int]):
    """New seeds instead of the old ones, fewer of them, or a shifted range: all were chosen after results."""
    store, (_, late) = history(made, tmp_path, ("t1", list(range(5))), ("t2", seeds))
    assert looks_at(store, late).changed
    assert looks_at(store, late).n == len({*range(5), *seeds})


def test_three_looks_share_the_level(made: SimpleNamespace, tmp_path: Path):
    """The budget is the largest number of seeds."""
    runs = [("t1", list(range(4))), ("t2", list(range(8))), ("t3", list(range(16)))]
    store, records = history(made, tmp_path, *runs)
    levels = look_levels([(4, 16), (8, 16), (16, 16)])
    found = [verdicts(store, record)[0]["decided_at"] for record in records]
    assert found == pytest.approx([200 * level for level in levels])


@pytest.mark.parametrize("change", [{"claims_hash": "other"}, {"resolved": {"data": {"name": "cifar-10"}}}])
def test_another_question_is_no_look(made: SimpleNamespace, tmp_path: Path, change: dict[str, Any]):
    """Other claims or other fixed options."""
    store, (early, late) = history(made, tmp_path, ("t1", list(range(5))), ("t2", list(range(10))))
    store.records[0] = replace(early, **change)
    assert not looks_at(store, late).changed


def test_an_experiment_without_a_page_is_no_look(made: SimpleNamespace, tmp_path: Path):
    """Nobody has seen its results."""
    store, (early, late) = history(made, tmp_path, ("t1", list(range(5))), ("t2", list(range(10))))
    (early.folder / "report.html").unlink()
    assert not looks_at(store, late).changed


def test_planned_looks_keep_their_budget(made: SimpleNamespace, tmp_path: Path):
    """An experiment extended by --max-seeds alone uses its recorded looks and is not marked."""
    looks = ({"n": 5, "of": 20}, {"n": 10, "of": 20})
    store, (record,) = history(made, tmp_path, ("t1", list(range(10))), looks=looks)
    (verdict,) = verdicts(store, record)
    assert verdict["decided_at"] == pytest.approx(200 * look_levels([(5, 20), (10, 20)])[1])
    assert not verdict["seeds_added_after_results"]
