"""Alpha spending against published boundaries and simulation; how many seeds are added."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from fathomlab.analysis.as_json import looks_json
from fathomlab.analysis.contrasts import Contrast
from fathomlab.analysis.extension import plan_extension
from fathomlab.analysis.sequential import Look, level_now, look_levels, next_look, spending
from fathomlab.analysis.study import study
from fathomlab.analysis.verdicts import Advice, Decision, Verdict, judge
from fathomlab.analysis.verdicts import Tests as Statistics
from fathomlab.base.errors import UserError
from fathomlab.config.claims import Claim

SEED = 20251


def undecided(more: int | None, decision: Decision = "undecided") -> Verdict:
    """A verdict that needs so many more seeds."""
    contrast = Contrast(Claim("a", "residual", (True, False), "greater"), (), (), "")
    return Verdict(contrast, decision, None, Statistics(1.0, 1.0, 1.0, 0.025), advice=Advice(more))


def test_look_levels_match_published_boundaries():
    """Lan-DeMets spending of O'Brien-Fleming type, five equal looks, one-sided 2.5 %: as gsDesign's sfLDOF prints them."""
    levels = look_levels([(n, 50) for n in (10, 20, 30, 40, 50)], correction=1)
    assert stats.norm.isf(levels) == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-3)


def test_look_levels_of_one_look_are_the_full_level():
    """But for what few seeds ask of caution; and everything is spent at the end."""
    assert look_levels([(12, 12)], correction=1) == (pytest.approx(0.025),)
    assert look_levels([(12, 12)]) == (pytest.approx(0.87 * 0.025),)
    assert spending(1.0) == pytest.approx(0.025)
    assert (spending(0.0), spending(2.0)) == (0.0, spending(1.0))
    assert spending(0.25) == pytest.approx(2 * stats.norm.sf(stats.norm.isf(0.0125) * 2))


def test_look_levels_reject_looks_that_do_not_grow():
    """In seeds, within a budget."""
    for looks in ([(5, 20), (5, 20)], [(0, 20)], [(5, 0)]):
        with pytest.raises(ValueError, match="grow"):
            look_levels(looks)


@pytest.mark.parametrize("runs", [40_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("sizes", [(6, 10, 14, 17, 20), (5, 6, 7, 8, 9), (3, 4, 5, 6, 7), (5, 30), (10, 20, 60)])
def test_look_levels_keep_the_error_over_all_looks(sizes: tuple[int, ...], runs: int):
    """t tests on growing samples without effect: some look decides in at most 2.5 % of cases, without spending in far more."""
    print(f"seed {SEED}")
    rng, budget = np.random.default_rng(SEED), sizes[-1]
    levels = look_levels([(n, budget) for n in sizes])
    result, naive = 0, 0
    for _ in range(runs // 10_000):
        values = rng.standard_normal((10_000, budget))
        p_values = np.stack(
            [stats.ttest_1samp(values[:, :n], 0, axis=1, alternative="greater").pvalue for n in sizes], 1
        )
        result += int((p_values <= np.array(levels)).any(axis=1).sum())
        naive += int((p_values <= 0.025).any(axis=1).sum())
    error = (0.025 * 0.975 / runs) ** 0.5
    assert result / runs <= 0.025 + 4 * error
    assert result / runs > 0.021 - 4 * error  # not by never deciding
    assert naive / runs > 0.035


def test_next_look_returns_no_error_for_a_raised_budget():
    """What was spent stays spent: another look after the last has no level."""
    looks = [next_look([], 10, 20)]
    looks.append(next_look(looks, 20, 20))
    looks.append(next_look(looks, 30, 40))
    assert looks[1].spent == looks[2].spent == pytest.approx(0.025)
    assert looks[2].level == 0.0
    assert looks[0] == Look(10, 20, spending(0.5), look_levels([(10, 20)])[0])


def test_next_look_rejects_a_sixth_look():
    """At most five, each at more seeds than the last."""
    looks: list[Look] = []
    for n in (4, 8, 12, 16, 20):
        looks.append(next_look(looks, n, 20))
    with pytest.raises(UserError, check=lambda error: error.code == "too-many-looks"):
        next_look(looks, 24, 24)
    with pytest.raises(UserError, match="needs more"):
        next_look(looks[:2], 8, 20)


def test_level_now_counts_seeds_since_the_last_look():
    """Without looks: the full level. At a look: its own. Past the last: as another look in the same budget."""
    assert level_now((), 7) == 0.025
    looks = [next_look([], 6, 20), Look(12, 20)]
    assert level_now(looks, 12) == look_levels([(6, 20), (12, 20)])[-1]
    assert level_now(looks, 6) == look_levels([(6, 20)])[-1]
    assert level_now(looks, 15) == look_levels([(6, 20), (12, 20), (15, 20)])[-1]
    assert level_now(looks, 12, 0.0125) == look_levels([(6, 20), (12, 20)], 0.0125)[-1] < level_now(looks, 12)


@pytest.mark.parametrize(
    ("verdicts", "n", "looks", "budget", "seeds"),
    [
        ([undecided(None, "supported")], 6, 1, 30, 0),
        ([undecided(7)], 6, 1, 30, 6),  # the least that reaches 30 seeds in four more looks; 7 is more than there are
        ([undecided(9)], 10, 1, 30, 9),
        ([undecided(3), undecided(9)], 10, 1, 30, 9),
        ([undecided(3)], 10, 1, 30, 5),
        ([undecided(300)], 10, 1, 100, 23),
        ([undecided(300)], 10, 1, 40, 10),
        ([undecided(9)], 25, 1, 30, 5),
        ([undecided(2)], 20, 4, 30, 10),
        ([undecided(9)], 30, 3, 30, 0),
        ([undecided(9)], 20, 5, 30, 0),
        ([undecided(None)], 20, 2, 30, 0),
        ([undecided(4)], 1, 1, 10, 3),
    ],
)
def test_plan_extension_returns_seeds_to_add(verdicts: list[Verdict], n: int, looks: int, budget: int, seeds: int):
    """What the most demanding claim needs, within the budget and five looks; none where that would decide nothing."""
    extension = plan_extension(verdicts, n, [Look(k + 1, budget) for k in range(looks)], budget)
    assert extension.seeds == seeds
    assert extension.reason


def test_plan_extension_stops_if_all_claims_are_decided():
    """A refuted claim is decided, too; an open claim that no number of seeds decides is not."""
    decided = plan_extension([undecided(None, "supported"), undecided(None, "refuted")], 6, [Look(6, 30)], 30)
    open_claim = plan_extension([undecided(None)], 6, [Look(6, 30)], 30)
    assert (decided.seeds, open_claim.seeds) == (0, 0)
    assert ["undecided" in step.reason for step in (decided, open_claim)] == [False, True]


def extended(build: SimpleNamespace, values: np.ndarray, first: int, budget: int) -> tuple[str, int, int]:
    """The verdict, seeds and looks when an experiment with these differences is extended until it is decided."""
    n, looks = first, []
    while True:
        looks.append(next_look(looks, n, budget))
        conditions = [
            ({"model.params.residual": level}, (values if level else 0 * values)[:n].tolist())
            for level in (True, False)
        ]
        store, experiment = build.store(conditions, [build.claim()], looks=tuple(looks_json(looks)))
        verdicts = judge(study(store, experiment))
        add = plan_extension(verdicts, n, looks, budget).seeds
        if add == 0:
            return verdicts[0].decision, n, len(looks)
        n += add


@pytest.mark.parametrize("runs", [150, pytest.param(4000, marks=pytest.mark.slow)])
def test_extension_keeps_the_error_level(build: SimpleNamespace, runs: int):
    """The whole loop on data without effect, where the seeds to add depend on the data: at most 2.5 % either way."""
    print(f"seed {SEED}")
    rng = np.random.default_rng(SEED)
    ends = [extended(build, 0.01 * rng.standard_normal(24), 6, 24) for _ in range(runs)]
    assert max(looks for _, _, looks in ends) <= 5
    assert max(seeds for _, seeds, _ in ends) == 24
    for side in ("supported", "refuted"):
        share = sum(verdict == side for verdict, _, _ in ends) / runs
        assert share <= 0.025 + 4 * (0.025 * 0.975 / runs) ** 0.5


def test_extension_finds_a_clear_effect_early(build: SimpleNamespace):
    """An effect of 1.5 standard deviations is found well before the budget of 40 is used."""
    rng = np.random.default_rng(SEED)
    ends = [extended(build, 0.015 + 0.01 * rng.standard_normal(40), 6, 40) for _ in range(20)]
    assert all(verdict == "supported" for verdict, _, _ in ends)
    assert np.mean([seeds for _, seeds, _ in ends]) < 25
