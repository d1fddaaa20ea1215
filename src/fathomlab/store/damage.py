"""Reads the files of a directory, whatever they contain, and remembers the first corrupted one."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from fathomlab.store.sealed import seal, unsealed_line

NEWEST_FORMAT = 2


class Faults:
    """Reads the files of one directory and remembers the first corrupted one."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.first: str | None = None

    def report(self, text: str) -> None:
        """Remember a problem, unless there was one before."""
        self.first = self.first or text

    def text(self, name: str, errors: str = "strict") -> str | None:
        """The text of a file; None if it is missing or unreadable (which is remembered)."""
        if (self.folder / name).is_symlink():
            return self.report(f"{name} is a symbolic link")
        try:
            return (self.folder / name).read_bytes().decode(errors=errors)
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            self.report(f"{name} cannot be read ({type(error).__name__})")
            return None

    def mapping(self, name: str, required: bool) -> dict[str, Any] | None:
        """The JSON document in a file; None if there is none."""
        text = self.text(name)
        if text is None:
            return self.report(f"{name} is missing") if required else None
        value = parsed(text)
        if not isinstance(value, dict):
            self.report(f"{name} is empty" if not text.strip() else f"{name} is not valid JSON")
            return None
        about = cast(dict[str, Any], value)
        if (as_whole(about.get("format")) or 1) > NEWEST_FORMAT:
            self.report(
                f"{name} was written by a newer fathomlab (store format {about['format']}; this version reads up to "
                f"{NEWEST_FORMAT}); upgrade fathomlab"
            )
        elif _sealed(name, about) and about.get("seal") != hashed(seal, about):
            self.report(f"{name} is corrupted (checksum mismatch)")
        return about

    def lines(self, name: str, sealed: bool) -> list[dict[str, Any]]:
        """The records of a log. An incomplete last line is dropped.

        `sealed`: each line has a checksum, as in all releases except the first.
        """
        texts = (self.text(name, "replace") or "").split("\n")
        found: list[dict[str, Any]] = []
        for place, text in enumerate(texts, start=1):
            value = unsealed_line(text) if sealed else parsed(text)
            if isinstance(value, dict):
                found.append(cast(dict[str, Any], value))
            elif text.strip() and place < len(texts):
                self.report(f"{name}, line {place} is corrupted")
        return found

    def verify(self, files: Mapping[str, Any]) -> None:
        """Compare the small files with the hashes in the result. Weights are verified when they are loaded."""
        for name, about in files.items():
            if name.endswith((".safetensors", ".bin")) or not isinstance(about, dict):
                continue
            path = self.folder / name
            try:
                same = hashlib.sha256(path.read_bytes()).hexdigest() == cast(dict[str, Any], about).get("sha256")
            except OSError:
                self.report(f"{name} is missing")
                continue
            if not same:
                self.report(f"{name} is corrupted (checksum mismatch)")


def parsed(text: str) -> Any:
    """A parsed text, None if it is not JSON. NaN and Infinity, which JSON lacks, become None."""
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None


def as_mapping(value: Any) -> dict[str, Any]:
    """The mapping, or an empty one."""
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """The list, or an empty one."""
    return cast(list[Any], value) if isinstance(value, list) else []


def as_number(value: Any) -> float | None:
    """The finite number, or None."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if number else None


def as_whole(value: Any) -> int | None:
    """The integer, or None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _sealed(name: str, about: Mapping[str, Any]) -> bool:
    """Whether a document must have a checksum, as all have except those of the first release."""
    return "seal" in about or (name != "provenance.json" and (as_whole(about.get("format")) or 1) > 1)


def hashed(hash_of: Callable[[Any], str], value: Any) -> str | None:
    """The hash of a parsed value; None if it contains what is never written (1e999, endless nesting)."""
    try:
        return hash_of(value)
    except (ValueError, RecursionError):
        return None
