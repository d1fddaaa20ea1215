"""Writes experiment files and collects what is said of them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import fathomlab

Tell = Callable[..., list[str]]


@pytest.fixture
def told(tmp_path: Path) -> Tell:
    """The lines of the error that a file `exp.yaml` with this text and these overrides gives; [] if it is right."""

    def tell(text: str | bytes, overrides: Sequence[str] = (), quick: bool = False) -> list[str]:
        path = tmp_path / "exp.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        try:
            fathomlab.load(path, overrides, quick)
        except fathomlab.ConfigError as error:
            head, *lines = str(error).splitlines()
            count = len(error.problems)
            assert head == f"exp.yaml: {count} problem{'s' * (count != 1)}"
            assert all(line.startswith("  ") for line in lines)
            return [line[2:] for line in lines]
        return []

    return tell
