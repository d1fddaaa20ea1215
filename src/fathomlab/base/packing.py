"""Pack compatibility of trials, read from the types of their options."""

from collections.abc import Hashable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, cast, get_type_hints


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


@cache
def _options(kind: type) -> tuple[tuple[str, Varies | None], ...] | None:
    """The options of a dataclass with their marks; None for another type."""
    if not is_dataclass(kind):
        return None
    marks = varying(kind)
    return tuple((field.name, marks.get(field.name)) for field in fields(kind))


def signature(value: Any) -> Hashable:
    """Return a key that is equal for values that may share a pack: all options except those that vary."""
    if isinstance(value, tuple):
        return tuple([signature(item) for item in cast("tuple[Any, ...]", value)])
    options = _options(type(value))
    if options is None:
        return value
    key: list[Hashable] = [type(value)]
    for name, mark in options:
        option = getattr(value, name)
        key.append(Varies if mark is not None and option not in mark.separate else signature(option))
    return tuple(key)
