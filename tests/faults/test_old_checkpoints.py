"""Checkpoints in the repository, written by an earlier version, are resumed or rejected."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fathomlab.store.checksums import read_checked, write_checked
from fathomlab.store.reading import Store
from tests.faults import states
from tests.faults.forks import Server
from tests.faults.kills import digest


def golden_command(runs: Path, *more: str) -> list[str]:
    """`fathomlab run` of the experiment to which the checkpoints belong."""
    args = ["run", str(states.EXPERIMENT), "--runs", str(runs), "--device", "cpu", "--workers", "1"]
    return [*args, "--progress", "plain", *more]


def check_golden(runs: Path) -> None:
    """Compare with the uninterrupted run: bits if processor and torch are the same, otherwise approximately."""
    known, result = json.loads(states.EXPECTED.read_text()), states.results(runs)
    if known["environment"] == states.environment():
        assert result == known["findings"]
        return
    for trial, item in known["findings"].items():
        for name, value in item["metrics"].items():
            if name.endswith("loss"):
                assert result[trial]["metrics"][name] == pytest.approx(value, rel=1e-2)


def rewritten(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change the metadata of a checkpoint, with a valid checksum."""
    (path,) = folder.glob("state-*.sealed")
    metadata, payload = read_checked(path)
    write_checked(path, change(metadata), [payload])


def test_old_checkpoints_resume_to_the_same_bits(forks: Server, ram_dir: Path):
    """Of the uninterrupted run; the provenance contains the environment in which it started."""
    folders = states.copy_states(ram_dir)
    wait_for_epochs = [read_checked(*folder.glob("state-*.sealed"))[0] for folder in folders]
    assert sum(path.stat().st_size for path in states.STATES.rglob("*") if path.is_file()) < 200_000
    status, printed = forks.run(golden_command(ram_dir, "--allow-drift"), report=False)
    assert status == 0, printed
    assert "from scratch" not in printed
    check_golden(ram_dir)
    for folder, metadata in zip(folders, wait_for_epochs, strict=True):
        (resumed,) = Store(ram_dir).trial(folder.name).provenance.resumed
        assert resumed.step == metadata["step"] == states.AFTER
        assert resumed.environment == metadata["environment"]


def test_old_checkpoints_of_another_environment_raise(forks: Server, ram_dir: Path):
    """Exit status 2 with the difference; nothing is changed."""
    for folder in states.copy_states(ram_dir):
        rewritten(folder, lambda metadata: metadata | {"environment": metadata["environment"] | {"torch": "1.13.1"}})
    before = digest(ram_dir)
    status, printed = forks.run(golden_command(ram_dir), report=False)
    assert status == 2, printed
    assert "torch (1.13.1 then," in printed
    assert "--allow-drift" in printed
    assert "Traceback" not in printed
    assert digest(ram_dir) == before


@pytest.mark.parametrize("saved", ["all", "schema only"])
def test_unknown_checkpoint_schema_warns_and_restarts(forks: Server, ram_dir: Path, saved: str):
    """With all other metadata, or none."""
    for folder in states.copy_states(ram_dir):
        rewritten(folder, lambda metadata: (metadata if saved == "all" else {}) | {"schema": 99})
    status, printed = forks.run(golden_command(ram_dir, "--allow-drift"), report=False)
    assert status == 0, printed
    assert "from scratch" in printed
    check_golden(ram_dir)
    assert all(Store(ram_dir).trial(folder.name).provenance.resumed == () for folder in (ram_dir / "trials").iterdir())
