"""Every file in this folder is rejected with the problems of its first line.

The line is `# want: CODE LINE KEY; ...`, in the order of the file; LINE and KEY are absent if the problem has none.
"""

from pathlib import Path

import pytest

import fathomlab
from fathomlab.base.errors import Issue
from fathomlab.base.files import shown_path

FILES = sorted(Path(__file__).parent.glob("*.yaml"))


def as_text(problem: Issue) -> str:
    """CODE LINE KEY."""
    return " ".join(filter(None, (problem.code, problem.location.rpartition(":")[2], problem.path)))


def problems(path: Path) -> str:
    """The problems of a file, as its first line lists them; each message is short and printable."""
    with pytest.raises(fathomlab.ConfigError) as caught:
        fathomlab.load(path)
    messages = [problem.message for problem in caught.value.problems]
    assert all(message.isascii() and len(message) < 400 for message in messages), path
    assert str(caught.value).startswith(f"{shown_path(path)}: {len(messages)} problem"), path
    return "; ".join(map(as_text, caught.value.problems))


def test_bad_files_report_their_problems():
    assert len(FILES) > 80
    wanted = {path.name: path.read_bytes().partition(b"\n")[0].decode().removeprefix("# want: ") for path in FILES}
    reported = {path.name: problems(path) for path in FILES}
    assert reported == wanted
