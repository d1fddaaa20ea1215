"""Which trackers log a run."""

from typing import Any

import pytest

import fathomlab
from fathomlab.base.errors import UserError
from fathomlab.export import trackers
from fathomlab.export.trackers import choose_trackers
from fathomlab.plan import Plan

INSTALLED = {"wandb", "tensorboard"}


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(trackers, "_installed", lambda name: name in INSTALLED)


def plan(quick: bool = False, **changes: Any) -> Plan:
    config: dict[str, Any] = {
        "data": {"name": "shapes", "limit": 64},
        "model": {"type": "MLP", "params": {"input_size": 3072, "layers_dim": 8, "hidden_layers_num": 1}},
        "training": {"epochs": 1},
        "logging": {"project_name": "P"},
        "quick": {"data": {"limit": 32}},
    }
    return fathomlab.load(config | changes, quick=quick)


def test_project_selects_wandb() -> None:
    assert choose_trackers(plan(), None) == (("wandb",), ())
    assert choose_trackers(plan(logging={}), None) == ((), ())


def test_quick_runs_log_only_if_requested() -> None:
    assert choose_trackers(plan(quick=True), None) == ((), ())
    assert choose_trackers(plan(quick=True), "wandb") == (("wandb",), ())


def test_disabled_mode_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert choose_trackers(plan(), None) == ((), ())


@pytest.mark.parametrize(("seeds", "logged"), [(64, True), (65, False)])
def test_large_plans_log_only_if_requested(seeds: int, logged: bool) -> None:
    large = plan(experiment={"seeds": seeds})
    names, notices = choose_trackers(large, None)
    assert (names, len(notices)) == ((("wandb",), 0) if logged else ((), 1))
    assert logged or "--log wandb" in notices[0]
    assert choose_trackers(large, "wandb") == (("wandb",), ())


def test_missing_wandb_is_a_notice_or_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "_installed", lambda name: name == "tensorboard")
    names, (notice,) = choose_trackers(plan(), None)
    assert names == ()
    assert 'pip install "fathomlab[wandb]"' in notice
    assert choose_trackers(plan(), "tensorboard") == (("tensorboard",), ())
    with pytest.raises(UserError, match=r"pip install") as caught:
        choose_trackers(plan(), "wandb")
    assert caught.value.code == "missing-extra"


@pytest.mark.parametrize(
    ("log", "names"),
    [
        ("none", ()),
        ("tensorboard, wandb", ("tensorboard", "wandb")),
        (["wandb", "wandb"], ("wandb",)),
    ],
)
def test_requested_trackers(log: Any, names: tuple[str, ...]) -> None:
    assert choose_trackers(plan(), log)[0] == names


@pytest.mark.parametrize("log", ["wanbd", "", "none,wandb", ["wandb", "x"]])
def test_unknown_trackers_are_rejected(log: Any) -> None:
    with pytest.raises(UserError) as caught:
        choose_trackers(plan(), log)
    assert caught.value.code == "unknown-tracker"


def test_gradients_that_are_not_measured_are_a_notice() -> None:
    logging = {"project_name": "P", "log_gradients": True}
    assert len(choose_trackers(plan(logging=logging), None)[1]) == 1
    assert choose_trackers(plan(logging=logging), "none") == ((), ())
    measured = plan(logging=logging, experiment={"analyze_gradients": True})
    assert choose_trackers(measured, None) == (("wandb",), ())
