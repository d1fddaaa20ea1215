"""What the measurements of the start need: a store of finished trials, written without training, and the work in process."""

import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.in_subprocess import references
from fathomlab import api
from fathomlab.base.identity import make_rng
from fathomlab.plan import Trial
from fathomlab.prepare.machine import collect_provenance
from fathomlab.store.directory import TrialFolder, create_store
from fathomlab.store.inventory import take_inventory
from fathomlab.store.predictions import PREDICTIONS, encode_classes, write_labels
from fathomlab.store.provenance import BackendBuild
from fathomlab.store.records import Outcome, Result

BINS = 15
IMAGES = 1000


def fill(file: str, runs: str) -> int:
    """Write every trial of an experiment file as if it had been trained; returns how many there are."""
    planned = api.load(file)
    root = create_store(Path(runs))
    for trial in planned.trials:
        _write(root, trial)
    return len(planned.trials)


def plan(file: str, runs: str) -> float:
    """Seconds to plan an experiment file: read, check, cross, hash, look into the store."""
    started = time.perf_counter()
    planned = api.load(file)
    assert len(take_inventory(Path(runs), planned.trials).pending(planned.trials)) == len(planned.trials)
    return time.perf_counter() - started


def again(file: str, runs: str) -> float:
    """Seconds to plan and run an experiment of which everything is finished, without the report."""
    with ExitStack() as stack:
        for module, name in references(api.write_reports):
            stack.enter_context(mock.patch.object(module, name))
        started = time.perf_counter()
        summary = api.run(file, runs=runs, device="cpu", progress="off").summary
    assert summary.trained == 0, summary
    return time.perf_counter() - started


def _write(root: Path, trial: Trial) -> None:
    """One trial's files with plausible numbers."""
    draws = make_rng(trial.seed, "benchmark", trial.hash)
    folder = TrialFolder(root, trial.hash)
    folder.create(trial.content)
    folder.write_provenance(
        replace(collect_provenance(), device="cpu", precision="fp32", backend=BackendBuild("reference", ""), threads=1)
    )
    own = trial.recipe
    lines = [_metrics(draws, epoch) for epoch in range(1, own.epochs + 1)]
    for line in lines:
        folder.append("metrics.jsonl", {**line, "seconds": 0.1 * line["epoch"]})
    for step, epoch in [(0, 0), (1, 0), *((line["step"], line["epoch"]) for line in lines)]:
        folder.append("gradients.jsonl", {"step": step, "epoch": epoch, **_norms(draws, own.architecture)})
    classes = np.arange(IMAGES) % 10
    folder.write_bytes(PREDICTIONS, encode_classes(np.where(draws.random(IMAGES) < 0.9, classes, 0)))
    labels = write_labels(root, own.data, classes)
    last = {name: value for name, value in lines[-1].items() if "/" in name}
    test = {"test/loss": 0.3, "test/accuracy": float(draws.uniform(0.85, 0.95))}
    best = {f"best/{name}": value for name, value in test.items()}
    metrics = {**last, **test, **best, "best/epoch": own.epochs, "best/val/accuracy": last["val/accuracy"]}
    parameters, steps = own.architecture.num_params, lines[-1]["step"]
    folder.finish(
        Result(
            "finished",
            None,
            parameters,
            own.epochs,
            steps,
            seconds=0.5,
            metrics=metrics,
            outcome=_outcome(),
            labels=labels,
        )
    )


def _metrics(draws: np.random.Generator, epoch: int) -> dict[str, Any]:
    numbers = {f"{part}/accuracy": float(draws.uniform(0.8, 0.95)) for part in ("train", "val")}
    numbers |= {f"{part}/loss": float(draws.uniform(0.2, 0.5)) for part in ("train", "val")}
    return {"epoch": epoch, "step": 5 * epoch, "lr": 1e-3, **numbers}


def _norms(draws: np.random.Generator, architecture: Any) -> dict[str, Any]:
    names, points = list(architecture.weight_layers), list(architecture.taps)
    return {
        "layers": names,
        "weight": draws.uniform(0.01, 1.0, len(names)).tolist(),
        "points": points,
        "activation": draws.uniform(0.01, 1.0, len(points)).tolist(),
    }


def _outcome() -> Outcome:
    bins = tuple(((place + 0.5) / BINS, (place + 0.4) / BINS, IMAGES // BINS) for place in range(BINS))
    return Outcome((IMAGES // 10,) * 10, calibration_error=0.01, bins=bins, examples=IMAGES)
