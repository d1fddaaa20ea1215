"""Downloads: several mirrors a file, https alone, one process at a time, in place only once the hash is right."""

import contextlib
import fcntl
import hashlib
import os
import socket
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from pathlib import Path
from urllib.parse import urlsplit

from fathomlab.base.files import sync_folder
from fathomlab.data.archive import extract
from fathomlab.data.table import Facts, Layout, Remote

CONNECT_SECONDS = 2.0
STALL_SECONDS = 15.0
CHUNK = 1 << 16


class Refused(Exception):
    """Not downloaded; `causes` has a line for each attempt."""

    def __init__(self, causes: Sequence[str]):
        """Keep the lines."""
        super().__init__("\n".join(causes))
        self.causes = list(causes)


def offline() -> bool:
    """Whether FATHOMLAB_OFFLINE forbids every attempt."""
    return os.environ.get("FATHOMLAB_OFFLINE", "") not in ("", "0")


def download_files(
    remotes: Sequence[Remote],
    folder: Path,
    lacking: Callable[[], Set[str]],
    scheme: str = "https",
    stall_seconds: float = STALL_SECONDS,
) -> None:
    """Fetch what `lacking` names into `folder`, under a lock: of several processes one downloads, the others wait.

    Args:
        remotes: What can be fetched.
        folder: Where the files go.
        lacking: The names that are missing or damaged now; asked again once the lock is held.
        scheme: The only one that a mirror may have, and may redirect to.
        stall_seconds: How long a mirror may be silent.

    Raises:
        Refused: Some file could not be had from any mirror.
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    causes: list[str] = []
    with _locked(folder / ".download.lock"):
        names = lacking()
        needed = [remote for remote in remotes if names & {remote.pin.name, *(pin.name for _, pin in remote.members)}]
        silent = _silent_hosts(url for remote in needed for url in remote.urls)
        for remote in needed:
            try:
                path = _download(remote, folder, scheme, stall_seconds, silent)
            except Refused as refused:
                causes += refused.causes
                continue
            if remote.members:
                extract(path, remote.members, folder)
                path.unlink()
    if causes:
        raise Refused(list(dict.fromkeys(causes)))


def manual_steps(facts: Facts, layout: Layout, root: Path, names: Set[str], causes: Sequence[str]) -> str:
    """The message for missing data: why there is none, which files with which hashes go where, and what needs none."""
    target = root / layout.folders[0]
    lines = [f"{facts.title}: {len(names)} of {len(layout.pieces)} files are missing or damaged in {root}."]
    lines += [f"  {cause}" for cause in causes]
    lines.append("  By hand: fetch with any program, on any machine,")
    for remote in layout.remotes:
        if not names & {remote.pin.name, *(pin.name for _, pin in remote.members)}:
            continue
        lines.append(f"    {target / remote.pin.name}  ({remote.pin.size:,} bytes, SHA-256 {remote.pin.sha256})")
        lines += [f"      from {url}" for url in remote.urls]
    lines.append(
        f"  then run: fathomlab data download {facts.name}" if layout.remotes[0].members else "  and run again."
    )
    lines.append("  Or import what torchvision or Keras has left on a disk: fathomlab data import FOLDER")
    lines.append("  Two data sets need no network: mnist-sample and shapes (data.name: mnist-sample).")
    return "\n".join(lines)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _silent_hosts(urls: Iterable[str]) -> set[str]:
    """Hosts that cannot be reached, all tried at once: without a network the answer comes in two seconds.

    Threads, because resolving a name has no time limit of its own; behind a proxy nothing can be said.
    """
    if urllib.request.getproxies():
        return set()
    reached: set[str] = set()

    def attempt(place: str, host: str, port: int) -> None:
        with contextlib.suppress(OSError), socket.create_connection((host, port), CONNECT_SECONDS):
            reached.add(place)

    parts = {split.netloc: split for split in map(urlsplit, urls)}
    threads = [
        threading.Thread(
            target=attempt,
            args=(place, split.hostname, split.port or (80 if split.scheme == "http" else 443)),
            daemon=True,
        )
        for place, split in parts.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(CONNECT_SECONDS + 0.5)
    return set(parts) - reached


def _download(remote: Remote, folder: Path, scheme: str, stall_seconds: float, silent: Set[str]) -> Path:
    causes: list[str] = []
    part = folder / f".{remote.pin.name}.part"
    for url in remote.urls:
        if urlsplit(url).scheme != scheme:
            causes.append(f"{url}: refused, not {scheme}")
        elif urlsplit(url).netloc in silent:
            causes.append(f"{urlsplit(url).netloc}: no connection")
        else:
            try:
                return _from_mirror(url, remote, part, scheme, stall_seconds)
            except OSError as error:
                causes.append(f"{url}: {_cause(error)}")
    raise Refused(causes)


def _cause(error: OSError) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


def _from_mirror(url: str, remote: Remote, part: Path, scheme: str, stall_seconds: float) -> Path:
    """One mirror: resume the part that is there, else from the start; the file gets its name once its hash is right."""
    resumed = part.exists()
    _transfer(url, part, remote.pin.size, scheme, stall_seconds)
    found = _digests(part)
    if resumed and found[0] != remote.pin.sha256:
        part.unlink()
        _transfer(url, part, remote.pin.size, scheme, stall_seconds)
        found = _digests(part)
    if found[0] != remote.pin.sha256 or (remote.pin.md5 and found[1] != remote.pin.md5):
        size = part.stat().st_size
        part.unlink()
        raise OSError(f"wrong content: SHA-256 {found[0]} ({size:,} bytes), expected {remote.pin.sha256}")
    path = part.with_name(remote.pin.name)
    with open(part, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
    sync_folder(path.parent)
    return path


def _digests(path: Path) -> tuple[str, str]:
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            sha256.update(chunk)
            md5.update(chunk)
    return sha256.hexdigest(), md5.hexdigest()


class _Part:
    """The file that a transfer grows: knows where to resume, and refuses more bytes than were published."""

    def __init__(self, path: Path, size: int, scheme: str, url: str):
        self.file = open(path, "ab")  # noqa: SIM115 - closed by _transfer
        self.size, self.scheme, self.url = size, scheme, url
        self.place = self.shown = self.file.tell()
        if self.place >= size:
            self.file.truncate(0)
            self.place = self.shown = 0

    def check(self, response, *_, **__) -> None:
        """Called for every response before its body is read: no other scheme, and a fresh start where none resumes."""
        if response.is_redirect and urlsplit(response.headers["location"]).scheme not in ("", self.scheme):
            raise OSError(f"refused, redirects to {response.headers['location']}")
        if response.status_code == 200 and self.place:
            self.file.truncate(0)
            self.place = 0

    def write(self, chunk: bytes) -> None:
        """Append, unless that were more than was published."""
        self.place += len(chunk)
        if self.place > self.size:
            self.file.truncate(0)
            raise OSError(f"wrong content: longer than {self.size:,} bytes")
        self.file.write(chunk)
        if self.size > 1 << 24 and self.place - self.shown > self.size // 10:
            self.shown = self.place
            print(f"  {100 * self.place // self.size} % of {self.url}", file=sys.stderr)

    def flush(self) -> None:
        """Nothing: the transfer is flushed when it is closed."""


def _transfer(url: str, path: Path, size: int, scheme: str, stall_seconds: float) -> None:
    from pooch import HTTPDownloader

    print(f"downloading {url} ({size / 1e6:.1f} MB)", file=sys.stderr)
    part = _Part(path, size, scheme, url)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={part.place}-"} if part.place else {})
    fetch = HTTPDownloader(
        chunk_size=CHUNK, timeout=(CONNECT_SECONDS, stall_seconds), headers=headers, hooks={"response": part.check}
    )
    with part.file:
        fetch(url, part, None)
    if path.stat().st_size != size:
        raise OSError(f"wrong length: {path.stat().st_size:,} bytes, expected {size:,}")
