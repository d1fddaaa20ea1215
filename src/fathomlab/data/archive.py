"""Named members out of a tar archive, and nothing else: no path of the archive is ever used as a path on disk."""

import hashlib
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from fathomlab.base.files import atomic_write
from fathomlab.base.problems import UserError
from fathomlab.data.table import Pin
from fathomlab.data.verify import vouch

LARGEST_MEMBER = 256 << 20
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
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise UserError(f"{archive}: cannot be read as an archive: {error}") from None
    missing = [name for name, _ in members if name not in contents]
    if missing:
        raise UserError(f"{archive}: lacks {', '.join(missing)}; nothing was written.")
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


def _read(archive: Path, wanted: dict[str, Pin]) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    with tarfile.open(archive, "r|gz") as tar:
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
