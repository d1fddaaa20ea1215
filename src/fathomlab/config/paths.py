"""Dotted keys in nested data."""

from collections.abc import Mapping
from typing import Any

from fathomlab.base.labels import Levels


def set_path(data: dict[str, Any], path: str, value: Any) -> None:
    """Set a dotted key, creating sections as needed. A value in place of a section is replaced."""
    *sections, last = path.split(".")
    for name in sections:
        inner = data.get(name)
        if not isinstance(inner, dict):
            inner = data[name] = {}
        data = inner
    data[last] = value


def get_path(data: Mapping[str, Any], path: str, default: Any = None) -> Any:
    """The value at a dotted key, or `default`."""
    value: Any = data
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return default
        value = value[name]
    return value


def apply_levels(data: Mapping[str, Any], levels: Levels) -> dict[str, Any]:
    """A copy of an experiment's data with these levels of its factors."""
    copy: dict[str, Any] = dict(data)
    for key, level in levels.items():
        section: dict[str, Any] = copy
        for name in key.split(".")[:-1]:
            inner = section.get(name)
            section[name] = dict(inner) if isinstance(inner, Mapping) else {}
            section = section[name]
        set_path(copy, key, level)
    return copy
