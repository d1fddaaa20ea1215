"""The record: parts that are asked for are new, the others stay, a part that fails costs only itself."""

import json
from types import SimpleNamespace

import pytest

from benchmarks import __main__ as command
from benchmarks.part import Target

ABOUT = {"date": "2026-01-02", "cpu": "a processor", "cores": 2, "versions": {"torch": "2"}, "load": [1.0, 0, 0]}


def part(title, number):
    """A part that measures nothing."""
    return SimpleNamespace(
        TITLE=title,
        measure=lambda options: {"about": ABOUT, "number": number, "rounds": options.rounds},
        text=lambda record: [f"the number is {record['number']}", ""],
        targets=lambda record: [Target(f"number of {title}", 2.0, record["number"])],
    )


@pytest.fixture
def parts(monkeypatch):
    """Two parts in place of the real ones."""
    parts = {"one": part("One", 1.0), "two": part("Two", 2.0)}
    monkeypatch.setattr(command, "PARTS", parts)
    return parts


def test_record_keeps_parts_that_are_not_requested(parts, tmp_path, capsys):
    """The Markdown contains targets met and missed."""
    files = ["--json", str(tmp_path / "b.json"), "--markdown", str(tmp_path / "b.md")]
    command.main(files)
    parts["one"].measure = lambda options: {"about": ABOUT, "number": 5.0}
    parts["two"].measure = lambda options: pytest.fail("not asked for")
    command.main(["one", "--rounds", "1", *files])
    record = json.loads((tmp_path / "b.json").read_text())
    assert record.pop("format") == command.FORMAT
    assert {name: part["number"] for name, part in record.items()} == {"one": 5.0, "two": 2.0}
    assert record["two"]["rounds"] == 5
    text = (tmp_path / "b.md").read_text()
    assert "| number of One | at least 2x | 5x |  | met |" in text
    assert "| number of Two | at least 2x | 2x |  | met |" in text
    assert text.index("## One") < text.index("the number is 5") < text.index("## Two")
    assert text in capsys.readouterr().out


def test_failing_part_does_not_stop_others(parts, tmp_path):
    """The status is not 0, and the Markdown names the missing part."""

    def failing(options):
        raise SystemExit("not the same training")

    parts["one"].measure = failing
    files = ["--json", str(tmp_path / "b.json"), "--markdown", str(tmp_path / "b.md")]
    with pytest.raises(SystemExit, match="not measured: one"):
        command.main(files)
    assert list(json.loads((tmp_path / "b.json").read_text())) == ["format", "two"]
    assert "Not measured yet: one." in (tmp_path / "b.md").read_text()


def test_record_of_an_earlier_format_is_replaced(parts, tmp_path, capsys):
    path = tmp_path / "b.json"
    path.write_text(json.dumps({"one": {"about": ABOUT, "number": 1.0}}))
    assert command.former(path) == {}
    assert str(path) in capsys.readouterr().out


def test_corrupted_record_is_not_overwritten(tmp_path):
    path = tmp_path / "b.json"
    path.write_text("{")
    with pytest.raises(SystemExit, match="not valid JSON"):
        command.former(path)
    assert command.former(tmp_path / "none.json") == {}


def test_unknown_part_is_rejected(capsys):
    """With the available parts."""
    with pytest.raises(SystemExit):
        command.main(["gird"])
    assert (
        "no part gird; there are: grid, cnn, evaluation, quick, overheads, growth, startup" in capsys.readouterr().err
    )
