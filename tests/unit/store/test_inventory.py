"""The inventory: status, seconds, and newest valid checkpoint of each trial, its pack, and the experiments."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.base.codec import to_plain
from fathomlab.plan import Trial
from fathomlab.prepare.drift import remove_stale_checkpoints
from fathomlab.prepare.packing import resumable_packs
from fathomlab.store.checkpoints import SCHEMA, Checkpoint, checkpoint_path, checkpoint_steps
from fathomlab.store.checksums import encode_line, file_sha256, write_checked
from fathomlab.store.directory import TrialFolder, write_experiment
from fathomlab.store.inventory import take_inventory
from fathomlab.store.provenance import Provenance
from fathomlab.store.records import ExperimentRecord, Result, ResultStatus

FINISHED = Result("finished", None, parameters=1, epochs=1, steps=4, seconds=0.5)
TRIALS = list(
    fathomlab.load(
        {
            "model": {"type": "MLP"},
            "training": {"epochs": 1},
            "data": {"name": "mnist-sample"},
            "experiment": {"seeds": 3},
        }
    ).trials
)


def begin(root: Path, trial: Trial) -> TrialFolder:
    """A trial up to its result."""
    folder = TrialFolder(root, trial.hash)
    folder.create(trial.content)
    folder.append("metrics.jsonl", {"epoch": 1, "val/loss": 0.5})
    folder.write_provenance(Provenance(threads=1))
    return folder


def finish(root: Path, trial: Trial, status: ResultStatus = "finished") -> TrialFolder:
    """A trial with its result."""
    folder = begin(root, trial)
    folder.finish(replace(FINISHED, status=status))
    return folder


def save(root: Path, trial: Trial, step: int, pack: list[Trial], **changes: Any) -> Path:
    """A checkpoint of a trial."""
    checkpoint = Checkpoint(SCHEMA, step=step, members=tuple(member.hash for member in pack), environment={"a": "b"})
    path = checkpoint_path(root / "trials" / trial.hash, step)
    write_checked(path, to_plain(checkpoint) | changes, [b"payload"])
    return path


def test_inventory_returns_status_and_stored_seconds(tmp_path: Path):
    finish(tmp_path, TRIALS[0], "diverged")
    begin(tmp_path, TRIALS[1])
    inventory = take_inventory(tmp_path, TRIALS)
    entries = [inventory.trials[trial.hash] for trial in TRIALS]
    assert [entry.status for entry in entries] == ["diverged", "running", "waiting"]
    assert [entry.seconds for entry in entries] == [0.5, None, None]
    assert inventory.pending(TRIALS) == TRIALS[1:]
    assert [inventory.is_finished(trial.hash) for trial in TRIALS] == [True, False, False]


@pytest.mark.parametrize("name", ["trial.json", "result.json", "metrics.jsonl", "provenance.json"])
@pytest.mark.parametrize("change", ["flip", "delete"])
def test_inventory_returns_damaged_trials_as_pending(tmp_path: Path, name: str, change: str):
    path = finish(tmp_path, TRIALS[0]).path / name
    finish(tmp_path, TRIALS[1])
    if change == "flip":
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    else:
        path.unlink()
    inventory = take_inventory(tmp_path, TRIALS[:2])
    lost_result = (name, change) == ("result.json", "delete")
    assert inventory.trials[TRIALS[0].hash].status == ("running" if lost_result else "damaged")
    assert inventory.pending(TRIALS[:2]) == TRIALS[:1]


def test_inventory_detects_lines_corrupted_before_the_result(tmp_path: Path):
    """The result then has the SHA-256 of the corrupted log, so only the checksum of the line shows it."""
    folder = begin(tmp_path, TRIALS[0])
    log = folder.path / "metrics.jsonl"
    log.write_text(log.read_text().replace("0.5", "0.6") + encode_line({"epoch": 2}))
    folder.finish(FINISHED)
    assert take_inventory(tmp_path, TRIALS[:1]).trials[TRIALS[0].hash].status == "damaged"


def test_inventory_returns_the_newest_valid_checkpoint(tmp_path: Path):
    begin(tmp_path, TRIALS[0])
    for step in (4, 8, 12):
        path = save(tmp_path, TRIALS[0], step, TRIALS[:1])
    path.write_bytes(path.read_bytes()[:-1])
    checkpoint = take_inventory(tmp_path, TRIALS).checkpoint(TRIALS[0])
    assert checkpoint is not None
    assert (checkpoint.step, checkpoint.members, checkpoint.environment) == (8, (TRIALS[0].hash,), {"a": "b"})


@pytest.mark.parametrize(
    "changes", [{"schema": 99}, {"members": "x"}, {"logs": {"metrics.jsonl": "1"}}, {"backend": 1}, {"precision": None}]
)
def test_inventory_keeps_the_environment_of_unknown_schemas(tmp_path: Path, changes: dict[str, Any]):
    """So that a run that could not resume such a checkpoint, which would delete it, is refused."""
    begin(tmp_path, TRIALS[0])
    save(tmp_path, TRIALS[0], 4, TRIALS[:1], **changes)
    checkpoint = take_inventory(tmp_path, TRIALS).checkpoint(TRIALS[0])
    assert checkpoint is not None
    assert (checkpoint.schema, checkpoint.step, checkpoint.members) == (0, 4, ())
    assert checkpoint.environment == {"a": "b"}


def test_inventory_covers_members_of_packs_outside_the_plan(tmp_path: Path):
    begin(tmp_path, TRIALS[0])
    finish(tmp_path, TRIALS[1])
    save(tmp_path, TRIALS[0], 4, TRIALS)
    inventory = take_inventory(tmp_path, TRIALS[:1])
    assert {name: entry.status for name, entry in inventory.trials.items()} == dict(
        zip([trial.hash for trial in TRIALS], ["running", "finished", "waiting"], strict=True)
    )
    assert inventory.trials[TRIALS[1].hash].trial == TRIALS[1]
    assert inventory.trials[TRIALS[2].hash].trial is None


def test_inventory_reads_members_with_the_plugins_of_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("parts.py").write_text("def first(logits, labels, *, scale: float = 1.0):\n    return scale * logits[:, 0]\n")
    training = {"epochs": 1, "loss": {"type": "first"}}
    plan = fathomlab.load(
        {"plugins": ["parts.py"], "model": {"type": "MLP"}, "training": training, "experiment": {"seeds": 2}}
    )
    first, second = plan.trials
    for trial in plan.trials:
        begin(tmp_path, trial)
    save(tmp_path, first, 4, [first, second])
    assert take_inventory(tmp_path, [first]).trials[second.hash].trial is None
    inventory = take_inventory(tmp_path, [first], plan.loaded.components)
    assert inventory.trials[second.hash].trial == second
    assert resumable_packs(inventory, [first]) == ([[first, second]], [])


def test_inventory_reads_no_member_outside_the_store(tmp_path: Path):
    begin(tmp_path, TRIALS[0])
    (tmp_path / "trial.json").write_text('{"content": {}}')
    save(tmp_path, TRIALS[0], 4, TRIALS[:1], members=["..", "../..", "/"])
    inventory = take_inventory(tmp_path, TRIALS[:1])
    entries = [inventory.trials[name] for name in ("..", "../..", "/")]
    assert [(entry.status, entry.trial) for entry in entries] == [("damaged", None)] * 3


def test_inventory_contains_all_experiments(tmp_path: Path):
    write_experiment(tmp_path, ExperimentRecord("a", tmp_path, title="A"))
    (write_experiment(tmp_path, ExperimentRecord("b", tmp_path)) / "experiment.json").write_text("{")
    experiments = take_inventory(tmp_path, []).experiments
    assert {name: record.cause is None for name, record in experiments.items()} == {"a": True, "b": False}


def test_resumable_packs_returns_packs_with_all_members(tmp_path: Path):
    for trial in TRIALS:
        begin(tmp_path, trial)
    for trial in TRIALS[:2]:
        save(tmp_path, trial, 4, TRIALS[:2])
    inventory = take_inventory(tmp_path, TRIALS[1:])
    assert resumable_packs(inventory, TRIALS[1:]) == ([TRIALS[:2]], TRIALS[2:])
    (tmp_path / "trials" / TRIALS[0].hash / "trial.json").unlink()
    inventory = take_inventory(tmp_path, TRIALS[1:])
    assert resumable_packs(inventory, TRIALS[1:]) == ([], TRIALS[1:])


def test_remove_stale_checkpoints_keeps_those_of_open_packs(tmp_path: Path):
    """A finished trial keeps its checkpoint while another member of its pack is unfinished, in whichever plan that is."""
    first, second = finish(tmp_path, TRIALS[0]), begin(tmp_path, TRIALS[1])
    path = save(tmp_path, TRIALS[0], 4, TRIALS[:2])
    digest = file_sha256(path)
    remove_stale_checkpoints(take_inventory(tmp_path, TRIALS[:1]), TRIALS[:1])
    assert file_sha256(path) == digest
    second.finish(replace(FINISHED, status="diverged"))
    remove_stale_checkpoints(take_inventory(tmp_path, TRIALS[:1]), TRIALS[:1])
    assert checkpoint_steps(first.path) == []
