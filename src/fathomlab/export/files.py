"""Files that exports write: complete or not at all, and never over a file that is already there unless asked."""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from fathomlab.base.errors import UserError
from fathomlab.base.files import atomic_file


def check_targets(paths: Sequence[Path], overwrite: bool) -> None:
    """Check that nothing is in the way, before anything is written.

    Raises:
        UserError: If a file exists and `overwrite` is false, or if a directory has its name.
    """
    for path in paths:
        if path.is_dir():
            raise UserError("target-exists", f"{path}: is a directory. Choose another target with --to.")
        if os.path.lexists(path) and not overwrite:
            raise UserError(
                "target-exists", f"{path}: exists. Choose another target with --to, or replace it with --overwrite."
            )


def open_target(path: Path) -> AbstractContextManager[BinaryIO]:
    """Open a file that replaces `path` when the block ends without an error. Its directory is created.

    Raises:
        OSError: If the directory cannot be created or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    return atomic_file(path)
