"""A store in which a stranger has put links and paths: nothing is read or written outside."""

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
    """All that the commands say; each ends in words."""
    said = [
        command(*words)
        for words in (
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
    assert all(entry.status in (0, 1, 2) for entry in said)
    return "".join(entry.out + entry.err for entry in said)


@pytest.fixture
def outside(tmp_path: Path, store: Path) -> Path:
    """A folder beside the store with a copy of all of it, and a secret in every document."""
    made = tmp_path / "outside"
    shutil.copytree(store, made)
    for path in made.rglob("*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "title": SECRET, "cause": SECRET, "seal": SECRET}))
    return made


@pytest.mark.parametrize("what", ["trial folder", "experiment folder", "experiment.json", "trial.json", "result.json"])
def test_a_link_is_not_followed(store: Path, outside: Path, command: Callable[..., Any], what: str):
    """The commands go on without what it stands for; the place it leads to is as before, and not shown."""
    trial = Store(store).trials()[0]
    (experiment,) = (path.name for path in (store / "experiments").iterdir())
    place = {
        "trial folder": f"trials/{trial}",
        "experiment folder": f"experiments/{experiment}",
        "experiment.json": f"experiments/{experiment}/experiment.json",
    }.get(what, f"trials/{trial}/{what}")
    own, other = store / place, outside / place
    shutil.rmtree(own) if own.is_dir() else own.unlink()
    own.symlink_to(other)
    before = snapshot(outside)
    text = everything(command, trial)
    assert snapshot(outside) == before
    assert SECRET not in text
    assert not any(SECRET in page.read_text() for page in store.rglob("*.html") if not page.is_symlink())


@pytest.mark.parametrize("name", ["report.html", "index.html"])
def test_a_page_that_is_a_link_is_replaced_not_written_through(
    store: Path, outside: Path, command: Callable[..., Any], name: str
):
    """The page becomes a file of the store."""
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
def test_a_path_for_a_trial_s_hash_leads_nowhere(store: Path, outside: Path, command: Callable[..., Any], trial: str):
    """A record of an experiment may say anything; only 64 digits are a trial."""
    file = next((store / "experiments").glob("*/experiment.json"))
    about = json.loads(file.read_text())
    about.pop("seal", None)
    about["name"] = trial
    for condition in about["conditions"]:
        for pair in condition["trials"]:
            pair["trial"] = trial
    file.write_text(json.dumps(about))
    for words in (["list"], ["report"], ["list", "--json"]):
        assert command(*words).status == 0
    record = Store(store).trial(trial)
    assert record.status == "damaged"
    assert not any(SECRET in page.read_text() for page in store.rglob("*.html"))
