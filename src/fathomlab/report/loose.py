"""Read values of records with an unknown structure, without raising."""

import math
from typing import Any, cast


def mapping(value: Any) -> dict[str, Any]:
    """The value if it is a mapping, else an empty mapping."""
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def entries(value: Any) -> list[Any]:
    """The value if it is a sequence, else an empty list."""
    return list(cast(list[Any], value)) if isinstance(value, list | tuple) else []


def number(value: Any) -> float | None:
    """The value if it is a finite number."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if is_number else None


def numbers(value: Any) -> list[float | None]:
    """A list of numbers; None for entries that are not finite numbers."""
    return [number(entry) for entry in entries(value)]


def at(value: Any, path: str) -> Any:
    """The value at a dotted path; None if there is none.

    Example:
        >>> at({"model": {"type": "MLP"}}, "model.type"), at({}, "model.type")
        ('MLP', None)
    """
    for key in path.split("."):
        value = mapping(value).get(key)
    return value
