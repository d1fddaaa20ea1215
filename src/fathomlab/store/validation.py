"""Reads the files of a directory, whatever they contain, and remembers the first problem."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from fathomlab.base.codec import JsonObject, error_location, from_json
from fathomlab.base.files import is_special
from fathomlab.store.checksums import FORMAT, decode_line, document_checksum, line_text, parse_json
from fathomlab.store.records import FileDigest, Number

OLDER_FORMATS = (1, 2)
T = TypeVar("T")


class FolderValidator:
    """The files of one directory, each read at most once. Nothing raises; the first problem is remembered.

    Attributes:
        folder: The directory.
        first_error: The first problem, which begins with the name of the file; None if there is none.
        outdated: Whether a document has an older format.
        newer: Whether a document has a newer format, and may have other values.
        corrupted: Whether a document was read that was not written like this.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.first_error: str | None = None
        self.outdated = self.newer = self.corrupted = False
        self._contents: dict[str, bytes | None] = {}

    def report(self, text: str) -> None:
        """Remember a problem, unless there was one before."""
        self.first_error = self.first_error or text

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None if it is missing, or if it is unreadable or a link, which is a problem."""
        if name not in self._contents:
            self._contents[name] = self._read(name)
        return self._contents[name]

    def _read(self, name: str) -> bytes | None:
        path = self.folder / name
        try:
            if path.is_symlink():
                return self.report(f"{name} is a symbolic link")
            return self.report(f"{name} is not a file") if is_special(path) else path.read_bytes()
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:  # ValueError: a name that no file can have
            return self.report(f"{name} cannot be read ({type(error).__name__})")

    def document(self, name: str, required: bool) -> JsonObject | None:
        """The JSON object in a file, compared with its checksum; None without one."""
        data = self.read(name)
        if data is None:
            return self.report(f"{name} is missing") if required else None
        try:
            document = _parse_object(data.decode())
        except UnicodeDecodeError:
            document = None
        if document is None:
            self.corrupted = True
            return self.report(f"{name} is not valid JSON" if data.strip() else f"{name} is empty")
        version = as_int(document.get("format"))
        if version is not None and version > FORMAT:
            self.newer = True
            self.report(
                f"{name} was written by a newer fathomlab (store format {version}; this version reads format "
                f"{FORMAT}); upgrade fathomlab"
            )
        elif _is_older(document):
            self.outdated = True
            self.report(
                f"{name}: store format {version}; this version reads format {FORMAT}. Run the experiment again; the "
                "older files stay"
            )
        elif version != FORMAT or document.get("seal") != _checksum(document):
            self.corrupted = True
            self.report(f"{name} is corrupted (checksum mismatch)")
        return document

    def value(self, name: str, kind: type[T], required: bool) -> T | None:
        """The typed value in a file; None if there is none, or if the content has another layout."""
        document = self.document(name, required)
        return None if document is None else self.typed(name, kind, document)

    def typed(self, name: str, kind: type[T], document: JsonObject) -> T | None:
        """The typed value of a document of this file; None if its content has another layout, which is a problem."""
        try:
            text = json.dumps(document, allow_nan=False, ensure_ascii=False)
            return from_json(
                kind, text.encode(errors="replace")
            )  # a lone surrogate, which is not a character, becomes "?"
        except (ValueError, RecursionError) as error:
            self.corrupted = self.corrupted or not self.newer
            return self.report(f"{name} has an unexpected value at {error_location(error) or 'its top level'}")

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The records of a log. An incomplete last line is dropped; any other is a problem."""
        return self._decode(name, decode_line)

    def check_lines(self, name: str) -> None:
        """Compare the lines of a log with their checksums, without parsing them."""
        self._decode(name, line_text)

    def _decode(self, name: str, decode: Callable[[str], T | None]) -> list[T]:
        lines = (self.read(name) or b"").decode(errors="replace").split("\n")
        values: list[T] = []
        for number, line in enumerate(lines, start=1):
            value = decode(line)
            if value is not None:
                values.append(value)
            elif line.strip() and number < len(lines):
                self.report(f"{name}, line {number} is corrupted")
        return values

    def check_digests(self, digests: Mapping[str, FileDigest]) -> None:
        """Compare the small files with the hashes in a result. Weights are verified when they are loaded."""
        for name, digest in digests.items():
            if name.endswith((".safetensors", ".bin")):
                continue
            data = self.read(name)
            if data is None:
                self.report(f"{name} is missing")
            elif hashlib.sha256(data).hexdigest() != digest.sha256:
                self.report(f"{name} is corrupted (checksum mismatch)")


def as_number(value: Any) -> Number | None:
    """The finite number, or None."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if is_number else None


def as_int(value: Any) -> int | None:
    """The integer, or None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_older(document: JsonObject) -> bool:
    """Whether a document is intact in an older format, as opposed to corrupted. Format 1 had no checksums."""
    version = as_int(document.get("format"))
    if version not in OLDER_FORMATS:
        return False
    return "seal" not in document if version == 1 else document.get("seal") == _checksum(document)


def _parse_object(text: str) -> JsonObject | None:
    value = parse_json(text)
    return cast(JsonObject, value) if isinstance(value, dict) else None


def _checksum(document: JsonObject) -> str | None:
    """The checksum of a document; None if it contains what is never written (1e999, endless nesting)."""
    try:
        return document_checksum(document)
    except (ValueError, RecursionError):
        return None
