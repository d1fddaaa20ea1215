"""Downloads: several mirrors per file, https only, one process at a time, renamed only after the hash is verified."""

import contextlib
import hashlib
import os
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Sequence, Set
from pathlib import Path
from urllib.parse import urlsplit

from fathomlab.base.files import sync_folder
from fathomlab.data.archive import extract
from fathomlab.data.table import Facts, Layout, Remote

CONNECT_SECONDS = 2.0
STALL_SECONDS = 15.0
CHUNK = 1 << 16
CHUNK_SECONDS = 60.0  # a mirror that takes longer per chunk is given up


class Refused(Exception):
    """A download failed; `causes` has a line per attempt."""

    def __init__(self, causes: Sequence[str]):
        """Store the lines."""
        super().__init__("\n".join(causes))
        self.causes = list(causes)


def offline() -> bool:
    """Return whether FATHOMLAB_OFFLINE disables downloads."""
    return os.environ.get("FATHOMLAB_OFFLINE", "") not in ("", "0")


def download_files(
    remotes: Sequence[Remote],
    folder: Path,
    lacking: Callable[[], Set[str]],
    scheme: str = "https",
    stall_seconds: float = STALL_SECONDS,
) -> None:
    """Download the files that `lacking` names into `folder`. One process downloads, others wait for it.

    Args:
        remotes: The files that can be downloaded.
        folder: The target folder.
        lacking: Returns the names of missing or corrupted files; called while the lock is held.
        scheme: The only scheme that a mirror may have or redirect to.
        stall_seconds: Timeout (s) of a single read.

    Raises:
        Refused: If no mirror returned a file.
        OSError: If the folder cannot be written.
    """
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    causes: list[str] = []
    with FileLock(folder / ".download.lock"):  # released by the operating system if the process is killed
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
    """Return the message for missing files: causes, the files to install with hashes, and the alternatives."""
    target = root / layout.folders[0]
    lines = [f"{facts.title}: {len(names)} of {len(layout.pieces)} files are missing or corrupted in {root}."]
    lines += [f"  {cause}" for cause in causes]
    lines.append(f"  To install manually, download these files and run: fathomlab data download {facts.name}")
    for remote in layout.remotes:
        if not names & {remote.pin.name, *(pin.name for _, pin in remote.members)}:
            continue
        lines.append(f"    {target / remote.pin.name}  ({remote.pin.size:,} bytes, SHA-256 {remote.pin.sha256})")
        lines += [f"      from {url}" for url in remote.urls]
    lines.append("  To import files of torchvision or Keras, run: fathomlab data import FOLDER")
    lines.append("  To work offline, use a built-in dataset: data.name: mnist-sample, or shapes.")
    return "\n".join(lines)


def _silent_hosts(urls: Iterable[str]) -> set[str]:
    """Hosts that cannot be reached, all tried in parallel: without a network this takes two seconds.

    Name resolution has no timeout, so each host has a thread. Behind a proxy, hosts are not tried.
    """
    if urllib.request.getproxies():
        return set()
    reached: set[str] = set()

    def attempt(netloc: str, host: str, port: int) -> None:
        with contextlib.suppress(OSError), socket.create_connection((host, port), CONNECT_SECONDS):
            reached.add(netloc)

    parts = {split.netloc: split for split in map(urlsplit, urls)}
    threads = [
        threading.Thread(
            target=attempt,
            args=(netloc, split.hostname, split.port or (80 if split.scheme == "http" else 443)),
            daemon=True,
        )
        for netloc, split in parts.items()
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
            causes.append(f"{url}: not a {scheme} address")
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
    """Download from one mirror, resuming a partial file; it is renamed after its hash is verified."""
    resumed = part.exists()
    _transfer(url, part, remote.pin.size, scheme, stall_seconds)
    actual = _digests(part)
    if resumed and actual[0] != remote.pin.sha256:
        part.unlink()
        _transfer(url, part, remote.pin.size, scheme, stall_seconds)
        actual = _digests(part)
    if actual[0] != remote.pin.sha256 or (remote.pin.md5 and actual[1] != remote.pin.md5):
        size = part.stat().st_size
        part.unlink()
        raise OSError(f"checksum mismatch: SHA-256 {actual[0]} ({size:,} bytes), expected {remote.pin.sha256}")
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
    """The partial file of a transfer: knows where to resume, and rejects more bytes than were published."""

    def __init__(self, path: Path, size: int, scheme: str, url: str):
        self.file = open(path, "ab")  # noqa: SIM115 - closed by _transfer
        self.size, self.scheme, self.url = size, scheme, url
        self.position = self.shown = self.file.tell()
        if self.position >= size:
            self.file.truncate(0)
            self.position = self.shown = 0

    def check(self, response, *_, **__) -> None:
        """Check a response before its body is read: reject other schemes; restart if the server does not resume."""
        if response.is_redirect and urlsplit(response.headers["location"]).scheme not in ("", self.scheme):
            raise OSError(f"redirect to {response.headers['location']} is not {self.scheme}")
        if response.status_code == 200 and self.position:
            self.file.truncate(0)
            self.position = 0

    def write(self, chunk: bytes) -> None:
        """Append a chunk; reject it if the file becomes longer than the published one."""
        self.position += len(chunk)
        if self.position > self.size:
            self.file.truncate(0)
            raise OSError(f"longer than the published {self.size:,} bytes")
        self.file.write(chunk)
        if self.size > 1 << 24 and self.position - self.shown > self.size // 10:
            self.shown = self.position
            print(f"  {100 * self.position // self.size}% of {self.url}", file=sys.stderr)

    def flush(self) -> None:
        """Do nothing: the file is flushed when it is closed."""


def _transfer(url: str, path: Path, size: int, scheme: str, stall_seconds: float) -> None:
    from pooch import HTTPDownloader

    print(f"downloading {url} ({size / 1e6:.1f} MB)", file=sys.stderr)
    part = _Part(path, size, scheme, url)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={part.position}-"} if part.position else {})
    fetch = HTTPDownloader(
        chunk_size=CHUNK, timeout=(CONNECT_SECONDS, stall_seconds), headers=headers, hooks={"response": part.check}
    )
    with part.file:
        _watch(lambda: fetch(url, part, None), part)
    if path.stat().st_size != size:
        raise OSError(f"wrong length: {path.stat().st_size:,} bytes, expected {size:,}")


def _watch(fetch: Callable[[], object], part: _Part) -> None:
    """Run `fetch`, and give it up if a chunk takes more than CHUNK_SECONDS.

    A read timeout does not stop a mirror that sends single bytes. The thread that is given up ends with its next write.
    """
    errors: list[BaseException] = []

    def run() -> None:
        try:
            fetch()
        except BaseException as error:  # re-raised below
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    position, since = part.position, time.monotonic()
    while thread.is_alive():
        thread.join(0.5)
        if part.position != position:
            position, since = part.position, time.monotonic()
        elif thread.is_alive() and time.monotonic() - since > CHUNK_SECONDS:
            raise OSError(f"too slow: less than {CHUNK:,} bytes in {CHUNK_SECONDS:g} s")
    if errors:
        raise errors.pop()  # the list would be a reference cycle
