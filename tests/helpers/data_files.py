"""Small stand-ins for the published files of datasets."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping

from fathomlab.data.table import DatasetInfo, PinnedFile

INFO = DatasetInfo("toy", "Toy", 1, 2, 2, 2, ("a", "b"), 1, 1, (0.5,), (0.5,), "here", "none")


def pinned(name: str, data: bytes) -> PinnedFile:
    """The published file with these bytes."""
    return PinnedFile(name, hashlib.sha256(data).hexdigest(), len(data))


def tar_gz(members: Mapping[str, bytes]) -> bytes:
    """An archive of these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), 1, mtime=0)
