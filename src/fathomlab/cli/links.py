"""Links to files, which terminals open with a click."""

import os
from pathlib import Path


def file_link(path: Path) -> str:
    """The `file://` link to a path."""
    return Path(os.path.abspath(path)).as_uri()
