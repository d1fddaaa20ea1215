"""What a document may hold, from a file or from Python: bounds on size and depth, and texts that may be shown anywhere."""

import re
from collections.abc import Mapping
from typing import Any

from fathomlab.base.errors import ConfigError, Issue, format_value
from fathomlab.base.options import too_large

DEEPEST = 40
MOST_VALUES = 5_000
LONGEST_KEY = 200


def text_fault(text: str) -> str:
    """Why `text` can be no name, title or value, or `""`: what a terminal, a file or a page should not be given."""
    if any(0xD800 <= ord(letter) < 0xE000 for letter in text):
        return "contains half of a surrogate pair"
    if any((ord(letter) < 32 and letter not in "\n\t") or 127 <= ord(letter) < 160 for letter in text):
        return "contains a control character"
    return ""


def paired(text: str) -> str:
    """`text` with each pair of surrogates, as JSON's escapes write letters beyond 2^16, as the one letter it is."""
    if not any(0xD800 <= ord(letter) < 0xE000 for letter in text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def key_fault(key: str) -> str:
    """Why `key` can be no dotted key, or `""`."""
    if text_fault(key) or re.search(r"[\n\t]", key):
        return f"invalid key {key[:60]!a}: must be plain text"
    if len(key) > LONGEST_KEY or key.count(".") >= DEEPEST:
        return f"key of {len(key):,} characters: the maximum is {LONGEST_KEY}, with {DEEPEST} parts"
    return ""


def printable(name: str) -> str:
    """A file's name as messages and records give it: what is no text is escaped."""
    return "".join(ascii(letter)[1:-1] if text_fault(letter) or letter in "\n\t" else letter for letter in name)


def plain_copy(source: Mapping[Any, Any], name: str) -> dict[str, Any]:
    """A mapping from Python as a file would have given it: dicts and lists of its own, its leaves as they are.

    Raises:
        ConfigError: What no file can hold: keys or texts that are none, cycles or great depth, too many values.
    """
    copier = _Copier(name)
    made = copier.copied(source, "", 0)
    if copier.problems:
        raise ConfigError(name, copier.problems)
    return made


class _Copier:
    """Copies one mapping; counts what it has met."""

    def __init__(self, name: str):
        self.name = name
        self.problems: list[Issue] = []
        self.values = 0

    def copied(self, value: Any, path: str, depth: int) -> Any:
        self.values += 1
        if depth > DEEPEST:
            raise ConfigError(
                self.name, [Issue("too-deep", "", f"nested deeper than {DEEPEST} levels, or contains itself")]
            )
        if self.values > MOST_VALUES:
            raise ConfigError(
                self.name, [Issue("too-large", "", f"contains more than {MOST_VALUES:,} keys and values")]
            )
        if isinstance(value, Mapping):
            return {
                key: self.copied(item, f"{path}.{key}" if path else key, depth + 1)
                for key, item in value.items()
                if self.is_key(key, path)
            }
        if isinstance(value, list | tuple):
            return [self.copied(item, f"{path}[{place}]", depth + 1) for place, item in enumerate(value)]
        fault = text_fault(value) if isinstance(value, str) else too_large(value)
        if fault:
            self.problems.append(Issue("invalid-text", path, fault))
        return value

    def is_key(self, key: Any, path: str) -> bool:
        fault = key_fault(key) if isinstance(key, str) else f"keys must be strings, got {format_value(key)}"
        if fault:
            self.problems.append(Issue("invalid-key", path, fault))
        return not fault
