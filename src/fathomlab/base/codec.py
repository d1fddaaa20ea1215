"""Typed values as JSON: on disk, on the way to a worker, and for other programs.

A frozen dataclass is written with its fields by name; tuples become lists. Reading is strict: nothing is converted except
lists to tuples and whole numbers to floats. Keys that a class does not have are ignored, so that newer files can be read.
"""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")
JsonObject = Mapping[str, Any]  # as read from a file, or to be written


@cache
def adapter(kind: Any) -> "TypeAdapter[Any]":
    """The validator and serializer of a type, built once."""
    from pydantic import TypeAdapter  # takes 0.1 s to import, so commands without values skip it

    return TypeAdapter(kind)


def to_plain(value: Any, kind: Any = None) -> Any:
    """The value as dicts, lists, strings, numbers, booleans, and None; `kind` is its declared type if it is a union."""
    return adapter(kind or type(value)).dump_python(value, mode="json")


def to_json(value: Any, kind: Any = None) -> str:
    """The value as JSON text in one line."""
    return adapter(kind or type(value)).dump_json(value).decode()


def from_json(kind: type[T], text: str | bytes) -> T:
    """The value of JSON text.

    Raises:
        ValueError: If the text is not JSON, or not a value of this type.
    """
    return adapter(kind).validate_json(text, strict=True)


def error_location(error: Exception) -> str:
    """The dotted path of the first wrong value; empty if the error is not about a value at a path."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return ""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return ".".join(str(part) for part in first["loc"])


def from_plain(kind: type[T], data: Any) -> T:
    """The value of plain data, as `json.loads` returns it.

    Raises:
        ValueError: If the data is not a value of this type.
    """
    import json

    return from_json(kind, json.dumps(data))
