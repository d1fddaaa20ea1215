"""The only way in which fathomlab writes files: whole or not at all."""

import contextlib
import os
import threading
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def atomic_write(path: Path, data: bytes | str) -> None:
    """Replace `path` by `data`: a reader sees the old file or the new one, never a part, whatever kills the writer.

    Temporary file in the same folder, fsync, rename, fsync of the folder.

    Raises:
        OSError: The disk is full, the folder is missing or read-only; the temporary file is gone then.
    """
    main = threading.current_thread() is threading.main_thread()
    thread = "" if main else f"{threading.get_native_id()}."  # two threads may write one file
    temporary = path.with_name(f".{path.name}.{thread}{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)
