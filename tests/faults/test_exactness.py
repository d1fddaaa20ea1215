"""C: what is resumed is bit for bit what was never stopped; divergence stays alone; drift is refused or recorded."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

import fathomlab
from fathomlab.base.errors import UserError
from fathomlab.execute.experiment import RunOptions, run_experiment
from fathomlab.execute.pack.settings import deterministic_mode
from fathomlab.execute.signals import RunInterrupted, StopRequest
from fathomlab.prepare import drift, packing
from fathomlab.store.checkpoints import checkpoint_path, checkpoint_steps, latest_checkpoint
from fathomlab.store.checksums import read_checked, write_checked
from fathomlab.store.inventory import take_inventory
from fathomlab.store.reading import Store
from fathomlab.store.weights import load_checked, load_tensors
from tests.faults.chance import chance
from tests.faults.forks import SURROUNDINGS
from tests.faults.kills import digest, unlike
from tests.faults.matrix import ALL, Case, combinations, covering, source, train
from tests.faults.polls import stopped


def small(**more: Any) -> dict[str, Any]:
    """An experiment of 3 seeds, 3 epochs of 4 steps."""
    found = source(Case("momentum", "none", False, "", "supervised"))
    found["experiment"] = {"seeds": 3}
    return found | more


def run(
    given: dict[str, Any], root: Path, *overrides: str, how: RunOptions | None = None, stop: StopRequest | None = None
) -> Any:
    """Run an experiment in this process."""
    plan = fathomlab.load(given, overrides)
    run_experiment(plan, root, how or RunOptions("cpu", 1), lambda event: None, stop or StopRequest())
    return plan


def interrupted(given: dict[str, Any], root: Path, after: int, *overrides: str) -> Any:
    """Run an experiment and stop it after this number of steps; returns its plan."""
    plan = fathomlab.load(given, overrides)
    with stopped(after) as stop, pytest.raises(RunInterrupted):
        run_experiment(plan, root, RunOptions("cpu", 1), lambda event: None, stop)
    return plan


def test_twelve_combinations_resume_with_the_same_bits(fast: Path):
    """C1: chosen so that every level, and nearly every pair of levels, occurs."""
    cases = covering(12)
    for axis in range(5):
        assert {list(vars(case).values())[axis] for case in cases} == {list(vars(case).values())[axis] for case in ALL}
    found = combinations(cases, fast)
    assert found.counts["combinations"] == 12
    found.must_hold()


@pytest.mark.slow
def test_all_combinations_resume_with_the_same_bits(fast: Path):
    """C1: 240 of them."""
    found = combinations(list(ALL), fast)
    assert found.counts["combinations"] == 240
    found.must_hold()


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_workers_change_nothing(fast: Path, workers: int):
    """C2: the option is accepted; also where it changes between stop and resume."""
    golden = small()
    golden["data"] = golden["data"] | {"num_workers": 1}
    run(golden, fast / "golden")
    other = golden | {"data": golden["data"] | {"num_workers": workers}}
    interrupted(golden, fast / "other", 4)
    run(other, fast / "other")
    assert not unlike(digest(fast / "golden"), digest(fast / "other"))


STARTS = """\
import hashlib, json, os, sys
import fathomlab
from tests.faults.kills import digest
from tests.faults.test_exactness import run, small
plan = run(small(), __import__("pathlib").Path(sys.argv[1]))
found = digest(plan and __import__("pathlib").Path(sys.argv[1]))
print(hashlib.sha256(json.dumps([plan.hash, found], sort_keys=True, default=str).encode()).hexdigest())
"""


def starts(folder: Path, count: int, name: str, fresh: bool) -> set[str]:
    """Hashes of so many process starts, each in another surrounding."""
    draw, hashes = chance(name, fresh), set()
    for number in range(count):
        place = folder / f"place-{number}"
        place.mkdir(parents=True)
        surrounding = {
            "PYTHONHASHSEED": str(draw.randrange(2**32)),
            "LC_ALL": draw.choice(("C", "C.UTF-8", "POSIX", "de_DE.UTF-8")),
            "TMPDIR": str(place),
            "TZ": draw.choice(("UTC", "Asia/Kathmandu", "America/St_Johns")),
            f"X{draw.randrange(10**9)}": "1",
        }
        done = subprocess.run(
            [sys.executable, "-c", STARTS, str(place / "runs")],
            env=SURROUNDINGS | surrounding,
            cwd=draw.choice((place, folder, Path("/"))),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        hashes.add(done.stdout.strip())
    return hashes


def test_the_surroundings_change_nothing(fast: Path):
    """C4: hash seed, working folder, locale, time zone, temporary folder."""
    assert len(starts(fast, 3, "starts", False)) == 1


@pytest.mark.slow
def test_twenty_surroundings_change_nothing(fast: Path):
    """C4 in full."""
    assert len(starts(fast, 20, "starts", True)) == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("torch", "2.0.0"),
        ("instructions", "abacus beads"),
        ("kernels", "ABACUS"),
        ("variables", "ONEDNN_MAX_CPU_ISA=ABACUS"),
        ("device", "cuda"),
        ("threads", 2),
        ("code", "0" * 64),
    ],
)
def test_drift_is_refused_and_recorded_if_allowed(fast: Path, key: str, value: Any):
    """C5, C6: each entry of the environment. Nothing is trained before the user decides."""
    plan = interrupted(small(), fast, 4)
    for trial in plan.trials:
        folder = fast / "trials" / trial.hash
        for step in checkpoint_steps(folder):
            about, payload = read_checked(checkpoint_path(folder, step))
            about["environment"] = about["environment"] | {key: value}
            write_checked(checkpoint_path(folder, step), about, payload)
    before = digest(fast)
    with pytest.raises(UserError) as caught:
        run(small(), fast)
    assert caught.value.code == "environment-changed"
    assert drift.LABELS.get(key, key) in str(caught.value)
    assert "--allow-drift" in str(caught.value)
    assert digest(fast) == before
    run(small(), fast, how=RunOptions("cpu", 1, allow_drift=True))
    for trial in plan.trials:
        record = Store(fast).trial(trial.hash)
        assert record.status == "finished"
        assert record.provenance.resumed[0].environment[key] == value
        assert record.provenance.environment[key] != value


def test_code_digest_follows_every_numeric_file(tmp_path: Path):
    """C6: a changed, added, or nested file of any listed package or module changes the digest; other files do not."""
    package = tmp_path / "fathomlab"
    files = [f"{folder}/{name}" for folder in drift.NUMERIC_PACKAGES for name in ("a.py", "deep/b.py", "c.npz")]
    files += [f"{name}.py" for name in drift.NUMERIC_MODULES]
    for file in (*files, "execute/progress.py", "base/__pycache__/a.pyc"):
        (package / file).parent.mkdir(parents=True, exist_ok=True)
        (package / file).write_text("x = 1\n")
    with mock.patch.object(drift, "__file__", str(package / "prepare" / "drift.py")):
        digests = [drift.code_digest.__wrapped__()]
        for file in (*files, "engine/backends/new.cpp"):
            (package / file).parent.mkdir(parents=True, exist_ok=True)
            (package / file).write_text("x = 2\n")
            digests.append(drift.code_digest.__wrapped__())
        assert len(set(digests)) == len(digests)
        for file in ("execute/progress.py", "base/__pycache__/a.pyc"):
            (package / file).write_text("x = 2\n")
            assert drift.code_digest.__wrapped__() == digests[-1]


def test_another_experiment_is_another_trial(fast: Path):
    """C6: an option that was changed while it was stopped begins a trial of its own, the old state stays."""
    plan = interrupted(small(), fast, 4)
    other = run(small(), fast, "training.lr=0.02")
    assert not {trial.hash for trial in plan.trials} & {trial.hash for trial in other.trials}
    assert all(latest_checkpoint(fast / "trials" / trial.hash) for trial in plan.trials)


def diverging() -> dict[str, Any]:
    """Of each seed a trial that diverges and one that does not, in one pack."""
    found = small()
    found["experiment"] = {
        "seeds": 2,
        "factors": {"training.lr": [0.01, 1e20]},
        "probes": {"gradients": {"at": [1, "epochs"]}},
    }
    return found


def numbers_are_finite(root: Path) -> int:
    """Count the tensors of all states and checkpoints after checking every number."""
    count = 0
    for path in [*root.glob("trials/*/state-*.sealed"), *root.glob("trials/*/*.safetensors")]:
        tensors, _ = load_checked(path) if path.suffix == ".sealed" else load_tensors(path)
        for name, tensor in tensors.items():
            assert bool(torch.isfinite(tensor.double()).all()), f"{path.name}: {name}"
            count += 1
    return count


def test_divergence_is_recorded_at_its_step_and_keeps_what_was_finite(fast: Path):
    """C8, C13: no state or checkpoint holds a number that is not finite; the others have the bits they have without it."""
    plan = fathomlab.load(diverging())
    with deterministic_mode():
        watch, _ = train(list(plan.trials), fast / "golden", every=0)
        places = [at for at, poll in enumerate(watch.polls) if poll != (watch.polls[at - 1] if at else None)]
        golden = digest(fast / "golden")
        bad = [trial for trial in plan.trials if trial.content["training"]["lr"] > 1]
        assert len(bad) == 2
        for trial in bad:
            record = Store(fast / "golden").trial(trial.hash)
            assert (record.status, record.cause and record.cause[:9]) == ("diverged", "the loss "), record.cause
            step = int(str(record.cause).rsplit(" ", 1)[1])
            assert 2 <= step <= 4
            assert (record.folder / "checkpoint.safetensors").exists()
        assert numbers_are_finite(fast / "golden")
        for at in places:
            root = fast / f"stop-{at}"
            _, was_stopped = train(list(plan.trials), root, at)
            assert was_stopped
            assert numbers_are_finite(root)
            train(list(plan.trials), root, every=0)
            assert not unlike(golden, digest(root)), f"stopped at {watch.polls[at]}"
        alone = [trial for trial in plan.trials if trial not in bad]
        harmless = fast / "harmless"
        both = fathomlab.load(diverging(), ["training.lr=0.01,0.02"])
        train(list(both.trials), harmless)
        for trial in alone:
            one, two = digest(fast / "golden"), digest(harmless)
            mine = {key: value for key, value in one.items() if key.startswith(trial.hash[:8])}
            other = {key: value for key, value in two.items() if key.startswith(trial.hash[:8])}
            assert mine
            assert not unlike(mine, other)


def test_a_pack_in_which_all_diverge_ends_the_same_way(fast: Path):
    """C8: also where it is stopped while it is being tested."""
    plan = fathomlab.load(small(), ["training.lr=1e20"])
    with deterministic_mode():
        watch, _ = train(list(plan.trials), fast / "golden")
        assert {Store(fast / "golden").trial(trial.hash).status for trial in plan.trials} == {"diverged"}
        assert watch.polls[-1][0] < 12  # it ends early
        for at in range(len(watch.polls)):
            if at and watch.polls[at] == watch.polls[at - 1]:
                continue
            root = fast / f"stop-{at}"
            _, was_stopped = train(list(plan.trials), root, at)
            assert was_stopped
            train(list(plan.trials), root)
            assert not unlike(digest(fast / "golden"), digest(root)), f"stopped at {watch.polls[at]}"


def test_a_jumping_clock_changes_nothing(fast: Path):
    """C10: a day forth, two days back; times taken stay positive and in order."""
    run(small(), fast / "golden")
    jumps, real = [0.0], time.time

    def jumping() -> float:
        jumps[0] += 1
        return real() + (86_400 if jumps[0] % 2 else -172_800)

    with mock.patch.object(time, "time", jumping):
        plan = interrupted(small(), fast / "other", 5)
        run(small(), fast / "other")
    assert not unlike(digest(fast / "golden"), digest(fast / "other"))
    for trial in plan.trials:
        record = Store(fast / "other").trial(trial.hash)
        taken = [value for value in record.curves["seconds"] if value is not None]
        assert len(taken) == 3
        assert taken == sorted(taken)
        assert min(taken) >= 0
        assert record.seconds is not None
        assert record.seconds >= taken[-1]


class Killed(BaseException):
    """Stands for the death of the process at a call."""


def torn(root: Path, trials: list[Any], call: int) -> bool:
    """Train a pack with a state at every step and die before the call of this number that changes the disk."""
    import threading

    count, real, lock = [0], os.replace, threading.Lock()

    def dying(*given: Any) -> None:
        with lock:
            count[0] += 1
            dead = count[0] >= call
        if dead:
            raise Killed
        real(*given)

    with mock.patch.object(os, "replace", dying):
        try:
            train(trials, root, every=0)
        except Killed:
            return True
    return False


@pytest.mark.parametrize("stride", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_a_pack_torn_between_its_members_goes_on_as_one(fast: Path, stride: int):
    """C11: death at each rename of a pack of three, states and results; finished members stay, the rest keep their bits."""
    trials = list(fathomlab.load(small(), ["training.epochs=2"]).trials)
    with deterministic_mode():
        train(trials, fast / "golden", every=0)
        golden = digest(fast / "golden")
        call, met = 1, True
        while met:
            root = fast / f"torn-{call}"
            met = torn(root, trials, call)
            before = {path: path.read_bytes() for path in root.glob("trials/*/result.json")}
            open_ones = [trial.hash for trial in trials if Store(root).trial(trial.hash).status != "finished"]
            train(trials, root, every=0)
            assert not unlike(golden, digest(root)), f"torn at {call}"
            if call > 3 * 4:  # the first state of all three has been written: there is one at any moment from now on
                assert all(Store(root).trial(trial).provenance.resumed for trial in open_ones), f"torn at {call}"
            assert all(path.read_bytes() == value for path, value in before.items()), f"torn at {call}"
            call += stride
        assert call > 60


def test_a_state_of_the_epoch_s_evaluation_is_not_mixed_with_one_of_its_end(fast: Path):
    """C11: both are of one step; where only some members have the later, none goes on from it."""
    trials = list(fathomlab.load(small()).trials)
    with deterministic_mode():
        watch, _ = train(trials, fast / "golden")
        at = next(place for place, poll in enumerate(watch.polls) if poll == (4, "validation"))
        train(trials, fast / "inside", at)
        inside = Store(fast / "inside").trial(trials[0].hash).folder
        assert checkpoint_steps(inside) == [4]
        assert read_checked(checkpoint_path(inside, 4))[0]["epoch"] == 0
        train(trials, fast / "ended", every=0, at=watch.polls.index((5, "training")))
        ended = Store(fast / "ended").trial(trials[0].hash).folder
        assert checkpoint_steps(ended) == [5, 4]
        about, payload = read_checked(checkpoint_path(ended, 4))
        assert about["epoch"] == 1
        write_checked(checkpoint_path(inside, 4), about, payload)
        (inside / "metrics.jsonl").write_bytes((ended / "metrics.jsonl").read_bytes())
        train(trials, fast / "inside")
        assert not unlike(digest(fast / "golden"), digest(fast / "inside"))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_other_packs_agree_in_double_precision(fast: Path, size: int):
    """C12: alone, in pairs, all together: losses to 1e-9; the provenance names the pack."""
    golden = run(small(), fast / "golden", "training.precision=fp64")
    run(small(), fast / "other", "training.precision=fp64", f"run.pack={size}")
    for trial in golden.trials:
        one, two = (Store(fast / name).trial(trial.hash) for name in ("golden", "other"))
        assert one.metrics["test/loss"] == pytest.approx(two.metrics["test/loss"], rel=1e-9)
        assert two.provenance.pack.size in (size, 3 % size or size)
        assert trial.hash in two.provenance.pack.members


def test_begun_packs_stay_together(fast: Path):
    """An interrupted pack goes on as it began, whatever `forms` it now; a finished member keeps its place."""
    plan = interrupted(small(), fast, 4)
    packs, fresh = packing.resumable_packs(take_inventory(fast, plan.trials[1:]), plan.trials[1:])
    assert [[trial.hash for trial in pack] for pack in packs] == [[trial.hash for trial in plan.trials]]
    assert fresh == []
    lost = fast / "trials" / plan.trials[0].hash / "trial.json"
    lost.write_text(json.dumps({"content": {"seed": "x"}}))
    packs, fresh = packing.resumable_packs(take_inventory(fast, plan.trials[1:]), plan.trials[1:])
    assert (packs, fresh) == ([], list(plan.trials[1:]))
