"""Named members out of a tar archive, and nothing else: no path of the archive is ever used as a path on disk."""

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
LARGEST_REST = 16 << 20  # of all that is not asked for: other members, headers, padding
MOST_MEMBERS = 100


def extract(archive: Path, members: Sequence[tuple[str, Pin]], folder: Path) -> list[Path]:
    """Write the listed members into `folder` under their own fixed names.

    The archive's hash has been checked before; this holds even where it has not. Members with another name are not
    read. A link, a device, a second member of the same name or a size other than the published one is refused before
    anything is written. Bytes whose hash is not the pinned one come from an archive whose hash was right: they are
    written with a SHA256SUMS, so that they are checked from then on.

    Raises:
        UserError: The archive cannot be read, or is not what was published.
    """
    try:
        contents = _read(archive, dict(members))
    except Exception as error:  # a hostile archive may raise anything
        raise UserError(
            "invalid-data-file", f"{archive}: cannot be read as an archive: {str(error) or type(error).__name__}"
        ) from None
    missing = [name for name, _ in members if name not in contents]
    if missing:
        raise UserError("invalid-data-file", f"{archive}: lacks {', '.join(missing)}; nothing was written.")
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


class _Capped:
    """The inflated bytes of an archive, never more than were published: headers too can be made to be milliards long."""

    def __init__(self, file: gzip.GzipFile, most: int):
        self.file, self.left = file, most

    def read(self, size: int) -> bytes:
        data = self.file.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise tarfile.TarError("it holds more than was published")
        return data


def _read(archive: Path, wanted: dict[str, Pin]) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    most = sum(pin.size for pin in wanted.values()) + LARGEST_REST
    with gzip.open(archive) as file, tarfile.open(fileobj=_Capped(file, most), mode="r|") as tar:  # type: ignore[call-overload]
        for place, member in enumerate(tar):
            if place >= MOST_MEMBERS or member.size > LARGEST_MEMBER:
                raise tarfile.TarError(f"member {place + 1} ({member.size:,} bytes) is beyond what was published")
            pin = wanted.get(member.name)
            if pin is None:
                continue
            if not member.isreg() or member.size != pin.size or member.name in contents:
                raise tarfile.TarError(f"{member.name} is not a plain file of {pin.size:,} bytes, or comes twice")
            file = tar.extractfile(member)
            assert file is not None
            contents[member.name] = file.read(pin.size)
    return contents
