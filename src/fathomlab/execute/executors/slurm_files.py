"""The files of Slurm submissions in the store: which jobs train which trials, and the events of each.

Events travel as files on the shared file system: a job appends lines, the coordinator reads them. `RUNS/slurm/<submission>` holds
`submission.json`, `<n>.events.jsonl` for each element of the job array, and the scripts and logs of submitit.
"""

import contextlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from fathomlab.base.codec import from_json, from_plain, to_plain
from fathomlab.base.files import atomic_write
from fathomlab.base.output import escape_control_chars
from fathomlab.execute.events import Event, Idle, Started, Stopped
from fathomlab.execute.executors.local import LINE_LENGTH, TAIL_LINES
from fathomlab.store.checksums import decode_line, document_checksum, encode_line, nan_to_none, seal

FOLDER = "slurm"
RECORD = "submission.json"
SCRIPTS = "submitit"
Cluster = Literal["slurm", "local"]


@dataclass(frozen=True)
class SubmittedPack:
    """One element of a job array.

    Attributes:
        job: Its number in the queue, such as `4711_3`; a process number without Slurm.
        trials: Hashes of the trials of its pack, in order.
    """

    job: str
    trials: tuple[str, ...]


@dataclass(frozen=True)
class Submission:
    """A job array, as `submission.json` stores it.

    Attributes:
        cluster: `slurm`, or `local` for processes of one machine.
        host: The machine that submitted it; processes are numbered per machine.
        scripts: Folder of submitit's files, relative to the record.
        packs: The elements of the array.
    """

    cluster: Cluster
    host: str
    scripts: str
    packs: tuple[SubmittedPack, ...]


def new_folder(root: Path) -> Path:
    """Create the folder of a submission. Its name starts with the local time, for people."""
    folder = root / FOLDER / f"{datetime.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:8]}"
    (folder / SCRIPTS).mkdir(parents=True)
    return folder


def write_submission(folder: Path, submission: Submission) -> None:
    """Store the record of a submission."""
    atomic_write(folder / RECORD, json.dumps(seal(to_plain(submission)), indent=1) + "\n")


def read_submissions(root: Path) -> Iterator[tuple[Path, Submission]]:
    """The submissions of a store with their folders, the newest first. Unreadable records are skipped: leases protect trials."""
    for path in sorted((root / FOLDER).glob(f"*/{RECORD}"), reverse=True):
        with contextlib.suppress(OSError, ValueError):
            text = path.read_text(encoding="utf-8")
            document: Any = json.loads(text)
            if isinstance(document, dict) and document.get("seal") == document_checksum(document):
                yield path.parent, from_json(Submission, text)


def events_path(folder: Path, index: int) -> Path:
    """The events of element `index` of an array."""
    return folder / f"{index}.events.jsonl"


def last_lines(scripts: Path, job: str) -> str:
    """What a job printed last on standard error: one indented line each, each after a line break."""
    path = scripts / f"{job}_0_log.err"
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_LINES * LINE_LENGTH))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return "".join(f"\n    {escape_control_chars(line)[:LINE_LENGTH]}" for line in lines[-TAIL_LINES:])


@dataclass
class EventLog:
    """Appends the events of one element. Each line is written by opening and closing the file, so that other hosts see it."""

    path: Path

    def begin(self) -> None:
        """End a line that a killed process has left incomplete."""
        with open(self.path, "ab") as file:
            file.write(b"\n")

    def append(self, event: Event) -> None:
        """Add an event."""
        line = encode_line(nan_to_none(to_plain(event)))
        with open(self.path, "a", encoding="utf-8", errors="replace") as file:
            file.write(line)


@dataclass
class EventTail:
    """Reads the events of one element as they appear.

    Attributes:
        last: The last event that ends a job, or None if a process has started it since.
    """

    path: Path
    last: Idle | Stopped | None = None
    _position: int = 0
    _rest: bytes = field(default=b"", repr=False)
    _again: list[Event] = field(default_factory=list[Event], repr=False)

    def read(self) -> list[Event]:
        """The events since the last call. Lines that are incomplete or corrupted are skipped."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._position)
                content = file.read()
        except OSError:  # the file server may come back
            return []
        self._position += len(content)
        *lines, self._rest = (self._rest + content).split(b"\n")
        events = [*self._again, *(event for line in lines if (event := _decode(line)) is not None)]
        self._again = []
        for event in events:
            if isinstance(event, Idle | Stopped):
                self.last = event
            elif isinstance(event, Started):
                self.last = None
        return events

    def skip(self) -> None:
        """Skip what is there, except the start of the pack that trains: what was reported then is not news."""
        started = [event for event in self.read() if isinstance(event, Started)]
        self._again = list(started[-1:])


def _decode(line: bytes) -> Event | None:
    record = decode_line(line.decode("utf-8", "replace"))
    with contextlib.suppress(ValueError):
        return None if record is None else from_plain(Event, record)  # pyright: ignore[reportArgumentType]
    return None
