"""One component for a pack: options that vary between the trials become tensors."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from fathomlab.base.packing import varying

T = TypeVar("T")


def stacked(components: Sequence[T], column: Callable[[list[Any]], Any]) -> T:
    """Join the components of a pack, which have one signature.

    Args:
        components: One per replica.
        column: Makes one value of an option's values, such as a tensor of shape (k, 1).
    """
    joined: Any = copy(components[0])
    for field in fields(joined):
        values = [getattr(component, field.name) for component in components]
        if field.name in varying(type(joined)):
            value = column(values)
        else:
            value = stacked(values, column) if is_dataclass(values[0]) else values[0]
        object.__setattr__(joined, field.name, value)  # the constructor declares numbers, not tensors
    return joined
