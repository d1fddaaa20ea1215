"""Earlier analyses of the same question share the error level, however the seeds were added."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fathomlab.analysis.as_json import looks_json
from fathomlab.analysis.looks import planned_looks
from fathomlab.analysis.sequential import Look, look_levels
from fathomlab.analysis.study import study
from fathomlab.analysis.verdicts import judge
from fathomlab.analysis.wording import notes
from fathomlab.base.errors import ConfigError

FACTOR = "model.params.residual"


def history(
    build: SimpleNamespace, folder: Path, *runs: tuple[str, list[int]], **changes: Any
) -> tuple[Any, list[Any]]:
    """A store with one experiment per run: its time and its seeds. All ask whether shortcuts help."""
    effects = {seed: 0.03 + 0.01 * ((seed * 7) % 5 - 2) for seed in range(40)}
    conditions = [({FACTOR: True}, [0.5 + effects[seed] for seed in range(40)]), ({FACTOR: False}, [0.5] * 40)]
    store, total = build.store(conditions, [build.claim()], claims_hash="c", resolved={"seeds": []})
    records = []
    for number, (created, seeds) in enumerate(runs):
        page = folder / str(number)
        page.mkdir()
        (page / "report.html").touch()
        own = tuple(
            replace(condition, trials=tuple(pair for pair in condition.trials if pair.seed in seeds))
            for condition in total.conditions
        )
        records.append(
            replace(
                total, name=str(number), folder=page, conditions=own, created=created, seeds=tuple(seeds), **changes
            )
        )
    store.records = records
    return store, records


def test_looks_are_empty_after_one_analysis(build: SimpleNamespace, tmp_path: Path):
    """The full level, and no mark."""
    store, (record,) = history(build, tmp_path, ("t1", list(range(5))))
    looks = study(store, record).looks
    assert (looks.n, looks.looks, looks.changed) == (5, (), False)
    (verdict,) = judge(study(store, record))
    assert (verdict.tests.level, verdict.looks.changed) == (0.025, False)


def test_looks_count_seeds_added_by_hand(build: SimpleNamespace, tmp_path: Path):
    """Five seeds, then ten: both decide at the levels of two looks within a budget of ten, and the second is marked."""
    store, (early, late) = history(build, tmp_path, ("t1", list(range(5))), ("t2", list(range(10))))
    levels = look_levels([(5, 10), (10, 10)])
    (first,), (second,) = (judge(study(store, record)) for record in (early, late))
    assert (first.tests.level, second.tests.level) == tuple(map(pytest.approx, levels))
    assert (first.looks.changed, second.looks.changed) == (False, True)
    assert any("5 seeds" in note for note in notes(second))


def test_looks_of_one_second_are_ordered_by_seeds(build: SimpleNamespace, tmp_path: Path):
    """Two runs within one second: more seeds came later."""
    store, (late, early) = history(build, tmp_path, ("t1", list(range(10))), ("t1", list(range(5))))
    assert (study(store, early).looks.changed, study(store, late).looks.changed) == (False, True)


@pytest.mark.parametrize("seeds", [list(range(5, 10)), [0, 1, 3], list(range(3, 12))])
def test_looks_mark_other_seeds_after_results(build: SimpleNamespace, tmp_path: Path, seeds: list[int]):
    """New seeds instead of the old ones, fewer of them, or a shifted range: all were chosen after results."""
    store, (_, late) = history(build, tmp_path, ("t1", list(range(5))), ("t2", seeds))
    assert study(store, late).looks.changed
    assert study(store, late).looks.n == len({*range(5), *seeds})


def test_looks_share_the_error_level(build: SimpleNamespace, tmp_path: Path):
    """The budget is the largest number of seeds."""
    runs = [("t1", list(range(4))), ("t2", list(range(8))), ("t3", list(range(16)))]
    store, records = history(build, tmp_path, *runs)
    levels = look_levels([(4, 16), (8, 16), (16, 16)])
    result = [judge(study(store, record))[0].tests.level for record in records]
    assert result == pytest.approx(levels)


@pytest.mark.parametrize("change", [{"claims_hash": "other"}, {"resolved": {"data": {"name": "cifar-10"}}}])
def test_looks_ignore_other_questions(build: SimpleNamespace, tmp_path: Path, change: dict[str, Any]):
    """Other claims or other fixed options."""
    store, (early, late) = history(build, tmp_path, ("t1", list(range(5))), ("t2", list(range(10))))
    store.records[0] = replace(early, **change)
    assert not study(store, late).looks.changed


def test_looks_ignore_experiments_without_a_page(build: SimpleNamespace, tmp_path: Path):
    """Nobody has seen its results."""
    store, (early, late) = history(build, tmp_path, ("t1", list(range(5))), ("t2", list(range(10))))
    (early.folder / "report.html").unlink()
    assert not study(store, late).looks.changed


def test_looks_keep_a_planned_budget(build: SimpleNamespace, tmp_path: Path):
    """An experiment extended by --max-seeds alone uses its recorded looks and is not marked."""
    looks = ({"n": 5, "of": 20}, {"n": 10, "of": 20})
    store, (record,) = history(build, tmp_path, ("t1", list(range(10))), looks=looks)
    (verdict,) = judge(study(store, record))
    assert verdict.tests.level == pytest.approx(look_levels([(5, 20), (10, 20)])[1])
    assert not verdict.looks.changed


def test_looks_json_omits_unknown_values():
    """Planned looks have the error spent and the level; looks from the history of the store do not."""
    looks = [Look(5, 20, spent=0.001, level=0.0009), Look(10, 20)]
    assert looks_json(looks) == [{"n": 5, "of": 20, "spent": 0.001, "level": 0.0009}, {"n": 10, "of": 20}]
    assert planned_looks(looks_json(looks)) == tuple(looks)


def test_study_reports_malformed_looks(build: SimpleNamespace, tmp_path: Path):
    """No level is computed from a record that lost a number."""
    store, (record,) = history(build, tmp_path, ("t1", list(range(5))), looks=({"n": 5},))
    assert [problem.code for problem in study(store, record).problems] == ["invalid-looks"]
    with pytest.raises(ConfigError):
        judge(study(store, record))
