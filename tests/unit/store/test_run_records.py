"""Runs on several machines in the record of an experiment: left out if there are none, bounded, and validated."""

import json
from pathlib import Path
from typing import Any

import pytest

from fathomlab.execute.events import FleetChanged, Started
from fathomlab.execute.run_log import RunLog
from fathomlab.store.checksums import seal
from fathomlab.store.directory import write_experiment
from fathomlab.store.reading import Store
from fathomlab.store.records import ExperimentRecord
from fathomlab.store.run_records import MAX_NAME, MAX_NODES, MAX_RUNS, RunRecord, latest
from tests.helpers.cluster_records import run

RUN = RunRecord("ray", "2026-11-22T10:00:00+00:00", 2.5, ("a", "b"), 2, 4, 10, 1, 2)


def test_record_without_runs_has_no_such_key(tmp_path: Path):
    """The documents of single machines keep their bytes."""
    plain = write_experiment(tmp_path, ExperimentRecord("exp", tmp_path)) / "experiment.json"
    assert "runs" not in json.loads(plain.read_text())
    write_experiment(tmp_path, ExperimentRecord("exp", tmp_path, runs=(RUN,)))
    assert Store(tmp_path).experiment("exp").runs == (RUN,)


def test_oldest_runs_are_dropped(tmp_path: Path):
    runs = tuple(RunRecord("ray", str(number), 1.0) for number in range(MAX_RUNS + 5))
    kept = latest(runs)
    assert (len(kept), kept[0].started, kept[-1].started) == (MAX_RUNS, "5", str(MAX_RUNS + 4))


WRONG: list[dict[str, Any]] = [
    {"retried": -1},
    {"workers": 1e3},
    {"packs": 10**30},
    {"seconds": -0.5},
    {"seconds": "long"},
    {"nodes": "a"},
    {"nodes": ["x" * (MAX_NAME + 1)]},
    {"nodes": ["x"] * (MAX_NODES + 1)},
    {"executor": None},
    {"started": "x" * 10_000},
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda value: next(iter(value)))
def test_wrong_runs_are_a_corrupted_record(tmp_path: Path, wrong: dict[str, Any]):
    """A store of somebody else cannot make a page long, or a count negative."""
    path = write_experiment(tmp_path, ExperimentRecord("exp", tmp_path)) / "experiment.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps(seal(document | {"runs": [run()]})))
    assert Store(tmp_path).experiment("exp").cause is None
    path.write_text(json.dumps(seal(document | {"runs": [run(**wrong)]})))
    record = Store(tmp_path).experiment("exp")
    assert f"runs.0.{next(iter(wrong))}" in str(record.cause)
    assert record.runs == ()
    path.write_text(json.dumps(seal(document | {"runs": [run()] * (MAX_RUNS + 1)})))
    assert "runs" in str(Store(tmp_path).experiment("exp").cause)


def test_run_log_bounds_and_cleans_names():
    """What is written is read back, whatever the names of the nodes are."""
    log = RunLog("ray", 500)
    assert log.record(1.0) is None
    log.update(FleetChanged(1, 2, 1, 0, 0, 0))
    assert log.record(1.0) is None
    for number in range(200):
        log.update(Started((), 1, node=f"{number:03}\x1b[31m" + "x" * 300))
    log.update(FleetChanged(200, 400, 1, 0, 0, 0))
    log.update(FleetChanged(3, 3, 1, 0, 7, 8, 9))
    record = log.record(1.0)
    assert record is not None
    assert (len(record.nodes), record.node_count, record.workers, record.packs) == (MAX_NODES, 200, 400, 500)
    assert (record.retried, record.lost, record.refused) == (7, 8, 9)
    assert all(len(name) == MAX_NAME and name.isprintable() for name in record.nodes)


def test_stages_of_a_run_add_up():
    """Seeds that are added in stages are runs of one command."""
    both = RUN + RunRecord("ray", "later", 1.0, ("b", "c"), 2, 6, 5, 0, 1, 1)
    assert both == RunRecord("ray", RUN.started, 3.5, ("a", "b", "c"), 3, 6, 15, 1, 3, 1)
