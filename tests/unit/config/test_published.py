"""Checks of `experiment.published`, and that it is no part of an identity."""

from typing import Any

import pytest

import fathomlab
from fathomlab.config.published import Published
from fathomlab.plan import build

FILE: dict[str, Any] = {
    "model": {"type": "MLP"},
    "training": {"epochs": 1},
    "experiment": {"depths": [2, 3], "seeds": 2},
    "claims": [{"name": "Depth helps", "factor": "hidden_layers_num", "levels": [3, 2], "expect": "greater"}],
}


def with_published(**entry: Any) -> dict[str, Any]:
    """The file with one published statement."""
    return FILE | {"experiment": FILE["experiment"] | {"published": [{"statement": "a", **entry}]}}


@pytest.mark.parametrize(
    ("entry", "code", "key"),
    [
        ({"claim": "Depth hurts"}, "unknown-name", ".claim"),
        ({"value": 0.9}, "invalid-published", ".factor"),
        ({"value": 0.9, "factor": "residual"}, "invalid-published", ".levels"),
        ({"levels": [True]}, "invalid-published", ".levels"),
        ({"value": 0.9, "claim": "Depth helps", "factor": "residual"}, "invalid-published", ".claim"),
        ({"value": 90, "factor": "residual", "levels": [True]}, "out-of-range", ".value"),
        ({"value": 0.9, "factor": "hidden_layers_num", "levels": [7]}, "no-such-condition", ""),
        ({"value": 0.9, "factor": "hidden_layer", "levels": [2]}, "unknown-claim-key", ".factor"),
        ({"value": 9, "metric": "test/speed", "factor": "residual", "levels": [True]}, "unknown-name", ".metric"),
    ],
)
def test_wrong_entries_are_reported_at_their_key(entry: dict[str, Any], code: str, key: str) -> None:
    with pytest.raises(fathomlab.ConfigError) as caught:
        fathomlab.load(with_published(**entry))
    assert [(problem.code, problem.path) for problem in caught.value.problems] == [
        (code, f"experiment.published[0]{key}")
    ]


def test_published_changes_no_hash() -> None:
    plain = build.prepare(FILE)
    published = build.prepare(with_published(value=0.9, factor="hidden_layers_num", levels=[2], at={"residual": False}))
    assert published.loaded.file.experiment.published[0].value == 0.9
    assert published.hash == plain.hash
    assert [trial.hash for trial in published.trials] == [trial.hash for trial in plain.trials]


def test_override_that_removes_the_level_is_no_problem() -> None:
    file = with_published(value=0.9, factor="hidden_layers_num", levels=[2])
    assert fathomlab.load(file, overrides=["experiment.depths=3,4"]) is not None
    assert fathomlab.load(with_published(claim="Depth helps") | {"quick": {"claims": []}}, quick=True) is not None


def test_contrast_of_one_level_refers_to_the_published_number() -> None:
    contrast = Published("a", value=0.9, factor="residual", levels=(True,)).contrast
    assert contrast is not None
    assert (contrast.reference, contrast.metric) == (0.9, "test/accuracy")
    assert Published("a", claim="b").contrast is None
