"""Writes experiment files and collects the problems that they have."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import fathomlab
from fathomlab.base.errors import Issue

IssuesOf = Callable[..., list[str]]


@pytest.fixture
def issues_of(tmp_path: Path) -> IssuesOf:
    """The issues of a file `exp.yaml` with this text and these overrides, each as "CODE LINE KEY"; [] if it is valid.

    LINE is the number of a line or `override N`; it is left out for the file as a whole, as is KEY.
    """

    def issues(text: str | bytes, overrides: Sequence[str] = (), quick: bool = False) -> list[str]:
        path = tmp_path / "exp.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        try:
            fathomlab.load(path, overrides, quick)
        except fathomlab.ConfigError as caught:
            error = caught
        else:
            return []
        head, *lines = str(error).splitlines()
        assert head.startswith(f"{path}: {len(error.problems)} problem")
        assert [line.strip() for line in lines] == [str(problem) for problem in error.problems]
        assert all(problem.message.isascii() and len(problem.message) < 400 for problem in error.problems)
        return [_short(problem) for problem in error.problems]

    return issues


def _short(problem: Issue) -> str:
    return " ".join(filter(None, (problem.code, problem.location.rpartition("exp.yaml:")[2], problem.path)))
