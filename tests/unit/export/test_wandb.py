"""What Weights & Biases is asked to do, with a stand-in for its client."""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fathomlab.analysis.study import study
from fathomlab.base.errors import UserError
from fathomlab.export import wandb as module
from fathomlab.export.replay import run_info, trial_events
from fathomlab.export.tracking import RunInfo
from fathomlab.export.wandb import Wandb, WandbExporter, run_id
from fathomlab.store.reading import Store
from tests.helpers.stores import write_depths


class FakeRun:
    """A run that remembers what it gets."""

    def __init__(self, **options: Any):
        self.options, self.rows, self.summary = options, list[tuple[int, dict[str, Any]]](), dict[str, Any]()
        self.exit_code: int | None = None

    def define_metric(self, name: str, step_metric: str) -> None:
        assert (name, step_metric) == ("*", "epoch")

    def log(self, row: dict[str, Any], step: int) -> None:
        self.rows.append((step, row))

    def finish(self, exit_code: int) -> None:
        self.exit_code = exit_code


class FakeClient(SimpleNamespace):
    """The module `wandb`."""

    def __init__(self, mode: str = "online", logged_in: bool = False):
        super().__init__(mode=mode, logged_in=logged_in, runs=list[FakeRun](), ended=False)

    def Settings(self, **settings: Any) -> Any:
        return settings

    def setup(self, settings: Any) -> Any:
        return SimpleNamespace(settings=SimpleNamespace(mode=self.mode))

    def login(self, verify: bool, prompt: bool) -> bool:
        assert not verify
        assert not prompt
        return self.logged_in

    def init(self, **options: Any) -> FakeRun:
        self.runs.append(FakeRun(**options))
        return self.runs[-1]

    def teardown(self) -> None:
        self.ended = True


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    client = FakeClient()
    monkeypatch.setitem(sys.modules, "wandb", client)
    return client


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Five trials, of which one failed and one diverged."""
    write_depths(tmp_path, seeds=3, epochs=2, depths=(20,), logging={"project_name": "P", "log_gradients": True})
    return Store(tmp_path)


def described(store: Store) -> RunInfo:
    return run_info(store.experiment("1_2"), {trial: store.trial(trial).content for trial in store.trials()})


def replayed(store: Store, tracker: Wandb, trials: Sequence[str]) -> None:
    for trial in trials:
        for event in trial_events(store.trial(trial), log_gradients=True):
            tracker.handle(event)


@pytest.mark.parametrize(
    ("mode", "logged_in", "expected"),
    [
        ("online", True, "online"),
        ("online", False, "offline"),
        ("offline", True, "offline"),
        ("dryrun", True, "offline"),
        ("disabled", False, "disabled"),
    ],
)
def test_mode_is_that_of_wandb(client: FakeClient, store: Store, mode: str, logged_in: bool, expected: str) -> None:
    client.mode, client.logged_in = mode, logged_in
    tracker = Wandb()
    line = tracker.open(described(store))
    assert tracker.mode == expected
    assert line.startswith("W&B: project P, ")
    assert ("wandb sync" in line) == (expected == "offline")


def test_run_has_the_names_and_values_of_the_trial(client: FakeClient, store: Store) -> None:
    info = described(store)
    tracker = Wandb()
    tracker.open(info)
    trial = info.trials[0]
    replayed(store, tracker, [trial.trial])
    (run,) = client.runs
    assert run.options["id"] == run_id(info, trial.trial)
    assert len(run.options["id"]) == 16
    names = ("project", "group", "job_type", "name", "mode", "reinit", "dir")
    expected = ("P", "1_2", "supervised", trial.name, "offline", "create_new", store.root)
    assert tuple(run.options[name] for name in names) == expected
    assert run.options["config"].items() >= trial.config.items()
    assert [step for step, _ in run.rows] == [0, 1, 2]
    layers = [f"gradients/{name}" for name in ("input", *(f"hidden.{i}" for i in range(1, 21)), "output")]
    assert [name for name in run.rows[1][1] if name.startswith("gradients/")] == layers
    assert {"epoch", "train/loss", "train/accuracy", "val/loss", "val/accuracy", "lr"} <= set(run.rows[2][1])
    assert run.summary.items() >= {"status": "finished", "parameters": 118282}.items()
    assert run.exit_code == 0
    assert tracker.logged(info, trial.trial)
    assert not client.ended
    tracker.close(1.0)
    assert client.ended


def test_ids_depend_on_project_experiment_and_trial(store: Store) -> None:
    info, other = described(store), run_info(store.experiment("1_2"), {}, project="other")
    identities = {run_id(info, trial.trial) for trial in info.trials} | {run_id(other, info.trials[0].trial)}
    assert len(identities) == len(info.trials) + 1


def test_unfinished_run_of_the_same_trial_is_replaced(client: FakeClient, store: Store) -> None:
    """Uploaded folders stay: uploading does not read them again."""
    info = described(store)
    first, second = (run_id(info, trial.trial) for trial in info.trials[:2])
    folders = [store.root / "wandb" / f"offline-run-20260101_000000-{name}" for name in (first, second, "f" * 16)]
    for folder in folders:
        folder.mkdir(parents=True)
    (folders[1] / f"run-{second}.wandb.synced").touch()
    tracker = Wandb()
    tracker.open(info)
    replayed(store, tracker, [trial.trial for trial in info.trials[:2]])
    assert [folder.exists() for folder in folders] == [False, True, True]


def test_export_repeats_only_what_has_no_outcome(client: FakeClient, store: Store) -> None:
    """A failed trial may be trained again, so its run is not final."""
    exporter, experiment = WandbExporter(), study(store, store.experiment("1_2"))
    assert exporter.export(experiment, None) == (store.root / "wandb",)
    statuses = [run.summary["status"] for run in client.runs]
    assert sorted(statuses) == sorted(store.trial(trial).status for trial in store.trials())
    assert [run.exit_code for run in client.runs] == [int(status == "failed") for status in statuses]
    client.runs.clear()
    exporter.export(experiment, None)
    assert [run.summary["status"] for run in client.runs] == ["failed"]


def test_interrupted_run_has_no_marker(client: FakeClient, store: Store) -> None:
    info = described(store)
    tracker = Wandb()
    tracker.open(info)
    trial = info.trials[0].trial
    for event in list(trial_events(store.trial(trial), log_gradients=True))[:-1]:
        tracker.handle(event)
    tracker.close(1.0)
    assert client.runs[0].summary == {"status": "interrupted"}
    assert not tracker.logged(info, trial)


def test_disabled_runs_are_not_marked(client: FakeClient, store: Store) -> None:
    client.mode = "disabled"
    WandbExporter().export(study(store, store.experiment("1_2")), None)
    assert list((store.root / "wandb/logged").iterdir()) == []


@pytest.mark.parametrize("error", [OSError("no"), RuntimeError("no")])
def test_errors_of_the_client_are_user_errors(
    client: FakeClient, store: Store, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**options: Any) -> None:
        raise error

    monkeypatch.setattr(client, "init", fail)
    with pytest.raises(UserError) as caught:
        WandbExporter().export(study(store, store.experiment("1_2")), None)
    assert caught.value.code == ("unwritable" if isinstance(error, OSError) else "tracker-failed")


def test_full_disk_leaves_no_marker(client: FakeClient, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(UserError) as caught:
        WandbExporter().export(study(store, store.experiment("1_2")), None)
    assert caught.value.code == "unwritable"
    assert list((store.root / "wandb/logged").iterdir()) == []
