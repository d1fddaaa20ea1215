"""Pack compatibility of trials, read from the types of their options."""

from collections.abc import Hashable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints


@dataclass(frozen=True)
class Varies:
    """Marks an option that may differ between the trials of a pack: `Annotated[float, Varies()]`.

    Attributes:
        separate: Values that need a separate pack because they change the program, such as a dropout rate of 0.
    """

    separate: tuple[Hashable, ...] = ()


@cache
def varying(component: type) -> dict[str, Varies]:
    """Return the options of a dataclass that may differ between the trials of a pack, with their marks."""
    hints = get_type_hints(component, include_extras=True)
    marks = ((field.name, getattr(hints[field.name], "__metadata__", ())) for field in fields(component))
    return {name: mark for name, metadata in marks for mark in metadata if isinstance(mark, Varies)}


def signature(value: Any) -> Hashable:
    """Return a key that is equal for values that may share a pack: all options except those that vary."""
    if isinstance(value, tuple):
        return tuple(map(signature, value))
    if not is_dataclass(value):
        return value
    marks = varying(type(value))
    options = ((field.name, getattr(value, field.name)) for field in fields(value))
    return (
        type(value),
        *(
            Varies if name in marks and option not in marks[name].separate else signature(option)
            for name, option in options
        ),
    )
