"""Commands on an experiment whose record is corrupted: nothing passes for a result, and nothing is lost."""

import json
from pathlib import Path

import pytest

from tests.helpers.commands import RUN, TRIALS, Command

pytestmark = pytest.mark.usefixtures("no_charts")


@pytest.fixture
def record(store: Path) -> Path:
    """The record of the only experiment, cut off in the middle."""
    (path,) = store.glob("experiments/*/experiment.json")
    path.write_bytes(path.read_bytes()[:1000])
    return path


def code(output: str) -> str:
    return json.loads(output)["problems"][0]["code"]


@pytest.mark.parametrize("damage", ["cut", "missing", "changed"])
def test_verify_does_not_pass(command: Command, store: Path, damage: str):
    """Its status 0 says that all claims are supported."""
    (path,) = store.glob("experiments/*/experiment.json")
    text = path.read_text(encoding="utf-8")
    if damage == "missing":
        path.unlink()
    else:
        path.write_text(text[:1000] if damage == "cut" else text.replace("Shortcuts", "X"), encoding="utf-8")
    output = command("verify", "tiny.yaml", "--json")
    assert (output.status, code(output.out)) == (2, "damaged-record")


def test_commands_refuse_the_record(command: Command, record: Path):
    for words in (
        ("list", "tiny"),
        ("report", "tiny"),
        ("report", "tiny", "--combine", "hand-in.html"),
        ("report", "--diff", "tiny", "tiny"),
        ("publish", "tiny", "--to", "pages"),
        ("export", "csv", "tiny", "--to", "table.csv"),
    ):
        output = command(*words, "--json")
        assert (output.status, code(output.out)) == (2, "damaged-record"), words
    assert not any(Path(name).exists() for name in ("hand-in.html", "pages", "table.csv"))


def test_report_keeps_the_page(command: Command, store: Path, record: Path):
    page = record.with_name("report.html")
    before = page.read_bytes()
    output = command("report", "--json")
    assert json.loads(output.out) == {"reports": [], "index": str(store / "index.html")}
    assert str(record.parent) in output.err
    assert page.read_bytes() == before


def test_repair_keeps_the_file(command: Command, store: Path, record: Path):
    content = record.read_bytes()
    changes = json.loads(command("store", "repair", "--json").out)["done"]
    assert [change["path"] for change in changes] == [str(record)]
    assert not record.exists()
    assert record.with_name("experiment.json.corrupt").read_bytes() == content


@pytest.mark.parametrize("parses", [False, True])
def test_run_keeps_the_file_and_writes_a_new_one(command: Command, store: Path, parses: bool):
    """Nothing is trained again. A warning says so, and the claims count as late, whatever the corrupted record says."""
    (record,) = store.glob("experiments/*/experiment.json")
    for number, kept in enumerate(("experiment.json.corrupt", "experiment.json.corrupt.1")):
        content = record.read_bytes().replace(b"Shortcuts", b"X" * (number + 1)) if parses else b"{" * (number + 1)
        record.write_bytes(content)
        summary = json.loads(command(*RUN, "--json").out)
        assert (summary["cached"], summary["trained"]) == (TRIALS, 0)
        assert any(kept in notice for notice in summary["notices"])
        assert record.with_name(kept).read_bytes() == content
        assert json.loads(record.read_text(encoding="utf-8"))["claims_late"]
    assert "notices" not in json.loads(command(*RUN, "--json").out)


def test_newer_record_stays(command: Command, store: Path):
    """It is intact: an older version neither renames nor replaces it."""
    (record,) = store.glob("experiments/*/experiment.json")
    document = json.loads(record.read_text(encoding="utf-8"))
    record.write_text(json.dumps({**document, "format": 99, "title": ["new"]}), encoding="utf-8")
    content = record.read_bytes()
    assert json.loads(command("store", "repair", "--json").out)["done"] == []
    output = command(*RUN, "--json")
    assert (output.status, code(output.out)) == (2, "damaged-record")
    assert "newer" in output.out
    assert record.read_bytes() == content
