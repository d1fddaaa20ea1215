"""The page of commands."""

import re
from pathlib import Path

from reference.command_line import page

SOURCE = Path(__file__).parents[3] / "src"
INTERNAL = {"PYTHONPATH", "DISPLAY", "WAYLAND_DISPLAY"}  # of worker processes and of the desktop


def test_page_lists_every_environment_variable():
    text = "".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    names = set(re.findall(r'environ\w*\.get\(\s*"([A-Z_]+)"', text)) - INTERNAL
    assert names >= {"FATHOMLAB_RUNS", "FATHOMLAB_DATA", "FATHOMLAB_OFFLINE"}
    assert {name for name in names if not re.search(rf"\b{name}\b", page())} == set()


def test_page_has_a_section_for_commands_of_groups():
    assert {"## fathomlab run", "## fathomlab data download", "## fathomlab store prune"} <= set(page().splitlines())
