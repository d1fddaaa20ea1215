"""What networks learn from and start from, in words."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from fathomlab.analysis.study import Study
from fathomlab.report.parents import frozen_parameters, has_own_roles, learned_from, seed_offsets, started_from


def study(*trials: tuple[str, str, dict[str, Any]], seed: int = 0) -> Study:
    """The trials of a study: role, hash, and parents or root of the random streams."""
    rows = [
        (
            SimpleNamespace(record=SimpleNamespace(role=role)),
            seed,
            SimpleNamespace(trial=name, content={"seed": seed} | content),
        )
        for role, name, content in trials
    ]
    return cast("Study", SimpleNamespace(trials=rows, conditions=[]))


def taught(*hashes: str) -> dict[str, Any]:
    """The content of a trial with these teachers."""
    return {"parents": {"teacher": list(hashes)}}


LAB = study(("teacher", "a", {}), ("baseline", "b", {}), ("distilled", "c", taught("a")))
STUDY = study(
    ("big", "a", {}),
    ("other", "b", {"seed": 1000}),
    ("middle", "c", taught("a", "b")),
    ("tiny", "d", taught("c")),
    ("tiny", "e", taught("a")),
    ("warm", "f", {"parents": {"start": "d"}}),
)


@pytest.mark.parametrize("study", [LAB, study(("supervised", "a", {})), study()])
def test_lab_sections_need_no_words(study: Study):
    assert not has_own_roles(study)
    assert learned_from(study) + started_from(study) + seed_offsets(study) == ""


def test_own_roles_are_named_with_their_parents():
    assert learned_from(STUDY) == (
        "Of these, middle learned from the mean of the logits of big and other; tiny learned from middle or from big."
    )
    assert started_from(STUDY).endswith(": warm from those of tiny.")
    assert "other adds 1000 to each seed" in seed_offsets(STUDY)


def test_missing_parents_are_other_networks():
    assert "student learned from another network" in learned_from(study(("student", "a", taught("x"))))


def test_frozen_parameters_belong_to_their_conditions():
    frozen = {"training": {"frozen": ["conv", "norm"]}}
    conditions = [
        SimpleNamespace(
            name=name, trials=[(0, SimpleNamespace(content=content))], parameters=1200, total_parameters=5000
        )
        for name, content in (("first", {}), ("tuned", frozen))
    ]
    some, every = (cast("Study", SimpleNamespace(conditions=chosen)) for chosen in (conditions, conditions[1:]))
    assert "conv and norm of tuned (1,200 of 5,000 trained)" in frozen_parameters(some)
    assert "of tuned" not in frozen_parameters(every)
    assert frozen_parameters(study()) == ""
