"""Where the data lies: FATHOMLAB_DATA, else the user's data folder; and which files of a data set are there."""

import os
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_data_dir

from fathomlab.base.problems import UserError
from fathomlab.data.archive import extract
from fathomlab.data.mirrors import Refused, download_files, manual_steps, offline
from fathomlab.data.table import Facts, Layout, Pin
from fathomlab.data.verify import Verified, hash_of, read_verified, unofficial_notes, vouched


@dataclass(frozen=True)
class Located:
    """One needed file of a data set: where it is, in which spelling; `path` is None where it is missing."""

    piece: tuple[Pin, ...]
    path: Path | None
    pin: Pin


def data_folder(folder: Path | None = None) -> Path:
    """`folder`, else FATHOMLAB_DATA, else the user's data folder."""
    if folder is not None:
        return folder
    named = os.environ.get("FATHOMLAB_DATA", "")
    return Path(named).expanduser() if named else Path(user_data_dir("fathomlab"))


def locate(layout: Layout, root: Path) -> list[Located]:
    """Each piece in the first accepted folder and spelling in which it exists."""
    found: list[Located] = []
    for piece in layout.pieces:
        places = ((root / folder / pin.name, pin) for folder in layout.folders for pin in piece)
        path, pin = next(((path, pin) for path, pin in places if path.is_file()), (None, piece[0]))
        found.append(Located(piece, path, pin))
    return found


def usable(located: Located, root: Path) -> str:
    """The state of a file: `official`, `unofficial`, `damaged` or `missing`."""
    if located.path is None:
        return "missing"
    try:
        sha256 = hash_of(located.path, root)
    except OSError:
        return "damaged"
    if sha256 == located.pin.sha256:
        return "official"
    return "unofficial" if sha256 in vouched(located.path, root) else "damaged"


@dataclass(frozen=True)
class Contents:
    """The verified files of a data set, in the order of its pieces, with what provenance says of them."""

    verified: tuple[Verified, ...]
    files: dict[str, str]
    unofficial: tuple[str, ...]
    notes: tuple[str, ...]


def read_files(facts: Facts, layout: Layout, folder: Path | None) -> Contents:
    """All files of a data set, downloaded first where some are missing and there is a network.

    Raises:
        UserError: A file is not the published one; or files are missing and cannot be downloaded, with manual steps.
    """
    root = data_folder(folder)
    if any(located.path is None for located in locate(layout, root)):
        obtain(facts, layout, root)
    verified = tuple(
        read_verified(located.path, located.pin, root, facts.name)
        for located in locate(layout, root)
        if located.path is not None
    )
    unofficial = tuple(file.path.name for file in verified if not file.official)
    return Contents(
        verified,
        {file.path.name: file.sha256 for file in verified},
        unofficial,
        (*layout.notes, *unofficial_notes(facts.title, unofficial)),
    )


def obtain(facts: Facts, layout: Layout, root: Path) -> Path:
    """Download what is missing or damaged; an archive that the user has put into the data folder is used first.

    Returns:
        The folder in which the files are.

    Raises:
        UserError: No mirror gave the right bytes, or fathomlab is offline; the message holds the manual steps.
    """
    target = root / layout.folders[0]

    def lacking() -> set[str]:
        states = ((located, usable(located, root)) for located in locate(layout, root))
        return {located.piece[0].name for located, state in states if state in ("missing", "damaged")}

    damaged: list[str] = []
    try:
        if lacking():
            damaged = _unpack_archives(layout, root, target)
        if lacking():
            if offline():
                raise Refused(["FATHOMLAB_OFFLINE is set: no download was tried."])
            download_files(layout.remotes, target, lacking)
    except Refused as refused:
        raise UserError(
            "download-failed", manual_steps(facts, layout, root, lacking(), [*damaged, *refused.causes])
        ) from None
    except OSError as error:
        raise UserError(
            "download-failed", manual_steps(facts, layout, root, lacking(), [f"{target}: {error}"])
        ) from None
    return target


def _unpack_archives(layout: Layout, root: Path, target: Path) -> list[str]:
    """Unpack the archives that are there; a line for each that is not the published one."""
    damaged: list[str] = []
    for remote in layout.remotes:
        for archive in (root / remote.pin.name, target / remote.pin.name):
            if not remote.members or not archive.is_file():
                continue
            found = hash_of(archive, root)
            if found == remote.pin.sha256:
                extract(archive, remote.members, target)
            else:
                damaged.append(f"{archive}: not the published file: SHA-256 {found}, expected {remote.pin.sha256}")
    return damaged
