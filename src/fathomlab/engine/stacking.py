"""Joins the components of a pack: options that vary between the trials become tensors."""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from fathomlab.base.packing import varying

T = TypeVar("T")


def stack_components(components: Sequence[T], stack: Callable[[list[Any]], Any]) -> T:
    """Join the components of a pack, which have equal signatures.

    Args:
        components: One per replica.
        stack: Joins the values of an option, for example to a tensor of shape (k, 1).
    """
    joined: Any = copy(components[0])
    for field in fields(joined):
        values = [getattr(component, field.name) for component in components]
        if field.name in varying(type(joined)):
            value = stack(values)
        else:
            value = stack_components(values, stack) if is_dataclass(values[0]) else values[0]
        object.__setattr__(joined, field.name, value)  # the constructor declares numbers, not tensors
    return joined
