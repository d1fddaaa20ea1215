"""Conditions of an experiment and how they are paired."""

from pathlib import Path
from typing import Any

from fathomlab.analysis.study import study
from fathomlab.store.reading import Store
from tests.helpers import stores


def test_residual_pairs_stay_within_a_role(tmp_path: Path) -> None:
    """Plain and residual students are paired with those of the same role and depth."""
    conditions: list[Any] = []
    for role in ("baseline", "distilled"):
        for depth in (5, 10):
            for residual in (False, True):
                factors = {"student_model.params.hidden_layers_num": depth, "student_model.params.residual": residual}
                trial = stores.write_trial(tmp_path, "deep", factors, 0, 0.9, role=role)
                label = f"{role} {depth} {residual}"
                conditions.append(stores.condition(label, factors, depth, [(0, trial)], role))
    stores.write_experiment(tmp_path, "deep", "Depth", conditions, factors=list(factors), claims=[], seeds=[0])
    store = Store(tmp_path)
    pairs = study(store, store.experiment("deep")).residual_pairs()
    labels = [(plain.record.label, residual.record.label) for plain, residual in pairs]
    assert labels == [
        (f"{start} False", f"{start} True") for start in ("baseline 5", "baseline 10", "distilled 5", "distilled 10")
    ]
