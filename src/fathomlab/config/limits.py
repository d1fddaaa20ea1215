"""What a document may hold, from a file or from Python: bounds on size and depth, and texts that may be shown anywhere."""

import re
from collections.abc import Mapping
from typing import Any

from fathomlab.base.errors import ConfigError, Issue, format_value, too_large
from fathomlab.base.output import invalid_text_reason

MAX_DEPTH = 40
MAX_VALUES = 5_000
MAX_KEY_LENGTH = 200


def paired(text: str) -> str:
    """Join surrogate pairs, which JSON escapes use for characters beyond 2^16."""
    if not any(0xD800 <= ord(letter) < 0xE000 for letter in text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def invalid_key_reason(key: str) -> str:
    """Why `key` is not a valid dotted key, or `""`."""
    if invalid_text_reason(key) or re.search(r"[\n\t]", key):
        return f"invalid key {key[:60]!a}: must be plain text"
    if len(key) > MAX_KEY_LENGTH or key.count(".") >= MAX_DEPTH:
        return f"key of {len(key):,} characters: the maximum is {MAX_KEY_LENGTH}, with {MAX_DEPTH} parts"
    return ""


def copy_mapping(source: Mapping[Any, Any], name: str) -> dict[str, Any]:
    """Copy a mapping from Python to the dicts and lists that a file would give.

    Raises:
        ConfigError: If it contains what no file can: invalid keys or texts, cycles, great depth, or too many values.
    """
    copier = _Copier(name)
    result = copier.copy(source, "", 0)
    if copier.problems:
        raise ConfigError(name, copier.problems)
    return result


class _Copier:
    """Copies one mapping and counts its values."""

    def __init__(self, name: str):
        self.name = name
        self.problems: list[Issue] = []
        self.values = 0

    def copy(self, value: Any, path: str, depth: int) -> Any:
        self.values += 1
        if depth > MAX_DEPTH:
            raise ConfigError(
                self.name, [Issue("too-deep", "", f"nested deeper than {MAX_DEPTH} levels, or contains itself")]
            )
        if self.values > MAX_VALUES:
            raise ConfigError(self.name, [Issue("too-large", "", f"contains more than {MAX_VALUES:,} keys and values")])
        if isinstance(value, Mapping):
            return {
                key: self.copy(item, f"{path}.{key}" if path else key, depth + 1)
                for key, item in value.items()
                if self.is_key(key, path)
            }
        if isinstance(value, list | tuple):
            return [self.copy(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
        fault = invalid_text_reason(value) if isinstance(value, str) else too_large(value)
        if fault:
            self.problems.append(Issue("invalid-text", path, fault))
        return value

    def is_key(self, key: Any, path: str) -> bool:
        fault = invalid_key_reason(key) if isinstance(key, str) else f"keys must be strings, got {format_value(key)}"
        if fault:
            self.problems.append(Issue("invalid-key", path, fault))
        return not fault
