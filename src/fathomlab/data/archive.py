"""Reads named members of a tar archive, and nothing else. No path in the archive becomes a path on disk."""

import gzip
import hashlib
import tarfile
from collections.abc import Sequence
from pathlib import Path

from fathomlab.base.files import atomic_write
from fathomlab.base.problems import UserError
from fathomlab.data.table import Pin
from fathomlab.data.verify import vouch

LARGEST_MEMBER = 256 << 20
LARGEST_REST = 16 << 20  # of everything that is skipped: other members, headers, padding
MOST_MEMBERS = 100


def extract(archive: Path, members: Sequence[tuple[str, Pin]], folder: Path) -> list[Path]:
    """Write the listed members into `folder` under their fixed names.

    The caller has verified the hash of the archive, but nothing here relies on it. Other members are not read. A link,
    a device, a duplicate member, or a wrong size is rejected before anything is written. If a member of a published
    archive does not have the pinned hash, its actual hash is added to a SHA256SUMS, so that it is verified from then on.

    Raises:
        UserError: If the archive cannot be read, or differs from what was published.
    """
    contents = read_members(archive, members)
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    others: dict[str, str] = {}
    for name, pin in members:
        digest = hashlib.sha256(contents[name]).hexdigest()
        if digest != pin.sha256:
            others[pin.name] = digest
        atomic_write(folder / pin.name, contents[name])
        written.append(folder / pin.name)
    if others:
        vouch(folder, others)
    return written


def read_members(archive: Path, members: Sequence[tuple[str, Pin]]) -> dict[str, bytes]:
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


class _Capped:
    """The decompressed bytes of an archive, never more than were published: headers can claim billions of bytes."""

    def __init__(self, file: gzip.GzipFile, most: int):
        self.file, self.left = file, most

    def read(self, size: int) -> bytes:
        data = self.file.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise tarfile.TarError("it contains more bytes than the published archive")
        return data


def _read(archive: Path, wanted: dict[str, Pin]) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    most = sum(pin.size for pin in wanted.values()) + LARGEST_REST
    with gzip.open(archive) as file, tarfile.open(fileobj=_Capped(file, most), mode="r|") as tar:  # type: ignore[call-overload]
        for index, member in enumerate(tar):
            if index >= MOST_MEMBERS or member.size > LARGEST_MEMBER:
                raise tarfile.TarError(f"member {index + 1} ({member.size:,} bytes) exceeds the published archive")
            pin = wanted.get(member.name)
            if pin is None:
                continue
            if not member.isreg() or member.size != pin.size or member.name in contents:
                raise tarfile.TarError(f"{member.name} is a duplicate, or not a regular file of {pin.size:,} bytes")
            file = tar.extractfile(member)
            assert file is not None
            contents[member.name] = file.read(pin.size)
    return contents
