"""The data folder: FATHOMLAB_DATA or the user's data folder, and which files of a dataset it contains."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_data_dir

from fathomlab.base.errors import UserError
from fathomlab.data.archive import extract
from fathomlab.data.checksums import SUMS, VerifiedFile, read_verified, sha256_of, trusted_checksums
from fathomlab.data.download import DownloadError, download_files, is_offline, manual_steps
from fathomlab.data.table import DatasetInfo, FileLayout, PinnedFile

_COPY = re.compile(r"\s*(\(\d+\)|- copy)(?=\.|$)")
_IDX = re.compile(r"[ ._-]idx([13])[ ._-]ubyte")


@dataclass(frozen=True)
class LocatedFile:
    """A needed file of a dataset.

    Attributes:
        spellings: The accepted files (compressed or not).
        path: Where it is; None if it is missing.
        published: The spelling that `path` has.
    """

    spellings: tuple[PinnedFile, ...]
    path: Path | None
    published: PinnedFile


@dataclass(frozen=True)
class VerifiedFiles:
    """The verified files of a dataset, in the order of its layout.

    Attributes:
        files: The files.
        checksums: SHA-256 of each file, by its published name.
        modified: Published names of the files that differ from the published ones.
        notes: Sentences for provenance and report.
    """

    files: tuple[VerifiedFile, ...]
    checksums: dict[str, str]
    modified: tuple[str, ...]
    notes: tuple[str, ...]


def data_dir(folder: Path | None = None) -> Path:
    """Return `folder`, or FATHOMLAB_DATA, or the user's data folder.

    Raises:
        UserError: If FATHOMLAB_DATA starts with `~` and a user that does not exist.
    """
    if folder is not None:
        return folder
    text = os.environ.get("FATHOMLAB_DATA", "")
    try:
        return Path(text).expanduser() if text else Path(user_data_dir("fathomlab"))
    except RuntimeError:
        raise UserError("no-such-folder", f"FATHOMLAB_DATA: no home directory for {text!r}. Use a full path.") from None


def published_name(name: str) -> str:
    r"""Return the published spelling of a file name, whatever an operating system or a browser has done to it.

    Undoes upper case, `.idx3-ubyte` instead of `-idx3-ubyte`, copy suffixes such as ` (1)`, and Windows folders that
    became part of the name. The result is only a hint: contents decide what a file is.

    Example:
        >>> published_name("Train-Images.IDX3-ubyte (1).gz"), published_name(r"raw\test_batch - Copy.bin")
        ('train-images-idx3-ubyte.gz', 'test_batch.bin')
    """
    plain = name.rsplit("\\", 1)[-1].lower()
    while (shorter := _COPY.sub("", plain)) != plain:
        plain = shorter
    return _IDX.sub(r"-idx\1-ubyte", plain).strip()


def locate(layout: FileLayout, root: Path) -> list[LocatedFile]:
    """Return each needed file in the first accepted folder and spelling in which it exists.

    Exact names are preferred. Names that differ as `published_name` allows are accepted, too.
    """
    folders = [root / folder for folder in layout.folders]
    renamed = [list(_renamed_files(folder)) for folder in folders]
    located: list[LocatedFile] = []
    for spellings in layout.files:
        candidates = [(folder / file.name, file) for folder in folders for file in spellings]
        candidates += [
            (path, file) for listing in renamed for file in spellings for name, path in listing if name == file.name
        ]
        path, file = next(((path, file) for path, file in candidates if path.is_file()), (None, spellings[0]))
        located.append(LocatedFile(spellings, path, file))
    return located


def file_state(located: LocatedFile, root: Path) -> str:
    """Return the state of a file: `official`, `unofficial`, `corrupted` or `missing`."""
    if located.path is None:
        return "missing"
    try:
        sha256 = sha256_of(located.path, root)
    except OSError:
        return "corrupted"
    if sha256 == located.published.sha256:
        return "official"
    return "unofficial" if sha256 in trusted_checksums(located.path, root) else "corrupted"


def missing_files(layout: FileLayout, root: Path) -> tuple[str, ...]:
    """Return the names of the files that are missing or corrupted."""
    return tuple(
        located.spellings[0].name
        for located in locate(layout, root)
        if file_state(located, root) in ("missing", "corrupted")
    )


def read_files(info: DatasetInfo, layout: FileLayout, folder: Path | None) -> VerifiedFiles:
    """Read all files of a dataset. Missing files are downloaded first.

    Raises:
        UserError: If a file is not the published one, or files are missing and cannot be downloaded. The message
            contains the manual steps.
    """
    root = data_dir(folder)
    if any(located.path is None for located in locate(layout, root)):
        ensure_downloaded(info, layout, root)
    files = {
        located.published.name: read_verified(located.path, located.published, root, info.name)
        for located in locate(layout, root)
        if located.path is not None
    }
    modified = tuple(name for name, file in files.items() if not file.matches_published)
    notes = layout.notes
    if modified:
        text = f"the SHA-256 is listed in a {SUMS}, but is not the published one."
        notes += (f"{info.title}: unofficial copy of {', '.join(modified)}: {text}",)
    return VerifiedFiles(tuple(files.values()), {name: file.sha256 for name, file in files.items()}, modified, notes)


def ensure_downloaded(info: DatasetInfo, layout: FileLayout, root: Path) -> Path:
    """Download what is missing or corrupted. Archives in the data folder are used first.

    Returns:
        The folder that contains the files.

    Raises:
        UserError: If no mirror returned the right bytes, or FATHOMLAB_OFFLINE is set. The message contains the manual
            steps.
    """
    target = root / layout.folders[0]
    if not missing_files(layout, root):
        return target
    causes: list[str] = []
    try:
        causes += _unpack_archives(layout, root, target)
        if not missing_files(layout, root):
            return target
        if is_offline():
            raise DownloadError(["download skipped because FATHOMLAB_OFFLINE is set"])
        download_files(layout.remotes, target, lambda: set(missing_files(layout, root)))
    except (DownloadError, OSError) as error:
        causes += error.causes if isinstance(error, DownloadError) else [f"{target}: {error}"]
        missing = set(missing_files(layout, root))
        raise UserError("download-failed", manual_steps(info, layout, root, missing, causes)) from None
    return target


def _renamed_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Published spelling and path of each file whose name is spelled differently."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        if published_name(name) != name:
            yield published_name(name), folder / name


def _unpack_archives(layout: FileLayout, root: Path, target: Path) -> list[str]:
    """Unpack the archives in the data folder; return a line for each that is not the published one."""
    mismatches: list[str] = []
    for remote in layout.remotes:
        for archive in (root / remote.file.name, target / remote.file.name):
            if not remote.members or not archive.is_file():
                continue
            actual = sha256_of(archive, root)
            if actual == remote.file.sha256:
                extract(archive, remote.members, target)
            else:
                mismatches.append(
                    f"{archive}: not the published archive: SHA-256 {actual}, expected {remote.file.sha256}"
                )
    return mismatches
