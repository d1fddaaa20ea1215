"""Runs on two nodes of which one is lost: progress, the record of the experiment, its report, and the page to hand in."""

import json
from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.api import write_combined_report
from fathomlab.execute.events import Event, FleetChanged, Planned
from fathomlab.execute.experiment import RunOptions, RunSummary, run_experiment
from fathomlab.execute.signals import RunInterrupted, StopRequest
from fathomlab.report.page import write_report
from fathomlab.store.reading import Store
from reference.json_output import DOCUMENTS
from tests.helpers.commands import Command
from tests.helpers.json_keys import wrong_keys
from tests.helpers.pages import tables
from tests.helpers.two_nodes import NODES, use_two_nodes

CONFIG: dict[str, Any] = {
    "data": {"name": "mnist-sample", "limit": 100, "batch_size": 50},
    "model": {"type": "MLP", "params": {"layers_dim": 4, "hidden_layers_num": 1}},
    "training": {"epochs": 2},
}
SMALL = ("seed=0..5", "run.pack=1")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes can train."""
    use_two_nodes(monkeypatch)


def train(root: Path, events: list[Event], executor: str = "two-nodes", stop: StopRequest | None = None) -> RunSummary:
    """Run the small experiment."""
    plan = fathomlab.load(CONFIG, [*SMALL, f"run.executor={executor}"])
    return run_experiment(plan, root, RunOptions("cpu"), events.append, stop or StopRequest())


@pytest.mark.usefixtures("cluster")
def test_run_on_two_nodes_is_recorded(tmp_path: Path):
    """Also after a run that had nothing to train; numbers are those of a local run, and each trial names its node."""
    events: list[Event] = []
    summary = train(tmp_path / "runs", events)
    assert (summary.trained, summary.failed) == (6, 0)
    used = summary.fleet
    assert used is not None
    assert (used.executor, used.nodes, used.node_count, used.workers, used.packs) == ("two-nodes", NODES, 2, 4, 6)
    assert (used.retried, used.lost, used.refused) == (2, 2, 0)
    store = Store(tmp_path / "runs")
    assert store.experiment(summary.experiment).runs == (used,)
    assert {store.trial(trial).provenance.node for trial in store.trials()} == set(NODES)
    again = train(tmp_path / "runs", events)
    assert (again.trained, again.fleet) == (0, None)
    assert store.experiment(summary.experiment).runs == (used,)
    local = train(tmp_path / "local", [], "inline")
    assert local.fleet is None
    assert "runs" not in json.loads(
        (Store(tmp_path / "local").experiment(local.experiment).folder / "experiment.json").read_text()
    )
    metrics = [[Store(tmp_path / name).trial(trial).metrics for trial in store.trials()] for name in ("runs", "local")]
    assert metrics[0] == metrics[1]


@pytest.mark.usefixtures("cluster")
def test_workers_are_counted_as_they_come_and_go(tmp_path: Path):
    events: list[Event] = []
    train(tmp_path, events)
    fleets = [event for event in events if isinstance(event, FleetChanged)]
    assert fleets[0] == FleetChanged(0, 0, 0, 6, 0, 0)
    assert FleetChanged(2, 4, 1, 5, 0, 0) in fleets
    assert fleets[-1] == FleetChanged(1, 2, 0, 0, 2, 2)
    assert all(event.running + event.waiting <= 6 for event in fleets)


@pytest.mark.usefixtures("cluster")
def test_interrupted_run_on_two_nodes_is_recorded(tmp_path: Path):
    """It has trained on the nodes, so a later run of the rest on this machine must not hide them."""
    stop = StopRequest()

    class Watch(list[Event]):
        """Stops after the first loss."""

        def append(self, event: Event) -> None:
            """Look at an event."""
            super().append(event)
            if isinstance(event, FleetChanged) and event.lost and stop.signum is None:
                stop.handle(15)

    with pytest.raises(RunInterrupted):
        train(tmp_path, Watch(), stop=stop)
    planned: list[Event] = []
    summary = train(tmp_path, planned, "inline")
    assert any(isinstance(event, Planned) for event in planned)
    assert summary.fleet is None
    (used,) = Store(tmp_path).experiment(summary.experiment).runs
    assert (used.nodes, used.retried, used.lost) == (NODES, 1, 1)


@pytest.mark.usefixtures("cluster", "workspace")
def test_commands_say_what_was_lost(command: Command, no_charts: None):
    """In JSON with the documented keys, and as text."""
    Path("small.yaml").write_text(json.dumps(CONFIG))
    args = ("run", "small.yaml", *SMALL, "--device", "cpu", "--executor", "two-nodes", "--progress", "plain")
    result = command(*args, "--json")
    document = json.loads(result.out)
    assert wrong_keys(document, dict(DOCUMENTS["run"]), strict=True) == {}
    assert (document["fleet"]["retried"], document["fleet"]["lost"]) == (2, 2)
    fleet = [line for line in result.err.splitlines() if "packs running" in line or "pack running" in line]
    assert fleet[0].startswith("0 nodes, 0 workers, 0 packs running, 6 waiting, waiting for a worker")
    assert "1 node, 2 workers" in fleet[-1]
    assert (
        "two-nodes: 2 nodes, 4 workers, 6 packs, 2 retried, 2 lost"
        in command(*args, "training.lr=0.02").out.splitlines()
    )


@pytest.mark.usefixtures("cluster")
def test_report_names_nodes_and_hand_in_does_not(tmp_path: Path):
    summary = train(tmp_path, [])
    store = Store(tmp_path)
    text = write_report(store, summary.experiment).read_text()
    shown = tables(text)
    (run,) = shown["runs"]
    assert (run["executor"], run["nodes"], run["workers"], run["retried"], run["lost"]) == (
        "two-nodes",
        "2",
        "4",
        "2",
        "2",
    )
    assert run["names of the nodes"] == ", ".join(NODES)
    assert {row["node"] for row in shown["trials"]} == set(NODES)
    (node,) = [row["value"] for row in shown["provenance"] if row["property"] == "node"]
    assert all(name in node for name in NODES)
    write_combined_report(tmp_path, [summary.experiment], tmp_path / "hand-in.html", [], "")
    page = (tmp_path / "hand-in.html").read_text()
    assert not any(name in page for name in NODES)
    assert {row["node"] for row in tables(page)["trials"]} == {"node 1", "node 2"}
