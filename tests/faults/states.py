"""Checkpoints in the repository that must resume; `python -m tests.faults.states` rewrites them.

Rewrite them only if numbers change on purpose, or the schema of checkpoints does.
"""

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

import fathomlab
from fathomlab.execute.experiment import RunOptions, run_experiment
from fathomlab.execute.signals import RunInterrupted, StopRequest
from fathomlab.prepare import machine
from fathomlab.store.checkpoints import checkpoint_path, checkpoint_steps
from fathomlab.store.checksums import read_valid_records
from fathomlab.store.reading import Store
from fathomlab.store.weights import load_tensors
from tests.faults.polls import stopped

STATES = Path(__file__).parents[1] / "golden" / "states"
EXPERIMENT, EXPECTED = STATES / "experiment.yaml", STATES / "expected.json"
AFTER = 6  # of 12 steps: in the second epoch, after the schedule has observed the first
WEIGHTS = ("checkpoint.safetensors", "best.safetensors")


def environment() -> dict[str, str]:
    """What bits depend on in addition to the code. In other environments, numbers agree up to rounding."""
    kernels = torch.backends.cpu.get_cpu_capability()
    return {"torch": torch.__version__, "instructions": machine.instructions(), "kernels": kernels}


def results(runs: Path) -> dict[str, Any]:
    """Hashes of the weights, curves, and metrics of each trial, which do not depend on the layout of files."""
    values: dict[str, Any] = {}
    store = Store(runs)
    for trial in store.trials():
        record = store.trial(trial)
        weights = {}
        for name in WEIGHTS:
            digest = hashlib.sha256()
            for key, tensor in sorted(load_tensors(record.folder / name)[0].items()):
                digest.update(key.encode() + tensor.contiguous().numpy().tobytes())
            weights[name] = digest.hexdigest()
        curves = [
            {key: value for key, value in line.items() if key != "seconds"}
            for line in read_valid_records(record.folder / "metrics.jsonl")
        ]
        metrics = {key: record.metrics[key] for key in ("test/loss", "test/accuracy", "best/test/loss")}
        values[trial] = {"weights": weights, "curves": curves, "metrics": metrics}
    return values


def copy_states(runs: Path) -> list[Path]:
    """Copy the checkpoints into a store; returns the folders of the trials."""
    shutil.copytree(STATES / "trials", runs / "trials")
    return sorted((runs / "trials").iterdir())


def _write() -> None:
    plan, options = fathomlab.load(EXPERIMENT), RunOptions("cpu", 1)
    with tempfile.TemporaryDirectory() as directory:
        complete, unfinished = Path(directory) / "complete", Path(directory) / "unfinished"
        run_experiment(plan, complete, options, lambda event: None, StopRequest())
        try:
            with stopped(AFTER) as stop:
                run_experiment(plan, unfinished, options, lambda event: None, stop)
        except RunInterrupted:
            shutil.rmtree(STATES / "trials", ignore_errors=True)
        for folder in sorted((unfinished / "trials").iterdir()):
            last = checkpoint_path(folder, checkpoint_steps(folder)[0])
            target = STATES / "trials" / folder.name
            target.mkdir(parents=True)
            for path in (folder / "trial.json", *folder.glob("*.jsonl"), last):
                shutil.copy(path, target)
            print(f"{folder.name[:12]}: {last.name}, {last.stat().st_size} bytes")
        expected = {"environment": environment(), "findings": results(complete)}
        EXPECTED.write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    _write()
