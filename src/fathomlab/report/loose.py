"""Values of records whose shape nobody promised, read without ever raising."""

import math
from typing import Any, cast


def mapping(value: Any) -> dict[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def entries(value: Any) -> list[Any]:
    """The value if it is a sequence, else an empty list."""
    return list(cast(list[Any], value)) if isinstance(value, list | tuple) else []


def number(value: Any) -> float | None:
    """The value if it is a finite number."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if is_number else None


def numbers(value: Any) -> list[float | None]:
    """A list of numbers, None where an entry is none."""
    return [number(entry) for entry in entries(value)]


def at(value: Any, path: str) -> Any:
    """What lies at a dotted path; None where nothing does.

    Example:
        >>> at({"model": {"type": "MLP"}}, "model.type"), at({}, "model.type")
        ('MLP', None)
    """
    for key in path.split("."):
        value = mapping(value).get(key)
    return value
