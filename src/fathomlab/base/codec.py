"""Typed values as JSON: on disk, on the way to a worker, and for other programs.

A frozen dataclass is written with its fields by name; tuples become lists. Reading is strict: nothing is converted except
lists to tuples and integers to floats. Unknown keys are ignored, so that files of newer versions can be read.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")
JsonObject = Mapping[str, Any]  # as read from a file, or to be written


@dataclass(frozen=True)
class Encoded:
    """Says how JSON writes and reads a field: `Annotated[Trial, Encoded(write, read)]`.

    Attributes:
        write: The plain data of a value.
        read: The value of plain data. Raises ValueError if there is none.
    """

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> Any:
        """The validator and serializer, as pydantic asks for them."""
        from pydantic_core import core_schema

        serializer = core_schema.plain_serializer_function_ser_schema(self.write)
        return core_schema.no_info_plain_validator_function(self.read, serialization=serializer)


@cache
def adapter(kind: Any) -> "TypeAdapter[Any]":
    """Return the validator and serializer of a type, built once."""
    from pydantic import TypeAdapter  # takes 0.1 s to import, so commands without values skip it

    return TypeAdapter(kind)


def to_plain(value: Any, kind: Any = None) -> Any:
    """Convert a value to dicts, lists, strings, numbers, booleans, and None. Pass the declared type as `kind` for unions."""
    return adapter(kind or type(value)).dump_python(value, mode="json")


def from_json(kind: type[T], text: str | bytes) -> T:
    """Parse JSON text.

    Raises:
        ValueError: If the text is not JSON or not a value of this type.
    """
    return adapter(kind).validate_json(text, strict=True)


def error_location(error: Exception) -> str:
    """Return the dotted path of the first invalid value; empty if the error has no path."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return ""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return ".".join(str(key) for key in first["loc"])


def from_plain(kind: type[T], data: Any) -> T:
    """Parse plain data as returned by `json.loads`.

    Raises:
        ValueError: If the data is not a value of this type.
    """
    return from_json(kind, json.dumps(data))
