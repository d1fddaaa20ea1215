"""Folders of other programs in the store are neither read nor written."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

FOREIGN = (".ipynb_checkpoints", "@eaDir", "lost+found", "my notes", "__MACOSX", ".Trash-1000", "backup-2026")


@pytest.fixture
def store(trained: Path) -> Path:
    """A store with results and foreign folders in each of its own."""
    for folder in ("experiments", "trials", "."):
        for name in FOREIGN:
            (trained / "runs" / folder / name).mkdir()
        (trained / "runs" / folder / ".DS_Store").write_bytes(b"x")
    return trained


def test_foreign_folders_are_ignored(store: Path, shell: SimpleNamespace):
    """By check, report, list, repair, and prune; nothing is written into them or removed."""
    (store / "runs" / "experiments" / "my notes" / "report.txt").write_text("mine")
    for words in (["store", "check"], ["report"], ["list"], ["store", "prune"], ["store", "prune", "--orphans"]):
        done = shell.run(*words, cwd=store)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        assert b"my notes" not in done.stdout
    for folder in ("experiments", "trials", "."):
        for name in FOREIGN:
            inside = os.listdir(store / "runs" / folder / name)
            assert inside == (["report.txt"] if (folder, name) == ("experiments", "my notes") else [])


def test_an_experiment_without_its_record_is_still_corrupted(store: Path, shell: SimpleNamespace):
    """Its name shows what it was."""
    folder = next(path for path in (store / "runs" / "experiments").glob("tiny-*"))
    (folder / "experiment.json").unlink()
    assert shell.run("store", "check", cwd=store).returncode == 1


def test_a_link_to_an_experiment_is_ignored(store: Path, shell: SimpleNamespace):
    """Links could lead out of the store."""
    folder = next(path for path in (store / "runs" / "experiments").glob("tiny-*"))
    outside = store / "outside"
    shutil.copytree(folder, outside)
    (store / "runs" / "experiments" / "linked-01234567").symlink_to(outside)
    page = (outside / "report.html").stat().st_mtime_ns
    assert shell.run("report", cwd=store).returncode == 0
    assert (outside / "report.html").stat().st_mtime_ns == page
