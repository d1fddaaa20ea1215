"""Flips bits and truncates files. Each corruption must be detected on read, and must not affect other trials."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fathomlab
from fathomlab.execute.experiment import RunOptions, run_experiment
from fathomlab.execute.signals import RunInterrupted, StopRequest
from fathomlab.store.checkpoints import checkpoint_path, checkpoint_steps, latest_checkpoint
from fathomlab.store.checksums import CorruptFileError, read_checked, read_valid_records
from fathomlab.store.maintenance import check_store
from fathomlab.store.reading import Store
from tests.faults.gate import GateResult
from tests.faults.matrix import PLAIN, source
from tests.faults.polls import stopped


@dataclass(frozen=True)
class Target:
    """A store with two experiments: a finished and an interrupted one."""

    root: Path
    finished: tuple[Path, ...]
    stopped: tuple[Path, ...]
    experiment: Path
    interrupted: Any

    def victims(self) -> list[Path]:
        """Every file of the first finished and the first interrupted trial, and the experiment's record."""
        item = [path for folder in (self.finished[0], self.stopped[0]) for path in sorted(folder.iterdir())]
        # the provenance of an interrupted trial is written again before it ends
        return [path for path in item if path != self.stopped[0] / "provenance.json"] + [self.experiment]


def create_target(root: Path) -> Target:
    """Train a finished and an interrupted experiment."""
    given = source(PLAIN)
    plan = fathomlab.load(given)
    done = run_experiment(plan, root, RunOptions("cpu", 1), lambda event: None, StopRequest())
    other = fathomlab.load(given, ["training.lr=0.02", "run.checkpoint_seconds=0"])
    try:
        with stopped(6) as stop:
            run_experiment(other, root, RunOptions("cpu", 1), lambda event: None, stop)
        raise AssertionError("was not stopped")
    except RunInterrupted:
        pass
    finished, interrupted = (tuple(root / "trials" / trial.hash for trial in item.trials) for item in (plan, other))
    assert all(len(checkpoint_steps(folder)) == 2 for folder in interrupted)
    return Target(root, finished, interrupted, root / "experiments" / done.experiment / "experiment.json", other)


def flip_bits(data: bytes, draw: random.Random) -> bytes:
    """Flip 1 to 8 bits."""
    changed = bytearray(data)
    for place in draw.sample(range(8 * len(data)), draw.randint(1, 8)):
        changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def truncate(data: bytes, draw: random.Random) -> bytes:
    """Remove the end; 0 to n - 1 bytes remain."""
    return data[: draw.choice((0, 1, len(data) - 1, draw.randrange(len(data)), draw.randrange(len(data))))]


def detection_problem(store: Target, path: Path, before: bytes) -> str:
    """Return what is wrong with the detection of a corrupted file; "" if nothing is."""
    faults = check_store(store.root).problems
    named = any(path == fault.path or path.name in fault.problem for fault in faults)
    if path == store.experiment:
        record = Store(store.root).experiment(path.parent.name)
        return "" if (record.cause and named) or _same_json(before, path) else f"{record.cause}, {faults}"
    if path.suffix == ".sealed":
        try:
            read_checked(path)
            return "is read"
        except CorruptFileError:
            pass
        newest, states = latest_checkpoint(path.parent), checkpoint_steps(path.parent)
        good = [step for step in states if checkpoint_path(path.parent, step) != path]
        step = newest and newest.step
        return "" if named and step == good[0] else f"{step} of {states}, {faults}"
    record = Store(store.root).trial(path.parent.name)
    if path.suffix in (".safetensors", ".bin"):
        if path.suffix == ".bin" and (record.predictions() is not None or record.correct() is not None):
            return "its predictions are believed"
        return "" if named else f"not named: {faults}"
    if record.status == "damaged":
        return "" if path.name in str(record.cause) and named else f"{record.cause}; {faults}"
    if path.suffix == ".jsonl" and path.parent == store.stopped[0]:  # an incomplete last line is skipped
        intact = [line for line in before.decode().split("\n") if line]
        left = read_valid_records(path)
        lost = len(left) < len(intact)
        return "" if lost or left == [_record(line) for line in intact] else f"{len(left)} of {len(intact)} lines"
    return "" if _same_json(before, path) else f"{record.status}: {record.cause}"


def _record(line: str) -> Any:
    value = json.loads(line)
    value.pop("crc")
    return value


def _same_json(before: bytes, path: Path) -> bool:
    """Whether a document is unchanged, because a blank became another blank."""
    try:
        return json.loads(before) == json.loads(path.read_bytes())
    except (ValueError, OSError):
        return False


COUNTS = {flip_bits: "flipped", truncate: "truncated"}


def corrupt_files(
    store: Target, count: int, draw: random.Random, methods: tuple[Callable[..., bytes], ...]
) -> GateResult:
    """Corrupt one file at a time, and restore it."""
    result, victims = GateResult(), store.victims()
    others = {folder.name for folder in (*store.finished, *store.stopped)}
    for number in range(count):
        path, method = victims[number % len(victims)], methods[number // len(victims) % len(methods)]
        before = path.read_bytes()
        corrupted = method(before, draw)
        if corrupted == before:
            continue
        path.write_bytes(corrupted)
        result.counts[COUNTS[method]] += 1
        what = f"{method.__name__} {path.parent.name[:8]}/{path.name}"
        problem = detection_problem(store, path, before)
        result.check(not problem, f"{what}: {problem}")
        intact = Store(store.root)
        statuses = {name: intact.trial(name).status for name in others - {path.parent.name}}
        result.check(
            all(
                status == ("finished" if store.root / "trials" / name in store.finished else "interrupted")
                for name, status in statuses.items()
            ),
            f"{what}: the others are {set(statuses.values())}",
        )
        result.check(intact.trials() == sorted(others), f"{what}: not all trials are listed")
        path.write_bytes(before)
    return result
