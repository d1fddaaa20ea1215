"""A synthetic experiment that was trained on a cluster with two kinds of processors."""

from pathlib import Path
from typing import Any

from fathomlab.store.reading import Store
from tests.helpers.stores import change, claims, write_blocks

NODES = ("alpha.cluster.example.org", "beta.cluster.example.org")
PROCESSORS = ("AMD EPYC 9555", "Intel Xeon 6980P")
CAUSE = f"Ray node {NODES[1]} is lost, 10 times"


def run(**changes: Any) -> dict[str, Any]:
    """A run on both nodes."""
    values: dict[str, Any] = {"executor": "ray", "started": "2026-11-22T10:00:00+00:00", "seconds": 250.5}
    values |= {"nodes": list(NODES), "node_count": 2, "workers": 12, "packs": 24, "retried": 2, "lost": 3, "refused": 0}
    return values | changes


def write_cluster(root: Path) -> str:
    """Experiment 1.3 with two seeds, of which one trial has failed; returns its name."""
    root.mkdir(parents=True, exist_ok=True)
    write_blocks(root, seeds=2)
    store = Store(root)
    (record,) = store.experiments()
    trials = [pair.trial for condition in record.conditions for pair in condition.trials]
    for number, trial in enumerate(trials):
        node = (number + number // 2) % 2  # each level has both kinds, and the two levels of a seed differ
        hardware = {"cpu": PROCESSORS[node], "cores": 64, "gpu": None}
        change(root / "trials" / trial / "provenance.json", node=NODES[node], hardware=hardware)
    failed = {"status": "failed", "cause": CAUSE, "metrics": {}, "outcome": {}}
    change(root / "trials" / trials[-1] / "result.json", **failed)
    claim = claims()[1] | {"at": {"layers": [1, 1, 1, 1]}}
    runs = [
        run(),
        run(executor="slurm", started="2026-11-23T08:30:00+00:00", nodes=[NODES[0]], node_count=1, refused=1),
    ]
    change(root / "experiments" / record.name / "experiment.json", runs=runs, claims=[claim], seeds=[42, 43])
    return record.name
