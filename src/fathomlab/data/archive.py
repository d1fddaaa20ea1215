"""Reads named members of a tar archive, and nothing else. No path in the archive becomes a path on disk."""

import gzip
import hashlib
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from fathomlab.base.errors import UserError
from fathomlab.base.files import atomic_write
from fathomlab.data.checksums import trust_checksums
from fathomlab.data.table import PinnedFile

MAX_MEMBER_BYTES = 256 << 20
MAX_SKIPPED_BYTES = 16 << 20  # other members, headers, and padding
MAX_MEMBERS = 100


def extract(archive: Path, members: Sequence[tuple[str, PinnedFile]], folder: Path) -> None:
    """Write the listed members into `folder` under their published names.

    The caller has verified the hash of the archive, but nothing here relies on it. Other members are not read. A link,
    a device, a duplicate member, or a wrong size is rejected before anything is written. If a member of a published
    archive does not have the pinned hash, its actual hash is added to a SHA256SUMS, so that it is verified from then on.

    Raises:
        UserError: If the archive cannot be read, or differs from what was published.
    """
    contents = read_members(archive, members)
    folder.mkdir(parents=True, exist_ok=True)
    modified: dict[str, str] = {}
    for name, published in members:
        sha256 = hashlib.sha256(contents[name]).hexdigest()
        if sha256 != published.sha256:
            modified[published.name] = sha256
        atomic_write(folder / published.name, contents[name])
    if modified:
        trust_checksums(folder, modified)


def read_members(archive: Path, members: Sequence[tuple[str, PinnedFile]]) -> dict[str, bytes]:
    """Return the bytes of the listed members by name.

    Raises:
        UserError: If the archive cannot be read, or differs from what was published.
    """
    try:
        contents = _read(archive, dict(members))
    except Exception as error:  # a hostile archive may raise anything
        raise UserError(
            "invalid-data-file", f"{archive}: cannot be read as an archive: {str(error) or type(error).__name__}"
        ) from None
    missing = [name for name, _ in members if name not in contents]
    if missing:
        raise UserError("invalid-data-file", f"{archive}: lacks {', '.join(missing)}. Nothing was written.")
    return contents


class _LimitedReader:
    """The decompressed bytes of an archive, never more than were published: headers can claim billions of bytes."""

    def __init__(self, file: gzip.GzipFile, max_bytes: int):
        self.file, self.remaining = file, max_bytes

    def read(self, size: int) -> bytes:
        data = self.file.read(size)
        self.remaining -= len(data)
        if self.remaining < 0:
            raise tarfile.TarError("it contains more bytes than the published archive")
        return data


def _read(archive: Path, members: Mapping[str, PinnedFile]) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    max_bytes = sum(file.size for file in members.values()) + MAX_SKIPPED_BYTES
    with (
        gzip.open(archive) as stream,
        tarfile.open(fileobj=_LimitedReader(stream, max_bytes), mode="r|") as tar,  # type: ignore[call-overload]
    ):
        for index, member in enumerate(tar):
            if index >= MAX_MEMBERS or member.size > MAX_MEMBER_BYTES:
                raise tarfile.TarError(f"member {index + 1} ({member.size:,} bytes) exceeds the published archive")
            published = members.get(member.name)
            if published is None:
                continue
            size = published.size
            if not member.isreg() or member.size != size or member.name in contents:
                raise tarfile.TarError(f"{member.name} is a duplicate, or not a regular file of {size:,} bytes")
            file = tar.extractfile(member)
            assert file is not None
            contents[member.name] = file.read(size)
    return contents
