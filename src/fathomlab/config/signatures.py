"""Signatures of users' classes and functions as options: what an experiment file can set, with types and defaults."""

import inspect
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass, make_dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from fathomlab.base.errors import Issue, format_value
from fathomlab.base.options import INVALID, option_types, parse, to_dict

OPTION_TYPES = (bool, int, float, str, type(None))


class UnusableError(ValueError):
    """Why an object of a plugin cannot be a component. It is reported when an experiment names the object."""


def make_component(origin: Any, options: list[Any], base: type, facts: Mapping[str, Any]) -> type:
    """A frozen dataclass with these options that stands for an object of a plugin."""
    namespace = {**facts, "__doc__": origin.__doc__ or "", "__module__": origin.__module__}
    return make_dataclass(origin.__name__, options, bases=(base,), namespace=namespace, frozen=True)


def check_dataclass(component: type) -> type:
    """A frozen dataclass whose fields can be options, as it is."""
    name = component.__name__
    if not is_dataclass(component) or not getattr(component, "__dataclass_params__").frozen:  # noqa: B009
        raise UnusableError(f"{name} must be a frozen dataclass: @dataclass(frozen=True)")
    try:
        hints = option_types(component)
    except (NameError, TypeError) as error:
        raise UnusableError(f"{name}: {error}") from None
    for option, hint in hints.items():
        check_type(name, option, hint)
    return component


def parameters_of(origin: Any) -> list[inspect.Parameter]:
    """Return the parameters of a function, or of the `__init__` of a class, in order."""
    if isinstance(origin, type):
        return list(inspect.signature(origin.__init__).parameters.values())[1:]
    return list(inspect.signature(origin).parameters.values())


def options_of(origin: Any, parameters: Iterable[inspect.Parameter], base: type) -> list[Any]:
    """The fields of a component for parameters of a function or class.

    Raises:
        UnusableError: If a parameter has no type, an unsupported type, or a default of another type.
    """
    name, function = origin.__name__, origin.__init__ if isinstance(origin, type) else origin
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise UnusableError(f"{name}: {error}") from None
    fields: list[Any] = []
    for parameter in parameters:
        option = parameter.name
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY or option not in hints:
            raise UnusableError(f"{name}: the parameter {option} needs a type, such as {option}: int")
        if option in (*dir(base), *base.__annotations__):
            raise UnusableError(f"{name}: the parameter {option} has a reserved name; rename it")
        check_type(name, option, hints[option])
        if parameter.default is parameter.empty:
            fields.append((option, hints[option]))
            continue
        problems: list[Issue] = []
        default = parse(hints[option], to_dict(parameter.default), option, problems)
        if default is INVALID:
            raise UnusableError(f"{name}: the default of {'; '.join(map(str, problems))}")
        fields.append((option, hints[option], default))
    required = [each for each in fields if len(each) == 2]
    return [*required, *(each for each in fields if len(each) == 3)]


def check_type(name: str, option: str, hint: Any) -> None:
    """Refuse types of options that no experiment file can contain, or that cannot be compared."""
    if get_origin(hint) in (Annotated, tuple, Union, types.UnionType):
        inner = get_args(hint)[:1] if get_origin(hint) is Annotated else get_args(hint)
        for each in inner:
            if each is not Ellipsis:
                check_type(name, option, each)
    elif hint not in OPTION_TYPES and get_origin(hint) is not Literal:
        supported = "bool, int, float, str, Literal[...], tuple[T, ...], or T | None"
        raise UnusableError(f"{name}: the type of {option} must be {supported}, got {format_value(hint)}")
