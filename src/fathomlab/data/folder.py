"""The data folder: FATHOMLAB_DATA or the user's data folder, and which files of a dataset it contains."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_data_dir

from fathomlab.base.problems import UserError
from fathomlab.data.archive import extract
from fathomlab.data.mirrors import Refused, download_files, manual_steps, offline
from fathomlab.data.names import published_name
from fathomlab.data.table import Facts, Layout, Pin
from fathomlab.data.verify import Verified, hash_of, read_verified, unofficial_notes, vouched


@dataclass(frozen=True)
class Located:
    """A needed file of a dataset: its path and spelling; `path` is None if the file is missing."""

    piece: tuple[Pin, ...]
    path: Path | None
    pin: Pin


def data_folder(folder: Path | None = None) -> Path:
    """Return `folder`, or FATHOMLAB_DATA, or the user's data folder.

    Raises:
        UserError: If FATHOMLAB_DATA starts with `~` and a user that does not exist.
    """
    if folder is not None:
        return folder
    named = os.environ.get("FATHOMLAB_DATA", "")
    try:
        return Path(named).expanduser() if named else Path(user_data_dir("fathomlab"))
    except RuntimeError:
        raise UserError(
            "no-such-folder", f"FATHOMLAB_DATA: no home directory for {named!r}. Use a full path."
        ) from None


def locate(layout: Layout, root: Path) -> list[Located]:
    """Return each needed file in the first accepted folder and spelling in which it exists.

    Exact names are preferred. Names that differ as `published_name` allows are accepted, too.
    """
    listings = [list(_listing(root / folder)) for folder in layout.folders]
    located: list[Located] = []
    for piece in layout.pieces:
        exact = ((root / folder / pin.name, pin) for folder in layout.folders for pin in piece)
        similar = ((path, pin) for listing in listings for pin in piece for name, path in listing if name == pin.name)
        candidates = (pair for pairs in (exact, similar) for pair in pairs)
        path, pin = next(((path, pin) for path, pin in candidates if path.is_file()), (None, piece[0]))
        located.append(Located(piece, path, pin))
    return located


def usable(located: Located, root: Path) -> str:
    """Return the state of a file: `official`, `unofficial`, `corrupted` or `missing`."""
    if located.path is None:
        return "missing"
    try:
        sha256 = hash_of(located.path, root)
    except OSError:
        return "corrupted"
    if sha256 == located.pin.sha256:
        return "official"
    return "unofficial" if sha256 in vouched(located.path, root) else "corrupted"


@dataclass(frozen=True)
class Contents:
    """The verified files of a dataset, in the order of its layout.

    Attributes:
        verified: The files.
        files: SHA-256 of each file, by its published name.
        unofficial: Published names of the files that differ from the published ones.
        notes: Sentences for provenance and report.
    """

    verified: tuple[Verified, ...]
    files: dict[str, str]
    unofficial: tuple[str, ...]
    notes: tuple[str, ...]


def read_files(facts: Facts, layout: Layout, folder: Path | None) -> Contents:
    """Read all files of a dataset. Missing files are downloaded first.

    Raises:
        UserError: If a file is not the published one, or files are missing and cannot be downloaded. The message
            contains the manual steps.
    """
    root = data_folder(folder)
    if any(located.path is None for located in locate(layout, root)):
        obtain(facts, layout, root)
    files = [
        (located.pin.name, read_verified(located.path, located.pin, root, facts.name))
        for located in locate(layout, root)
        if located.path is not None
    ]
    unofficial = tuple(name for name, file in files if not file.official)
    return Contents(
        tuple(file for _, file in files),
        {name: file.sha256 for name, file in files},
        unofficial,
        (*layout.notes, *unofficial_notes(facts.title, unofficial)),
    )


def obtain(facts: Facts, layout: Layout, root: Path) -> Path:
    """Download what is missing or corrupted. Archives in the data folder are used first.

    Returns:
        The folder that contains the files.

    Raises:
        UserError: If no mirror returned the right bytes, or FATHOMLAB_OFFLINE is set. The message contains the manual
            steps.
    """
    target = root / layout.folders[0]

    def lacking() -> set[str]:
        states = ((located, usable(located, root)) for located in locate(layout, root))
        return {located.piece[0].name for located, state in states if state in ("missing", "corrupted")}

    corrupted: list[str] = []
    try:
        if lacking():
            corrupted = _unpack_archives(layout, root, target)
        if lacking():
            if offline():
                raise Refused(["download skipped because FATHOMLAB_OFFLINE is set"])
            download_files(layout.remotes, target, lacking)
    except Refused as refused:
        raise UserError(
            "download-failed", manual_steps(facts, layout, root, lacking(), [*corrupted, *refused.causes])
        ) from None
    except OSError as error:
        raise UserError(
            "download-failed", manual_steps(facts, layout, root, lacking(), [f"{target}: {error}"])
        ) from None
    return target


def _listing(folder: Path) -> Iterator[tuple[str, Path]]:
    """Published spelling and path of each file whose name is spelled differently."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        if published_name(name) != name:
            yield published_name(name), folder / name


def _unpack_archives(layout: Layout, root: Path, target: Path) -> list[str]:
    """Unpack the archives in the data folder; return a line for each that is not the published one."""
    corrupted: list[str] = []
    for remote in layout.remotes:
        for archive in (root / remote.pin.name, target / remote.pin.name):
            if not remote.members or not archive.is_file():
                continue
            actual = hash_of(archive, root)
            if actual == remote.pin.sha256:
                extract(archive, remote.members, target)
            else:
                corrupted.append(
                    f"{archive}: not the published archive: SHA-256 {actual}, expected {remote.pin.sha256}"
                )
    return corrupted
