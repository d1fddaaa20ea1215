"""Reads the files of offline runs of Weights & Biases, with its own protobuf classes."""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HEADER, BLOCK = 7, 32 * 1024


@dataclass
class LoggedRun:
    """An offline run as `wandb sync` would upload it.

    Attributes:
        rows: Step and values, as they were logged.
        exit_code: None if the run was not finished.
    """

    id: str = ""
    project: str = ""
    group: str = ""
    job_type: str = ""
    name: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    rows: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    exit_code: int | None = None


def logged_runs(root: Path) -> list[LoggedRun]:
    """The offline runs of a store, in the order of their names; two folders of one run are two items."""
    files = [path for path in sorted((root / "wandb").glob("offline-run-*/*.wandb"))]
    return sorted(map(read_run, files), key=lambda run: (run.group, run.name))


def read_run(path: Path) -> LoggedRun:
    """One run."""
    from wandb.proto.wandb_internal_pb2 import Record

    run = LoggedRun()
    for data in _records(path.read_bytes()):
        record = Record.FromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            message = record.run
            run.id, run.project, run.group = message.run_id, message.project, message.run_group
            run.job_type, run.name, run.tags = message.job_type, message.display_name, list(message.tags)
            run.config |= {item.key: json.loads(item.value_json) for item in message.config.update}
        elif kind == "history":
            values = {
                item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
            }
            run.rows.append((record.history.step.num, values))
        elif kind == "summary":
            run.summary |= {
                item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.summary.update
            }
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def _records(data: bytes) -> Iterator[bytes]:
    """The records of a LevelDB log behind a header of seven bytes: fragments of checksum, length, kind, and payload."""
    position, parts = HEADER, list[bytes]()
    while position + HEADER <= len(data):
        left = BLOCK - position % BLOCK
        if left < HEADER:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + HEADER])
        if kind == 0:
            position += left
            continue
        parts.append(data[position + HEADER : position + HEADER + length])
        position += HEADER + length
        if kind in (1, 4):  # a record's only or last fragment
            yield b"".join(parts)
            parts = []
