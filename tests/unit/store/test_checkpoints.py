"""Metadata of checkpoints: the JSON on disk does not change, and every number keeps its bits."""

import json
import math
from pathlib import Path

import pytest

from fathomlab.base.codec import to_plain
from fathomlab.store.checkpoints import (
    MAX_TO_KEEP,
    SCHEMA,
    Checkpoint,
    Resumption,
    checkpoint_path,
    checkpoint_steps,
    delete_checkpoints,
    parse_checkpoint,
    read_checkpoint,
    valid_checkpoints,
)
from fathomlab.store.checksums import read_checked, write_checked

GOLDEN = sorted((Path(__file__).parents[2] / "golden" / "states" / "trials").glob("*/state-*.sealed"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.parent.name[:8])
def test_checkpoint_writes_the_json_that_it_was_read_from(path: Path):
    metadata, _ = read_checked(path)
    checkpoint = read_checkpoint(path)
    assert checkpoint.schema == SCHEMA
    assert json.dumps(to_plain(checkpoint), sort_keys=True) == json.dumps(metadata, sort_keys=True)


def test_checkpoint_keeps_the_bits_of_its_numbers(tmp_path: Path):
    memory = {"rate": 0.1 + 0.2, "bad": 3, "best": math.inf, "zero": -0.0, "tiny": 5e-324}
    checkpoint = Checkpoint(
        SCHEMA,
        step=7,
        members=("a", "b"),
        memory=memory,
        backend="native",
        precision="fp32",
        environment={"torch": "2", "threads": 1, "gpu": None},
        metrics={"val/loss": 1 / 3, "x": None},
        logs={"metrics.jsonl": 2},
        seconds=0.1,
        resumed=(Resumption(4, {"torch": "1"}, ("a", "b")),),
    )
    write_checked(tmp_path / "x", to_plain(checkpoint), [])
    again = read_checkpoint(tmp_path / "x")
    assert again == checkpoint
    assert {name: repr(value) for name, value in again.memory.items()} == {
        name: repr(value) for name, value in memory.items()
    }


@pytest.mark.parametrize(
    "metadata", [{}, {"schema": 99}, {"schema": SCHEMA, "epoch": "1"}, {"schema": SCHEMA, "step": 1.5}]
)
def test_parse_checkpoint_accepts_any_metadata(metadata: dict[str, object]):
    assert parse_checkpoint(metadata).schema == 0


def test_valid_checkpoints_renames_corrupted_files(tmp_path: Path):
    for step in (1, 2, 3):
        write_checked(checkpoint_path(tmp_path, step), to_plain(Checkpoint(SCHEMA, step=step)), [b"payload"])
    newest = checkpoint_path(tmp_path, 3)
    newest.write_bytes(newest.read_bytes().replace(b"payload", b"paylord"))
    valid, corrupt = valid_checkpoints(tmp_path)
    assert list(valid) == [2, 1]
    assert corrupt == [newest.name]
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".corrupt") == [f"{newest.name}.corrupt"]


def test_delete_checkpoints_keeps_the_given_steps(tmp_path: Path):
    for step in (1, 2, 3):
        write_checked(checkpoint_path(tmp_path, step), {}, [])
    (tmp_path / "state-1.sealed").write_bytes(b"")  # too few digits: not a checkpoint
    delete_checkpoints(tmp_path, checkpoint_steps(tmp_path)[:MAX_TO_KEEP])
    assert checkpoint_steps(tmp_path) == [3, 2]
    assert (tmp_path / "state-1.sealed").exists()
