"""Downloads by pooch: mirrors in order, https only, pinned hashes, and one process at a time."""

import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence, Set
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from fathomlab.base.files import atomic_write
from fathomlab.data.archive import extract
from fathomlab.data.table import DatasetInfo, FileLayout, RemoteFile

SCHEME = "https"
CONNECT_TIMEOUT = 2.0  # s
READ_TIMEOUT = 15.0  # s without a byte
CHUNK_BYTES = 4096
MIN_BYTES_PER_SECOND = 1024  # a mirror whose average is lower is given up ...
SLOW_AFTER = 60.0  # ... but not in these first seconds
MAX_CAUSE_LENGTH = 400


class DownloadError(Exception):
    """No mirror returned a file; `causes` has a line per attempt."""

    def __init__(self, causes: Iterable[str]):
        """Store each line once."""
        self.causes = list(dict.fromkeys(causes))
        super().__init__("\n".join(self.causes))


def is_offline() -> bool:
    """Return whether FATHOMLAB_OFFLINE disables downloads."""
    return os.environ.get("FATHOMLAB_OFFLINE", "") not in ("", "0")


def download_files(remotes: Sequence[RemoteFile], folder: Path, missing_files: Callable[[], Set[str]]) -> None:
    """Download the files that `missing_files` names into `folder`. One process downloads, others wait for it.

    Files get their names after their hashes are verified. What a killed process leaves is in `.download`; the next
    download deletes it.

    Args:
        remotes: The files that can be downloaded.
        folder: The target folder.
        missing_files: Returns the names of missing or corrupted files; called while the lock is held.

    Raises:
        DownloadError: If no mirror returned a file.
        OSError: If the folder cannot be written.
    """
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / ".download"
    with FileLock(folder / ".download.lock"):  # released by the operating system if the process is killed
        names = missing_files()
        needed = [remote for remote in remotes if names & remote.provides]
        unreachable = _unreachable_hosts(url for remote in needed for url in remote.urls)
        causes: list[str] = []
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            for remote in needed:
                try:
                    path = _from_mirrors(remote, temporary, unreachable)
                except DownloadError as error:
                    causes += error.causes
                    continue
                if remote.members:
                    extract(path, remote.members, folder)
                else:
                    atomic_write(folder / remote.file.name, path.read_bytes())
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    if causes:
        raise DownloadError(causes)


def manual_steps(info: DatasetInfo, layout: FileLayout, root: Path, missing: Set[str], causes: Sequence[str]) -> str:
    """Return the message for missing files: causes, the files to install with hashes, and the alternatives."""
    target = root / layout.folders[0]
    lines = [f"{info.title}: {len(missing)} of {len(layout.files)} files are missing or corrupted in {root}."]
    lines += [f"  {cause}" for cause in causes]
    lines.append(f"  To install manually, download these files and run: fathomlab data download {info.name}")
    for remote in layout.remotes:
        if missing & remote.provides:
            file = remote.file
            lines.append(f"    {target / file.name}  ({file.size:,} bytes, SHA-256 {file.sha256})")
            lines += [f"      from {url}" for url in remote.urls]
    lines.append("  To import files of torchvision or Keras, run: fathomlab data import FOLDER")
    lines.append("  To work offline, use a built-in dataset: data.name: mnist-sample, or shapes.")
    return "\n".join(lines)


def _unreachable_hosts(urls: Iterable[str]) -> set[str]:
    """Hosts that accept no connection, all tried in parallel: without a network this takes two seconds.

    Name resolution has no timeout, so each host has a thread. Behind a proxy, hosts are not tried.
    """
    from urllib.request import getproxies  # takes time to import, and most commands download nothing

    if getproxies():
        return set()
    hosts = {parts.netloc: parts for parts in map(urlsplit, urls)}
    reached: set[str] = set()

    def connect(netloc: str) -> None:
        default_port = 80 if hosts[netloc].scheme == "http" else 443
        address = (hosts[netloc].hostname, hosts[netloc].port or default_port)
        try:
            socket.create_connection(address, CONNECT_TIMEOUT).close()
        except OSError:
            return
        reached.add(netloc)

    threads = [threading.Thread(target=connect, args=(netloc,), daemon=True) for netloc in hosts]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + CONNECT_TIMEOUT
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return set(hosts) - reached


def _from_mirrors(remote: RemoteFile, folder: Path, unreachable: Set[str]) -> Path:
    """Download a file into `folder` from the first mirror that returns it."""
    import pooch

    pooch.get_logger().setLevel("WARNING")  # the line below replaces its messages
    causes: list[str] = []
    for url in remote.urls:
        if urlsplit(url).scheme != SCHEME:
            causes.append(f"{url}: not a {SCHEME} address")
            continue
        if urlsplit(url).netloc in unreachable:
            causes.append(f"{urlsplit(url).netloc}: no connection")
            continue
        print(f"downloading {url} ({remote.file.size / 1e6:.1f} MB)", file=sys.stderr)
        try:
            return Path(
                pooch.retrieve(
                    url, f"sha256:{remote.file.sha256}", remote.file.name, folder, downloader=_downloader(remote)
                )
            )
        except (OSError, ValueError) as error:  # network and disk; pooch raises ValueError for another hash
            text = " ".join(str(error).split()) or type(error).__name__
            causes.append(f"{url}: {text[:MAX_CAUSE_LENGTH]}")
    raise DownloadError(causes)


def _downloader(remote: RemoteFile) -> Callable[..., None]:
    """pooch's downloader with limits on schemes, size, and time."""
    from pooch import HTTPDownloader

    fetch = HTTPDownloader(
        chunk_size=CHUNK_BYTES,
        timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
        headers={"Accept-Encoding": "identity"},
        hooks={"response": _check_redirect},
    )

    def download(url: str, path: str, pooch: object) -> None:
        with open(path, "wb") as file:
            fetch(url, _LimitedFile(file, remote.file.size, url), pooch)

    return download


def _check_redirect(response: Any, *_: object, **__: object) -> None:
    """Reject a redirect to another scheme before it is followed."""
    target = response.headers.get("location", "") if response.is_redirect else ""
    if urlsplit(target).scheme not in ("", SCHEME):
        raise OSError(f"redirect to {target} is not {SCHEME}")


class _LimitedFile:
    """The target of one transfer. Rejects more bytes than were published, and mirrors that are too slow."""

    def __init__(self, file: BinaryIO, size: int, url: str):
        self.file, self.size, self.url = file, size, url
        self.received = self.reported = 0
        self.started = time.monotonic()

    def write(self, chunk: bytes) -> None:
        """Append a chunk. Large files report every tenth."""
        self.received += len(chunk)
        seconds = time.monotonic() - self.started
        if self.received > self.size:
            raise OSError(f"longer than the published {self.size:,} bytes")
        if seconds > SLOW_AFTER and self.received < MIN_BYTES_PER_SECOND * seconds:
            raise OSError(f"too slow: {self.received:,} bytes in {seconds:.0f} s")
        self.file.write(chunk)
        if self.size > 1 << 24 and self.received - self.reported > self.size // 10:
            self.reported = self.received
            print(f"  {100 * self.received // self.size}% of {self.url}", file=sys.stderr)

    def flush(self) -> None:
        """Do nothing: the file is flushed when it is closed."""
