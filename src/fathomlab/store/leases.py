"""Leases: which process trains a trial, where several hosts share a store and locks of the file system may not hold.

A claim is a file `leases/<trial>/<fence>`, which exactly one process can create, and which names a lease. A lease is a file
`leases/packs/<id>.json`, which its owner rewrites every ten seconds. Another process may take over after it has seen a lease
unchanged for 60 s on its own clock, by a claim with the next fence number; clocks of hosts are never compared. Before each write,
the owner reads its claim again, so what it writes after a takeover is refused. Based on fencing tokens (Kleppmann, "How to do
distributed locking", 2016).
"""

import contextlib
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from fathomlab.base.files import atomic_write
from fathomlab.store.lease_files import (
    FOLDER,
    LONGEST_NAME,
    Owner,
    describe,
    is_dead,
    lease_path,
    read_lease,
    this_process,
)

HEARTBEAT_SECONDS = 10.0
EXPIRY_SECONDS = 60.0
NAME = re.compile(r"[0-9a-f]{32}")


class LeaseHeldError(Exception):
    """Another process trains one of the trials.

    Attributes:
        lease: The name of its lease.
        holder: The process and its host, in words.
    """

    def __init__(self, lease: str, holder: str):
        """Held by `holder`."""
        super().__init__(f"held by {holder}")
        self.lease, self.holder = lease, holder


class LeaseLostError(Exception):
    """Another process has taken over a trial, so that this one must not write any more."""


@dataclass(frozen=True)
class Observation:
    """The content of a lease that was unchanged for so long that its owner counts as dead."""

    lease: str
    content: str


class Lease:
    """The right to write the results of some trials. A thread renews it until it is released."""

    def __init__(self, root: Path, trials: Iterable[str], node: str = "", expired: Sequence[Observation] = ()):
        """Claim the trials.

        Args:
            root: The store.
            trials: Hashes of the trials without a result.
            node: The name of the node, for people.
            expired: Leases of processes that count as dead. Their trials are taken over.

        Raises:
            LeaseHeldError: If another process trains one of them. Nothing is claimed then.
            OSError: If the store cannot be written.
        """
        self.id, self._root, self._expired = uuid.uuid4().hex, root, {item.lease: item for item in expired}
        self._path = lease_path(root, self.id)
        self._counter, self._node = 0, node
        self._released = threading.Event()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._token = self._path.with_suffix(".claim")
        self.fences: dict[str, int] = {}
        atomic_write(self._path, self._owner().encode())
        atomic_write(self._token, self.id)
        try:
            for trial in sorted(trials):
                self.fences[trial] = self._claim(trial)
        except BaseException:
            self.release()
            raise
        finally:
            self._token.unlink(missing_ok=True)
        for lease in self._expired:
            lease_path(root, lease).unlink(missing_ok=True)
        threading.Thread(target=self._renew, name="fathomlab-lease", daemon=True).start()

    def __enter__(self) -> Self:
        """Nothing: the claims exist already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the trials."""
        self.release()

    def verify(self, trial: str) -> None:
        """Check that no other process has taken over a trial. Call it before each write.

        Raises:
            LeaseLostError: If one has.
        """
        claim = self._root / FOLDER / trial / str(self.fences[trial])
        try:
            holds = claim.read_text(encoding="ascii") == self.id and self._path.exists()
        except FileNotFoundError:
            holds = False
        if not holds:
            raise LeaseLostError(f"another process has taken over trial {trial[:12]}")

    def release(self) -> None:
        """Give up the trials; the last fence number of each stays until the trial is finished."""
        self._released.set()
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
        for trial in self.fences:
            folder = self._root / FOLDER / trial
            if (self._root / "trials" / trial / "result.json").exists():
                with contextlib.suppress(OSError):
                    (folder / str(self.fences[trial])).unlink(missing_ok=True)
                    folder.rmdir()

    def _claim(self, trial: str) -> int:
        """Create the claim with the next fence number, which is returned."""
        folder = self._root / FOLDER / trial
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            fences = _fences(folder)
            if fences:
                self._check_free(folder / str(fences[-1]))
            fence = fences[-1] + 1 if fences else 1
            try:
                _create(folder / str(fence), self._token)
            except (FileExistsError, FileNotFoundError):  # another process was faster, or removed an empty folder
                continue
            for old in fences:
                (folder / str(old)).unlink(missing_ok=True)
            return fence

    def _check_free(self, claim: Path) -> None:
        """Raise LeaseHeldError if the lease that a claim names may be alive."""
        try:
            lease = _lease_of(claim)
        except FileNotFoundError:
            return
        content = read_lease(self._root, lease)
        if content is None or is_dead(content):
            return
        observed = self._expired.get(lease)
        if observed is None or observed.content != content:
            raise LeaseHeldError(lease, describe(content))

    def _owner(self) -> Owner:
        return replace(this_process(), node=self._node[:LONGEST_NAME], counter=self._counter)

    def _renew(self) -> None:
        while not self._released.wait(HEARTBEAT_SECONDS):
            try:
                for trial in self.fences:
                    self.verify(trial)
                self._counter += 1
                with open(self._path, "r+b") as file:  # in place, so that no host has an old file open or cached
                    file.write(self._owner().encode())
                    file.flush()
                    os.fsync(file.fileno())
            except (LeaseLostError, FileNotFoundError):
                return
            except OSError:  # a file server may come back
                continue


class LeaseWatch:
    """Decides which leases have expired, by the time for which this process has seen them unchanged."""

    def __init__(self, root: Path, clock: Callable[[], float] = time.monotonic):
        """Nothing is seen yet."""
        self._root, self._clock = root, clock
        self._seen: dict[str, tuple[str, float]] = {}

    def look(self, lease: str) -> Observation | None:
        """Read a lease: what was observed if its trials can be taken over, else None."""
        now = self._clock()
        try:
            content = read_lease(self._root, lease)
        except OSError:  # the file server is away, for the owner, too
            self._seen.pop(lease, None)
            return None
        if content is None or is_dead(content):
            return Observation(lease, content or "")
        before, since = self._seen.get(lease, ("", now))
        if content != before:
            self._seen[lease] = content, now
            return None
        return Observation(lease, content) if now - since >= EXPIRY_SECONDS else None


def _fences(folder: Path) -> list[int]:
    return sorted(int(name) for name in os.listdir(folder) if name.isdigit())


def _lease_of(claim: Path) -> str:
    """The lease that a claim names; the claim itself if it was cut off before it named one."""
    name = claim.read_text(encoding="ascii", errors="replace")
    return name if NAME.fullmatch(name) else f"{claim.parent.name}/{claim.name}"


def _create(claim: Path, token: Path) -> None:
    """Create a claim with its content at once; without hard links, the content follows.

    Raises:
        FileExistsError: If another process has created it.
    """
    try:
        os.link(token, claim)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:
        with open(claim, "x", encoding="ascii") as file:
            file.write(token.read_text(encoding="ascii"))
