"""Links and paths in an untrusted store: nothing outside is read or written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fathomlab.store.reading import Store

SECRET = "the-secret-of-another-folder"


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def everything(command: Callable[..., Any], trial: str) -> str:
    """The output of all commands; none ends in a traceback."""
    results = [
        command(*arguments)
        for arguments in (
            ["list"],
            ["list", "--json"],
            ["show", trial[:12]],
            ["show", trial[:12], "--json"],
            ["report"],
            ["plan", "exp.yaml"],
            ["run", "exp.yaml", "--workers", "1", "--progress", "plain"],
            ["list"],
            ["report"],
        )
    ]
    assert all(entry.status in (0, 1, 2) for entry in results)
    return "".join(entry.out + entry.err for entry in results)


@pytest.fixture
def outside(tmp_path: Path, store: Path) -> Path:
    """A folder next to the store with a copy of it, and a secret in every document."""
    folder = tmp_path / "outside"
    shutil.copytree(store, folder)
    for path in folder.rglob("*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "title": SECRET, "cause": SECRET, "seal": SECRET}))
    return folder


@pytest.mark.parametrize("what", ["trial folder", "experiment folder", "experiment.json", "trial.json", "result.json"])
def test_links_are_not_followed(store: Path, outside: Path, command: Callable[..., Any], what: str):
    """The commands work without the linked file; its target is neither changed nor shown."""
    trial = Store(store).trials()[0]
    (experiment,) = (path.name for path in (store / "experiments").iterdir())
    relative = {
        "trial folder": f"trials/{trial}",
        "experiment folder": f"experiments/{experiment}",
        "experiment.json": f"experiments/{experiment}/experiment.json",
    }.get(what, f"trials/{trial}/{what}")
    path = store / relative
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(outside / relative)
    before = snapshot(outside)
    text = everything(command, trial)
    assert snapshot(outside) == before
    assert SECRET not in text
    assert not any(SECRET in page.read_text() for page in store.rglob("*.html") if not page.is_symlink())


@pytest.mark.parametrize("name", ["report.html", "index.html"])
def test_linked_pages_are_replaced(store: Path, outside: Path, command: Callable[..., Any], name: str):
    """The target of the link is not written."""
    page = next(store.rglob(name))
    page.unlink()
    target = outside / "mine.html"
    target.write_text("mine")
    page.symlink_to(target)
    command("report")
    assert target.read_text() == "mine"
    assert not page.is_symlink()
    assert "<html" in page.read_text()


@pytest.mark.parametrize(
    "trial",
    ["../../../outside/trials", "../experiments", "/etc", "..", "", "x" * 300, "a\0b", "\ud800", "0" * 63 + "\n"],
)
def test_paths_are_not_trial_hashes(store: Path, outside: Path, command: Callable[..., Any], trial: str):
    """A record may contain anything; only 64 hexadecimal digits are a trial."""
    file = next((store / "experiments").glob("*/experiment.json"))
    record = json.loads(file.read_text())
    record.pop("seal", None)
    record["name"] = trial
    for condition in record["conditions"]:
        for pair in condition["trials"]:
            pair["trial"] = trial
    file.write_text(json.dumps(record))
    for arguments in (["list"], ["report"], ["list", "--json"]):
        assert command(*arguments).status == 0
    assert Store(store).trial(trial).status == "damaged"
    assert not any(SECRET in page.read_text() for page in store.rglob("*.html"))
