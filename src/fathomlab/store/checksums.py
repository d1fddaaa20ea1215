"""Text and bytes with checksums, so that corruption is detected on read. No torch."""

import errno
import hashlib
import itertools
import json
import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from fathomlab.base.codec import JsonObject
from fathomlab.base.errors import UserError
from fathomlab.base.files import atomic_file, is_special, nothing
from fathomlab.base.identity import canonical_json

FORMAT = 3  # of the documents in a store; other formats are not read
CRC_MARKER = ', "crc": "'


class CorruptFileError(UserError):
    """A file is not what was written."""

    def __init__(self, message: str):
        """Describe the file and what is wrong with it."""
        super().__init__("corrupt-file", message)


def encode_line(record: JsonObject) -> str:
    """One line of a log: the JSON of `record`; its last key is the CRC-32 of the text before."""
    text = json.dumps(record, allow_nan=False)
    return f'{text[:-1]}{CRC_MARKER}{zlib.crc32(text.encode()):08x}"}}\n'


def line_text(line: str) -> str | None:
    """The JSON text of a line without its checksum; None if the line is incomplete or corrupted. Nothing is parsed."""
    head, marker, tail = line.rstrip("\n").rpartition(CRC_MARKER)
    text = head + "}"
    return text if marker and tail == f'{zlib.crc32(text.encode()):08x}"}}' else None


def decode_line(line: str) -> dict[str, Any] | None:
    """The record of a line; None if the line is incomplete or corrupted."""
    value = parse_json(line_text(line) or "")
    return cast(dict[str, Any], value) if isinstance(value, dict) else None


def parse_json(text: str) -> Any:
    """The value of a JSON text; None if it is not JSON. NaN and Infinity, which JSON lacks, become None."""
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None


def read_valid_records(path: Path) -> list[dict[str, Any]]:
    """The records of a log up to the first incomplete or corrupted line; none if the file does not exist."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return []
    records: list[dict[str, Any]] = []
    for line in lines:
        record = decode_line(line)
        if record is None:
            break
        records.append(record)
    return records


def document_checksum(document: JsonObject) -> str:
    """SHA-256 of a JSON document without its `seal`, the key that stores this checksum.

    Raises:
        ValueError: If the document contains what JSON cannot represent.
    """
    content = {key: value for key, value in document.items() if key != "seal"}
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def seal(document: JsonObject) -> JsonObject:
    """The document with the format and its checksum. NaN and infinities, which JSON lacks, become None.

    Raises:
        ValueError: If the document contains what JSON cannot represent.
    """
    plain = {"format": FORMAT, **nan_to_none(document)}
    return plain | {"seal": document_checksum(plain)}


def nan_to_none(value: Any) -> Any:
    """`value` with NaN and infinities replaced by None, which JSON can represent."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: nan_to_none(item) for key, item in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        return [nan_to_none(item) for item in cast(Sequence[Any], value)]
    return value


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        OSError: If it cannot be read.
    """
    if is_special(path) and not path.is_symlink():
        raise OSError(errno.EINVAL, "not a file", str(path))
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_checked(
    path: Path, metadata: JsonObject, payload: Iterable[bytes | memoryview], check: Callable[[], None] = nothing
) -> None:
    """Write a payload in pieces, with metadata, atomically (`check` as for `atomic_write`), and verify by reading back.

    The first line is the SHA-256 of everything that follows, the second is `metadata` as JSON, the rest is the payload.

    Raises:
        OSError: If it cannot be written.
        CorruptFileError: If the disk returns different data.
    """
    sha256 = hashlib.sha256()
    with atomic_file(path, check) as file:
        file.write(sha256.hexdigest().encode() + b"\n")  # replaced below
        for piece in itertools.chain([json.dumps(metadata, sort_keys=True).encode() + b"\n"], payload):
            sha256.update(piece)
            file.write(piece)
        digest = sha256.hexdigest()
        file.seek(0)
        file.write(digest.encode())
    with open(path, "rb") as file:
        if file.readline().strip() != digest.encode() or hashlib.file_digest(file, "sha256").hexdigest() != digest:
            raise CorruptFileError(f"{path}: read-back verification failed: the disk returned different data.")


def read_checked(path: Path) -> tuple[JsonObject, bytes]:
    """The metadata and the payload of a file. The hash is checked before anything is parsed.

    Raises:
        CorruptFileError: If the file is missing, truncated, or changed.
    """
    try:
        digest, _, rest = path.read_bytes().partition(b"\n")
    except OSError as error:
        raise CorruptFileError(f"{path}: cannot be read: {error.strerror or error}.") from None
    if digest.decode("ascii", "replace") != hashlib.sha256(rest).hexdigest():
        raise CorruptFileError(f"{path}: corrupted (checksum mismatch).")
    header, _, payload = rest.partition(b"\n")
    try:
        metadata = json.loads(header)
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise CorruptFileError(f"{path}: has no metadata.")
    return cast(JsonObject, metadata), payload
