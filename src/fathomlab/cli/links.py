"""Links to files, which terminals open with a click."""

from pathlib import Path


def file_link(path: Path) -> str:
    """The `file://` link to a path."""
    return path.absolute().as_uri()
