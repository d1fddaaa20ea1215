"""Kills an experiment at random instants, restarts it until it is finished, and compares it with an undisturbed run."""

import hashlib
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

from fathomlab.store.reading import Store
from tests.faults.forks import Server, has_ended
from tests.faults.gate import GateResult

EXPERIMENT = """\
data: {name: mnist-sample, limit: 250, batch_size: 50, augment: [crop]}
model: {type: MLP, params: {layers_dim: 8, hidden_layers_num: 1, dropout: 0.1}}
training: {epochs: 3, optimizer: Adam, scheduler: OneCycleLR}
experiment: {factors: {model.params.residual: [false, true]}, seeds: 4, probes: {gradients: {at: [init, 3, epochs]}}}
"""
IGNORED = ("seconds", "crc")
MAX_SECONDS = 60.0
MEASURED_TIMES = {"seconds", "speed", "table_seconds"}


def command(folder: Path, runs: Path, *more: str) -> list[str]:
    """`fathomlab run` of the experiment."""
    path = folder / "kill.yaml"
    path.write_text(EXPERIMENT)
    return ["run", str(path), "--runs", str(runs), "--progress", "off", "--workers", "1", *more]


def digest(runs: Path) -> dict[str, Any]:
    """Return all results of a run except times and speeds: weights, predictions, logs, and results, by trial and file."""
    records: dict[str, Any] = {}
    for path in sorted((runs / "trials").glob("*/*")):
        key = f"{path.parent.name[:8]}/{path.name}"
        if path.suffix in (".safetensors", ".bin"):
            records[key] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.suffix == ".jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            records[key] = [{name: value for name, value in line.items() if name not in IGNORED} for line in lines]
        elif path.name == "result.json":
            result = json.loads(path.read_text())
            records[key] = {
                name: value for name, value in result.items() if name not in MEASURED_TIMES | {"files", "seal", "fence"}
            } | {"files": sorted(result.get("files", ()))}
        else:
            records[key] = True
    return records


def differences(golden: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return the names of missing, additional, and different entries, with the first different line of a log."""
    result = []
    for key in sorted(golden.keys() | other.keys()):
        one, two = golden.get(key), other.get(key)
        if one == two:
            continue
        place = ""
        if isinstance(one, list) and isinstance(two, list):
            first = next((at for at, pair in enumerate(zip(one, two, strict=False)) if pair[0] != pair[1]), "its end")
            place = f" from line {first} of {len(one)}, {len(two)}"
        result.append(f"{key}{place}")
    return result


def finished(runs: Path) -> dict[str, tuple[int, int, str]]:
    """Return inode, time, and digest of the result of each finished trial."""
    result = {}
    for path in (runs / "trials").glob("*/result.json"):
        metadata = path.stat()
        result[path.parent.name] = (
            metadata.st_ino,
            metadata.st_mtime_ns,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
    return result


def _changed(runs: Path, count: int, until: float) -> None:
    """Wait until the files in the trials' folders have changed `count` times."""
    before: tuple[Any, ...] = ()
    while count and time.monotonic() < until:
        now = []
        for folder in (runs / "trials").glob("*"):
            try:
                now.append((folder.name, *sorted(os.listdir(folder))))
            except OSError:
                continue
        if tuple(sorted(now)) != before:
            before, count = tuple(sorted(now)), count - 1


def kill_loop(server: Server, folder: Path, kills: int, chance: random.Random, *more: str) -> GateResult:
    """Kill `kills` times. When an experiment is finished, a new one starts in an empty store."""
    result, golden_runs = GateResult(), folder / "golden"
    began = time.monotonic()
    status, printed = server.run(command(folder, golden_runs, *more, "run.checkpoint_seconds=0"), report=False)
    assert status == 0, printed
    golden = digest(golden_runs)
    length, left = time.monotonic() - began, kills
    while left > 0:
        runs = folder / "runs"
        shutil.rmtree(runs, ignore_errors=True)
        while True:
            before = finished(runs)
            every = chance.choice(("0", "0", "0.02", "0.1"))
            running = server.start(command(folder, runs, *more, f"run.checkpoint_seconds={every}"), report=False)
            until = time.monotonic() + MAX_SECONDS
            if left <= 0:
                pass
            elif chance.random() < 0.5:
                running.wait(chance.uniform(0, length))
            else:
                _changed(runs, chance.randint(1, 80), time.monotonic() + length)
                time.sleep(chance.choice((0.0, chance.uniform(0, 0.003))))
            if left > 0 and running.status is None and running.wait(0) is None:
                running.signal(signal.SIGKILL)
                left -= 1
                result.counts["kills"] += 1
            status = running.wait(until - time.monotonic())
            result.check(has_ended(running.pid), "an orphan is left")
            result.counts["starts"] += 1
            after = finished(runs)
            lost = [trial[:8] for trial, metadata in before.items() if after.get(trial) != metadata]
            result.check(not lost, f"finished trials lost or trained again: {lost}")
            if status != -signal.SIGKILL:
                break
        result.counts["experiments"] += 1
        store = Store(runs)
        causes = [store.trial(trial).cause for trial in store.trials() if store.trial(trial).status != "finished"]
        result.check(status == 0, f"exit status {status}: {running.printed()[-300:]} {causes}")
        different = differences(golden, digest(runs))
        result.check(not different, f"differs from the undisturbed run: {different[:6]}")
        extra = [path.name for path in runs.rglob("*") if path.name.startswith(".") and path.name != ".lock"]
        result.check(not extra, f"left over: {extra}")
    return result
