"""Resumed trials equal uninterrupted ones to the bit. Divergence stays alone. Drift is rejected, or recorded."""

import json
import os
import threading
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

import fathomlab
from fathomlab.base.errors import UserError
from fathomlab.execute.experiment import RunOptions
from fathomlab.execute.pack.settings import deterministic_mode
from fathomlab.prepare import drift, packing
from fathomlab.store.checkpoints import checkpoint_path, checkpoint_steps, latest_checkpoint
from fathomlab.store.checksums import read_checked, write_checked
from fathomlab.store.inventory import take_inventory
from fathomlab.store.reading import Store
from fathomlab.store.weights import load_checked, load_tensors
from tests.faults.experiments import Killed, interrupted, run, small
from tests.faults.kills import differences, digest
from tests.faults.matrix import train


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
def test_drift_is_rejected_unless_allowed(ram_dir: Path, key: str, value: Any):
    """Each entry of the environment. Nothing is trained before the user decides."""
    plan = interrupted(small(), ram_dir, 4)
    for trial in plan.trials:
        folder = ram_dir / "trials" / trial.hash
        for step in checkpoint_steps(folder):
            metadata, payload = read_checked(checkpoint_path(folder, step))
            metadata["environment"] = metadata["environment"] | {key: value}
            write_checked(checkpoint_path(folder, step), metadata, [payload])
    before = digest(ram_dir)
    with pytest.raises(UserError) as caught:
        run(small(), ram_dir)
    assert caught.value.code == "environment-changed"
    assert drift.LABELS.get(key, key) in str(caught.value)
    assert "--allow-drift" in str(caught.value)
    assert digest(ram_dir) == before
    run(small(), ram_dir, options=RunOptions("cpu", 1, allow_drift=True))
    for trial in plan.trials:
        record = Store(ram_dir).trial(trial.hash)
        assert record.status == "finished"
        assert record.provenance.resumed[0].environment[key] == value
        assert record.provenance.environment[key] != value


def test_code_digest_follows_every_numeric_file(tmp_path: Path):
    """A changed, added, or nested file of any listed package or module changes the digest; other files do not."""
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


def test_changed_option_starts_another_trial(ram_dir: Path):
    """If an option is changed after an interruption; the old checkpoint remains."""
    plan = interrupted(small(), ram_dir, 4)
    other = run(small(), ram_dir, "training.lr=0.02")
    assert not {trial.hash for trial in plan.trials} & {trial.hash for trial in other.trials}
    assert all(latest_checkpoint(ram_dir / "trials" / trial.hash) for trial in plan.trials)


def diverging() -> dict[str, Any]:
    """For each seed a trial that diverges and one that does not, in one pack."""
    result = small()
    result["experiment"] = {
        "seeds": 2,
        "factors": {"training.lr": [0.01, 1e20]},
        "probes": {"gradients": {"at": [1, "epochs"]}},
    }
    return result


def numbers_are_finite(root: Path) -> int:
    """Check that all numbers of all checkpoints are finite; return the number of tensors."""
    count = 0
    for path in [*root.glob("trials/*/state-*.sealed"), *root.glob("trials/*/*.safetensors")]:
        tensors, _ = load_checked(path) if path.suffix == ".sealed" else load_tensors(path)
        for name, tensor in tensors.items():
            assert bool(torch.isfinite(tensor.double()).all()), f"{path.name}: {name}"
            count += 1
    return count


def test_divergence_keeps_finite_weights_and_other_trials(ram_dir: Path):
    """Checkpoints contain finite numbers only; the other trials have the same bits as in another pack."""
    plan = fathomlab.load(diverging())
    with deterministic_mode():
        watch, _ = train(list(plan.trials), ram_dir / "golden", every=0)
        places = [at for at, poll in enumerate(watch.polls) if poll != (watch.polls[at - 1] if at else None)]
        golden = digest(ram_dir / "golden")
        bad = [trial for trial in plan.trials if trial.content["training"]["lr"] > 1]
        assert len(bad) == 2
        for trial in bad:
            record = Store(ram_dir / "golden").trial(trial.hash)
            assert (record.status, record.cause and record.cause[:9]) == ("diverged", "the loss "), record.cause
            step = int(str(record.cause).rsplit(" ", 1)[1])
            assert 2 <= step <= 4
            assert (record.folder / "checkpoint.safetensors").exists()
        assert numbers_are_finite(ram_dir / "golden")
        for at in places:
            root = ram_dir / f"stop-{at}"
            _, was_stopped = train(list(plan.trials), root, at)
            assert was_stopped
            assert numbers_are_finite(root)
            train(list(plan.trials), root, every=0)
            assert not differences(golden, digest(root)), f"stopped at {watch.polls[at]}"
        alone = [trial for trial in plan.trials if trial not in bad]
        harmless = ram_dir / "harmless"
        both = fathomlab.load(diverging(), ["training.lr=0.01,0.02"])
        train(list(both.trials), harmless)
        for trial in alone:
            one, two = digest(ram_dir / "golden"), digest(harmless)
            mine = {key: value for key, value in one.items() if key.startswith(trial.hash[:8])}
            other = {key: value for key, value in two.items() if key.startswith(trial.hash[:8])}
            assert mine
            assert not differences(mine, other)


def test_pack_of_diverging_trials_resumes_to_the_same_end(ram_dir: Path):
    """Also if it is stopped in its evaluation."""
    plan = fathomlab.load(small(), ["training.lr=1e20"])
    with deterministic_mode():
        watch, _ = train(list(plan.trials), ram_dir / "golden")
        assert {Store(ram_dir / "golden").trial(trial.hash).status for trial in plan.trials} == {"diverged"}
        assert watch.polls[-1][0] < 12  # it ends early
        for at in range(len(watch.polls)):
            if at and watch.polls[at] == watch.polls[at - 1]:
                continue
            root = ram_dir / f"stop-{at}"
            _, was_stopped = train(list(plan.trials), root, at)
            assert was_stopped
            train(list(plan.trials), root)
            assert not differences(digest(ram_dir / "golden"), digest(root)), f"stopped at {watch.polls[at]}"


def test_clock_jumps_change_no_result(ram_dir: Path):
    """One day forward, two days back; durations remain positive and in order."""
    run(small(), ram_dir / "golden")
    jumps, real = [0.0], time.time

    def jumping() -> float:
        jumps[0] += 1
        return real() + (86_400 if jumps[0] % 2 else -172_800)

    with mock.patch.object(time, "time", jumping):
        plan = interrupted(small(), ram_dir / "other", 5)
        run(small(), ram_dir / "other")
    assert not differences(digest(ram_dir / "golden"), digest(ram_dir / "other"))
    for trial in plan.trials:
        record = Store(ram_dir / "other").trial(trial.hash)
        taken = [value for value in record.curves["seconds"] if value is not None]
        assert len(taken) == 3
        assert taken == sorted(taken)
        assert min(taken) >= 0
        assert record.seconds is not None
        assert record.seconds >= taken[-1]


def torn(root: Path, trials: list[Any], call: int) -> bool:
    """Train a pack with a checkpoint at every step, and die before a rename."""
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
def test_pack_killed_between_its_files_resumes_together(ram_dir: Path, stride: int):
    """At each rename of a pack of three. Finished members are not changed, the others end with the same bits."""
    trials = list(fathomlab.load(small(), ["training.epochs=2"]).trials)
    with deterministic_mode():
        train(trials, ram_dir / "golden", every=0)
        golden = digest(ram_dir / "golden")
        call, met = 1, True
        while met:
            root = ram_dir / f"torn-{call}"
            met = torn(root, trials, call)
            before = {path: path.read_bytes() for path in root.glob("trials/*/result.json")}
            open_ones = [trial.hash for trial in trials if Store(root).trial(trial.hash).status != "finished"]
            train(trials, root, every=0)
            assert not differences(golden, digest(root)), f"torn at {call}"
            if call > 3 * 4:  # the first checkpoint of all three is complete: from now on there is always one
                assert all(Store(root).trial(trial).provenance.resumed for trial in open_ones), f"torn at {call}"
            assert all(path.read_bytes() == value for path, value in before.items()), f"torn at {call}"
            call += stride
        assert call > 60


def test_checkpoints_of_two_epochs_are_not_mixed(ram_dir: Path):
    """Both are of one step. If only some members have the later one, none resumes from it."""
    trials = list(fathomlab.load(small()).trials)
    with deterministic_mode():
        watch, _ = train(trials, ram_dir / "golden")
        at = next(place for place, poll in enumerate(watch.polls) if poll == (4, "validation"))
        train(trials, ram_dir / "inside", at)
        inside = Store(ram_dir / "inside").trial(trials[0].hash).folder
        assert checkpoint_steps(inside) == [4]
        assert read_checked(checkpoint_path(inside, 4))[0]["epoch"] == 0
        train(trials, ram_dir / "ended", every=0, at=watch.polls.index((5, "training")))
        ended = Store(ram_dir / "ended").trial(trials[0].hash).folder
        assert checkpoint_steps(ended) == [5, 4]
        metadata, payload = read_checked(checkpoint_path(ended, 4))
        assert metadata["epoch"] == 1
        write_checked(checkpoint_path(inside, 4), metadata, [payload])
        (inside / "metrics.jsonl").write_bytes((ended / "metrics.jsonl").read_bytes())
        train(trials, ram_dir / "inside")
        assert not differences(digest(ram_dir / "golden"), digest(ram_dir / "inside"))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_pack_sizes_agree_in_float64(ram_dir: Path, size: int):
    """Losses agree to 1e-9 in packs of 1, 2, and 3; the provenance contains the pack."""
    golden = run(small(), ram_dir / "golden", "training.precision=fp64")
    run(small(), ram_dir / "other", "training.precision=fp64", f"run.pack={size}")
    for trial in golden.trials:
        one, two = (Store(ram_dir / name).trial(trial.hash) for name in ("golden", "other"))
        assert one.metrics["test/loss"] == pytest.approx(two.metrics["test/loss"], rel=1e-9)
        assert two.provenance.pack.size in (size, 3 % size or size)
        assert trial.hash in two.provenance.pack.members


def test_interrupted_packs_stay_together(ram_dir: Path):
    """An interrupted pack resumes as it started; a finished member keeps its slot."""
    plan = interrupted(small(), ram_dir, 4)
    packs, fresh = packing.resumable_packs(take_inventory(ram_dir, plan.trials[1:]), plan.trials[1:])
    assert [[trial.hash for trial in pack] for pack in packs] == [[trial.hash for trial in plan.trials]]
    assert fresh == []
    lost = ram_dir / "trials" / plan.trials[0].hash / "trial.json"
    lost.write_text(json.dumps({"content": {"seed": "x"}}))
    packs, fresh = packing.resumable_packs(take_inventory(ram_dir, plan.trials[1:]), plan.trials[1:])
    assert (packs, fresh) == ([], list(plan.trials[1:]))
