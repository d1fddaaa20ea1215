"""C9: states kept in the repository, written by an earlier fathomlab; `python -m tests.faults.states` writes them anew.

They are to be written anew only where numbers change on purpose, or the schema of states does.
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

KEPT = Path(__file__).parents[1] / "golden" / "states"
EXPERIMENT, EXPECTED = KEPT / "experiment.yaml", KEPT / "expected.json"
AFTER = 6  # of 12 steps: in the second epoch, after the schedule has been told of the first
WEIGHTS = ("checkpoint.safetensors", "best.safetensors")


def surroundings() -> dict[str, str]:
    """What bits depend on in addition to the code. Elsewhere, numbers agree up to rounding."""
    kernels = torch.backends.cpu.get_cpu_capability()
    return {"torch": torch.__version__, "instructions": machine.instructions(), "kernels": kernels}


def findings(runs: Path) -> dict[str, Any]:
    """Of each trial the hashes of its weights, its curves and its metrics: what another layout of files leaves alone."""
    found: dict[str, Any] = {}
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
        found[trial] = {"weights": weights, "curves": curves, "metrics": metrics}
    return found


def brought(runs: Path) -> list[Path]:
    """Put the kept states into a store; returns the trials' folders."""
    shutil.copytree(KEPT / "trials", runs / "trials")
    return sorted((runs / "trials").iterdir())


def _write() -> None:
    plan, how = fathomlab.load(EXPERIMENT), RunOptions("cpu", 1)
    with tempfile.TemporaryDirectory() as place:
        whole, begun = Path(place) / "whole", Path(place) / "begun"
        run_experiment(plan, whole, how, lambda event: None, StopRequest())
        try:
            with stopped(AFTER) as stop:
                run_experiment(plan, begun, how, lambda event: None, stop)
        except RunInterrupted:
            shutil.rmtree(KEPT / "trials", ignore_errors=True)
        for folder in sorted((begun / "trials").iterdir()):
            last = checkpoint_path(folder, checkpoint_steps(folder)[0])
            kept = KEPT / "trials" / folder.name
            kept.mkdir(parents=True)
            for path in (folder / "trial.json", *folder.glob("*.jsonl"), last):
                shutil.copy(path, kept)
            print(f"{folder.name[:12]}: {last.name}, {last.stat().st_size} bytes")
        about = {"surroundings": surroundings(), "findings": findings(whole)}
        EXPECTED.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    _write()
