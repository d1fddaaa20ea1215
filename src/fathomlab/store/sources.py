"""Where other people's results are: results directories, ZIP files, and report pages. Archives are unpacked safely. No torch."""

import os
import re
import shutil
import stat
import zipfile
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Literal

from fathomlab.base.errors import UserError, format_value

MAX_DEPTH = 4  # of directories in which results are searched
MAX_MEMBERS = 500_000
MAX_UNPACKED = 16 << 30
MIN_UNPACKED = 256 << 20  # small archives may unpack to this size
MAX_RATIO = 100  # the records of a bundle shrink to about a tenth
CHUNK = 1 << 20
UNSAFE = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|]')  # a path on no system
RECORDS = ("trials", "experiments")  # a results directory has one of these directories
KINDS = {".zip": "archive", ".html": "page", ".htm": "page"}


@dataclass(frozen=True)
class Source:
    """Results of somebody: a results directory, a ZIP file that contains some, or a report page.

    Attributes:
        path: The directory or file.
        kind: What it is.
        label: Its path below the directory that all sources share.
    """

    path: Path
    kind: Literal["store", "archive", "page"]
    label: str


def find_sources(paths: Sequence[Path]) -> list[Source]:
    """The results at these paths. A directory that is not a results directory is searched; links in it are not followed.

    Raises:
        UserError: If a path does not exist or contains no results.
    """
    matches: dict[Path, None] = {}
    for path in paths:
        results = list(_search(path, 0))
        if not results:
            problem = "contains no results" if path.exists() else "no such file or directory"
            remedy = "Name results directories, ZIP files of `fathomlab export bundle`, or directories with some."
            raise UserError("no-such-store", f"{path}: {problem}. {remedy}")
        matches |= dict.fromkeys(results)
    return [
        Source(path, _kind(path) or "store", label) for path, label in zip(matches, _labels(list(matches)), strict=True)
    ]


def _labels(paths: Sequence[Path]) -> list[str]:
    """Each path below the directory that all share; the full path if they share none, as on several drives."""
    absolute = [os.path.abspath(path) for path in paths]
    try:
        shared = os.path.commonpath([os.path.dirname(path) for path in absolute])
    except ValueError:
        shared = ""
    return [Path(os.path.relpath(path, shared) if shared else path).as_posix() for path in absolute]


def _kind(path: Path) -> Literal["store", "archive", "page"] | None:
    """What a path is; None for a directory that is not a results directory, and for other files."""
    if path.is_dir():
        try:
            return "store" if any((path / name).is_dir() for name in RECORDS) else None
        except PermissionError:  # perhaps; `opened` names the problem
            return "store"
    kind = KINDS.get(path.suffix.lower())
    return "archive" if kind == "archive" else "page" if kind == "page" else None


def _search(path: Path, depth: int) -> Iterator[Path]:
    if path.exists() and (_kind(path) is not None or _unreadable(path)):
        yield path
    elif depth < MAX_DEPTH and path.is_dir():
        for inner in sorted(path.iterdir()):
            if not inner.is_symlink() and not inner.name.startswith((".", "__MACOSX")):
                yield from _search(inner, depth + 1)


def _unreadable(path: Path) -> str:
    """Why an existing directory cannot be listed; "" if it can, or if it is none."""
    try:
        if path.is_dir():
            os.listdir(path)
    except OSError as error:
        return error.strerror or str(error)
    return ""


@contextmanager
def opened(source: Source) -> Generator[list[Source]]:
    """The results directories of a source. An archive is unpacked to a temporary directory, which is removed afterwards.

    Raises:
        UserError: If an archive is unsafe or damaged, or contains no results directory, or if a directory cannot be read.
    """
    if source.kind == "store":
        for folder in (source.path, *(source.path / name for name in RECORDS)):
            if reason := _unreadable(folder):
                text = f"{folder}: cannot be read: {reason}. Ask for the hand-in again, or change its permissions."
                raise UserError("unreadable-store", text)
    if source.kind != "archive":
        yield [source]
        return
    with TemporaryDirectory(prefix="fathomlab-unpacked-") as folder:
        root = Path(folder)
        _unpack(source.path, root)
        stores = [path for path in _search(root, 0) if _kind(path) == "store"]
        if not stores:
            raise UserError("no-such-store", f"{source.path}: contains no results directory.")
        single = len(stores) == 1
        yield [
            Source(path, "store", source.label if single else f"{source.label}/{path.relative_to(root).as_posix()}")
            for path in stores
        ]


def _unpack(path: Path, folder: Path) -> None:
    """Write the files of an archive below `folder`, after all names and sizes were checked.

    Raises:
        UserError: If a file would be outside of the folder, is a link, or is too large, or if the archive is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check(members, path, folder)
            for member in members:
                target = folder / member.filename
                if member.is_dir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as reader, open(target, "xb") as writer:
                    _copy(reader, writer, member.file_size)
    except UserError:
        raise
    except Exception as error:  # a hostile archive may raise anything
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError("invalid-archive", f"{path}: cannot be unpacked: {reason}.") from None


def _copy(reader: IO[bytes], writer: IO[bytes], size: int) -> None:
    while data := reader.read(CHUNK):
        size -= len(data)
        if size < 0:
            raise ValueError("a file is larger than it claims")
        writer.write(data)


def _check(members: Sequence[zipfile.ZipInfo], path: Path, folder: Path) -> None:
    problem = next(
        (f"{format_value(item.orig_filename)} {reason}" for item in members if (reason := _unsafe(item))), ""
    )
    names = Counter(item.filename for item in members)
    size, limit = sum(item.file_size for item in members), max(MIN_UNPACKED, MAX_RATIO * path.stat().st_size)
    if not problem and max(names.values(), default=0) > 1:
        problem = f"{format_value(names.most_common(1)[0][0])} is contained twice"
    if not problem and (len(members) > MAX_MEMBERS or size > min(MAX_UNPACKED, limit)):
        problem = f"{len(members):,} files of {size:,} bytes are more than results need"
    if problem:
        raise UserError("unsafe-archive", f"{path}: {problem}. Nothing was unpacked.")
    if size > shutil.disk_usage(folder).free:
        raise UserError("disk-full", f"{folder}: not enough disk space to unpack {path} ({size / 1e6:.0f} MB).")


def _unsafe(member: zipfile.ZipInfo) -> str:
    """Why a member of an archive must not be written; `""` if it may."""
    name, kind = member.orig_filename, stat.S_IFMT(member.external_attr >> 16)
    parts = name.rstrip("/").split("/")
    if UNSAFE.search(name) or any(part in ("", ".", "..") or part.endswith((" ", ".")) for part in parts):
        return "has an unsafe name"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a special file"
    return "is encrypted" if member.flag_bits & 1 else ""
