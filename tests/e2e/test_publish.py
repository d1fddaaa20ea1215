"""`fathomlab publish` as users call it."""

import csv
import json
import shlex
from pathlib import Path

import pytest

import fathomlab
from tests.helpers.commands import TRIALS, Command
from tests.helpers.published_numbers import wrong_numbers
from tests.helpers.recomputed import page_tables

TABLES = {"experiment.json", "experiment.yaml", "trials.csv"}
RESULTS = Path(__file__).parents[2] / "docs" / "results"
COMMITTED = sorted(path.parent for path in RESULTS.glob("*/trials.csv"))


def planned(text: str) -> set[str]:
    """The trials of a command of a page."""
    name, verb, file, *overrides = shlex.split(text.strip("`"))
    assert (name, verb) == ("fathomlab", "run")
    quick = "--quick" in overrides
    plan = fathomlab.load(file, [item for item in overrides if item != "--quick"], quick=quick)
    return {trial.hash for trial in plan.trials}


def check_commands(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The command of each condition plans its trials, and no other one of the same role; returns the number of commands.

    With tuned levels, it plans all trials.
    """
    monkeypatch.chdir(folder.parent)
    with open(folder / "trials.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    tables = page_tables(Path(f"{folder}.md").read_text(encoding="utf-8"))
    (shown,) = tables["Accuracy"]
    if "Tuned on validation" in tables:  # the page shows the chosen levels; a command trains all that were tried
        (command,) = {row["repeat"] for row in shown}
        assert planned(command) == {row["trial"] for row in rows}
        return len(shown)
    labels = list(dict.fromkeys(row["condition"] for row in rows))
    assert len(shown) == len(labels)
    for label, row in zip(labels, shown, strict=True):
        trials = {trial["trial"] for trial in rows if trial["condition"] == label}
        (role,) = {trial["role"] for trial in rows if trial["condition"] == label}
        others = {trial["trial"] for trial in rows if trial["role"] == role} - trials
        every = planned(row["repeat"])
        assert trials <= every, label
        if role == "supervised":
            assert not others & every, label
    return len(shown)


def test_publish_and_rebuild(command: Command, store: Path):
    """The page, the tables, and the charts; without the results, the same bytes."""
    output = command("publish", "tiny", "--to", "pages", "--json")
    assert (output.status, output.err) == (0, "")
    paths = [Path(text) for text in json.loads(output.out)["paths"]]
    assert paths[0] == Path("pages/tiny.md")
    assert {path.name for path in paths[1:] if path.suffix != ".svg"} == TABLES
    before = {path: path.read_bytes() for path in paths}
    for path in paths:
        if path.suffix in (".svg", ".md"):
            path.unlink()
    store.rename("outside")
    again = command("publish", "--from", "pages/tiny")
    assert again.status == 0
    assert {Path(line) for line in again.out.split()} == {path for path in paths if path.name not in TABLES}
    assert {path: path.read_bytes() for path in paths} == before
    assert wrong_numbers(Path("pages/tiny.md")) == []


def test_commands_of_rows_plan_their_trials(store: Path, monkeypatch: pytest.MonkeyPatch):
    (name,) = fathomlab.open_store(store).experiments
    fathomlab.open_store(store).experiment(name).publish("pages", "small")
    page = Path("pages/small.md").read_text(encoding="utf-8")
    (claims,) = page_tables(page)["Claims"]
    monkeypatch.chdir("pages")
    assert len(planned(claims[0]["repeat"])) == TRIALS
    assert "`fathomlab run small/experiment.yaml" in page  # the copy next to the page
    assert check_commands(Path("small").absolute(), monkeypatch) == 2


def test_commands_of_committed_pages_plan_their_trials(monkeypatch: pytest.MonkeyPatch):
    """At this commit, from the bundled files or the copies next to the pages."""
    assert all(check_commands(folder, monkeypatch) for folder in COMMITTED)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("publish",), "missing-argument"),
        (("publish", "tiny"), "missing-argument"),
        (("publish", "tiny", "--from", "pages/tiny"), "invalid-option"),
        (("publish", "--from", "pages/tiny", "--name", "x"), "invalid-option"),
        (("publish", "--from", "nowhere"), "no-such-file"),
        (("publish", "other", "--to", "pages"), "no-such-experiment"),
        (("publish", "tiny", "--to", "tiny.yaml"), "unwritable"),
    ],
)
def test_wrong_calls_are_rejected(command: Command, store: Path, arguments: tuple[str, ...], code: str):
    output = command(*arguments, "--json")
    assert output.status == 2
    assert [problem["code"] for problem in json.loads(output.out)["problems"]] == [code]
