"""What a worker does on its node: it trains jobs in a process that keeps torch loaded, and collects what to send. No Ray."""

import contextlib
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fathomlab.base.errors import UserError
from fathomlab.data.cache import data_dir
from fathomlab.execute.events import Died, Event, Failed, Finished, Idle, Saved, Started, Stopped
from fathomlab.execute.executors.local import Local
from fathomlab.execute.executors.ray.setup import RaySetup
from fathomlab.execute.executors.ray.transfer import DATASETS, Outbox, Update, place
from fathomlab.execute.executors.setting import Setting
from fathomlab.execute.worker import NODE_VARIABLE
from fathomlab.prepare.drift import code_digest
from fathomlab.prepare.jobs import Job
from fathomlab.store.lease_files import is_dead, this_process
from fathomlab.store.lock import file_lock

PREFIX = "fathomlab-ray-"
POLL_SECONDS = 0.2
BATCH_SECONDS = 0.05  # events of this time travel together
LAST = (Idle, Stopped, Died)
CHANGES = (Started, Saved, Finished, Failed, *LAST)  # events after which files have changed


@dataclass(frozen=True)
class Hello:
    """What a worker reports when it is ready.

    Attributes:
        host: Name of the host.
        shared: Whether it sees the store of the coordinator.
        problem: Why it cannot train; `""` if it can.
    """

    host: str
    shared: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Batch:
    """Events of a job, and the files that have changed before the last of them."""

    events: tuple[Event, ...]
    update: Update | None = None


class Trainer:
    """Trains one job at a time."""

    def __init__(self, setup: RaySetup, node: str):
        """Start the process that trains; `node` is the name of the node."""
        self._setup, self._stopped = setup, False
        os.environ.update(setup.variables)
        os.environ[NODE_VARIABLE] = node
        self._scratch = Path(tempfile.gettempdir()) / f"{PREFIX}{setup.run}"
        self._shared = _reads(setup.token, setup.secret)
        _remove_scratch_stores(self._scratch.parent)
        self._owner = self._scratch / "owners" / f"{os.getpid()}.json"
        self._local = self._start()

    def hello(self) -> Hello:
        """Wait until the process that trains is ready."""
        host = platform.node()
        if code_digest() != self._setup.code:
            text = "another version of fathomlab, or changed code. Install the version of this machine there."
            return Hello(host, problem=text)
        try:
            while not any(worker.ready for worker in self._local.workers):
                list(self._local.events(POLL_SECONDS))
        except UserError as error:
            return Hello(host, problem=str(error))
        return Hello(host, self._shared)

    def missing(self, sizes: Mapping[str, int]) -> list[str]:
        """Which of these files the node lacks, of paths in its scratch store and their sizes (bytes)."""
        lacking = [key for key, size in sizes.items() if not _has(self._scratch / key, size)]
        elsewhere = [key for key in lacking if key.startswith(f"{DATASETS}/")]
        if elsewhere and all(_has(data_dir() / key.partition("/")[2], sizes[key]) for key in elsewhere):
            return [key for key in lacking if key not in elsewhere]
        return lacking

    def train(
        self, job: Job, files: Mapping[str, object], trials: list[str], fetch: Callable[[object], bytes]
    ) -> Iterator[Batch]:
        """Train a job; yields what happens, in batches.

        Args:
            job: The job.
            files: Files to place in the scratch store, by path; `fetch` returns their content.
            trials: Trials to train. Their files in the scratch store are replaced.
            fetch: Reads a file from Ray's object store.
        """
        self._place(files, [] if self._shared else trials, fetch)
        outbox = None
        if not self._shared:
            job = replace(job, root=self._scratch, leases=False, expired=())
            outbox = Outbox(self._scratch, trials)
        self._local.submit([job])
        while True:
            events = self._next_events()
            changed = outbox is not None and any(isinstance(event, CHANGES) for event in events)
            yield Batch(tuple(events), outbox.collect() if outbox and changed else None)
            if isinstance(events[-1], LAST):
                return

    def stop(self, signum: int) -> None:
        """Request a checkpoint and the end of the job."""
        self._local.stop(signum)

    def close(self) -> None:
        """End the process that trains. The last worker of a node removes the scratch store."""
        self._local.close()
        self._owner.unlink(missing_ok=True)
        _remove_scratch_stores(self._scratch.parent, self._scratch.name)

    def _start(self) -> Local:
        return Local(Setting(self._setup.root, 1, self._setup.device))

    def _next_events(self) -> list[Event]:
        """At least one event, and those that follow within 50 ms."""
        events: list[Event] = []
        end = 0.0
        while not events or (not isinstance(events[-1], LAST) and time.monotonic() < end):
            try:
                wait = max(0.0, end - time.monotonic()) if events else POLL_SECONDS
                new = [event for _, event in self._local.events(wait)]
            except UserError as error:  # its processes cannot start any more
                new = [Died(str(error), lost=True)]
            end = end if events or not new else time.monotonic() + BATCH_SECONDS
            events += new
        return events

    def _place(self, files: Mapping[str, object], trials: list[str], fetch: Callable[[object], bytes]) -> None:
        """Write files to the scratch store, each once per node."""
        if not files and not trials:
            return
        self._scratch.mkdir(mode=0o700, exist_ok=True)
        self._owner.parent.mkdir(exist_ok=True)
        self._owner.write_bytes(this_process().encode())
        (self._scratch / "trials").mkdir(exist_ok=True)
        for trial in trials:
            shutil.rmtree(self._scratch / "trials" / trial, ignore_errors=True)
        with file_lock(self._scratch / ".placing", lambda: None):
            for key, reference in files.items():
                current = key.split("/")[1] in trials
                if current or not (self._scratch / key).exists():
                    place(self._scratch, {key: fetch(reference)})
        folder = self._scratch / DATASETS
        if any(key.startswith(f"{DATASETS}/") for key in files) and os.environ.get("FATHOMLAB_DATA") != str(folder):
            os.environ["FATHOMLAB_DATA"] = str(folder)
            self._local.close()
            self._local = self._start()


def _has(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _reads(token: Path, secret: str) -> bool:
    try:
        return token.read_text(encoding="ascii") == secret
    except (OSError, ValueError):
        return False


def _remove_scratch_stores(folder: Path, name: str = f"{PREFIX}*") -> None:
    """Remove scratch stores none of whose owners is alive, such as those of killed nodes."""
    for scratch in folder.glob(name):
        with contextlib.suppress(OSError):
            owners = [path.read_text(errors="replace") for path in (scratch / "owners").glob("*.json")]
            if (owners or name == scratch.name) and all(map(is_dead, owners)):
                shutil.rmtree(scratch, ignore_errors=True)
