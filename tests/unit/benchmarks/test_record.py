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
        measure=lambda asked: {"about": ABOUT, "number": number, "rounds": asked.rounds},
        text=lambda found: [f"the number is {found['number']}", ""],
        targets=lambda found: [Target(f"number of {title}", 2.0, found["number"])],
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
    parts["one"].measure = lambda asked: {"about": ABOUT, "number": 5.0}
    parts["two"].measure = lambda asked: pytest.fail("not asked for")
    command.main(["one", "--rounds", "1", *files])
    record = json.loads((tmp_path / "b.json").read_text())
    assert {name: found["number"] for name, found in record.items()} == {"one": 5.0, "two": 2.0}
    assert record["two"]["rounds"] == 5
    text = (tmp_path / "b.md").read_text()
    assert "| number of One | at least 2x | 5x | met |" in text
    assert "| number of Two | at least 2x | 2x | met |" in text
    assert text.index("## One") < text.index("the number is 5") < text.index("## Two")
    assert text in capsys.readouterr().out


def test_failing_part_does_not_stop_others(parts, tmp_path):
    """The status is not 0, and the Markdown names the missing part."""

    def failing(asked):
        raise SystemExit("not the same training")

    parts["one"].measure = failing
    files = ["--json", str(tmp_path / "b.json"), "--markdown", str(tmp_path / "b.md")]
    with pytest.raises(SystemExit, match="not measured: one"):
        command.main(files)
    assert list(json.loads((tmp_path / "b.json").read_text())) == ["two"]
    assert "Not measured yet: one." in (tmp_path / "b.md").read_text()


def test_record_reads_older_files_of_the_grid(tmp_path):
    """They contain the cells at the top level."""
    cell = {
        "milliseconds": {"fathomlab": 0.5, "Lightning": 1.0},
        "layout": {"fathomlab": "f", "Lightning": "l"},
        "first_seconds": {"f": 0.1, "l": 2.0},
        "share_of_peak": 0.5,
    }
    ratios = {"fathomlab": 1.0, "Lightning": 2.0}
    old = {"about": ABOUT, "equivalence": {"Lightning": 1e-12}, "cells": {"w32 d10": cell}, "ratios": ratios}
    path = tmp_path / "b.json"
    path.write_text(json.dumps(old))
    record = command.former(path)
    assert record == {"grid": old}
    text = command.markdown(record)
    assert "| w32 d10 | 0.5 | 1 | 50% |" in text
    assert "| grid against Lightning, geometric mean over 1 cells | at least 10x | 2x | missed |" in text
    assert "load average 1.00 before." in text


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
    assert "no part gird; there are: grid, cnn, overheads, growth, startup" in capsys.readouterr().err
