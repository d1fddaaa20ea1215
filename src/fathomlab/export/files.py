"""Files that exports write: complete or not at all, and never over a file that is already there unless asked."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from fathomlab.base.errors import UserError


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


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path in the same directory, which replaces `path` when the block ends without an error.

    Raises:
        OSError: If the directory cannot be created or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
