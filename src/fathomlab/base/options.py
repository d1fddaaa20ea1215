"""Strict option parsing: plain values from a file become frozen dataclasses. All problems are reported together.

Components and sections of the experiment file are frozen dataclasses. Their fields are the options. A field may be bool, int,
float, str, `Literal`, `tuple[T, ...]`, `dict[str, T]`, another such dataclass, a union, or `Annotated[T, Interval(...)]`.
"""

import dataclasses
import json
import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from annotated_types import Interval

from fathomlab.base.errors import Issue, did_you_mean, format_value, too_large, unknown_key

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails

PositiveInt = Annotated[int, Interval(ge=1)]
PositiveFloat = Annotated[float, Interval(gt=0)]
NonNegativeFloat = Annotated[float, Interval(ge=0)]
Fraction = Annotated[float, Interval(ge=0, lt=1)]
INVALID = object()
EXPONENT = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+")
MAX_INTEGER = 2**53  # above it, a JSON reader that uses doubles would change the number
BOUNDS = {"greater_than_equal": ">=", "greater_than": ">", "less_than_equal": "<=", "less_than": "<"}
EXPECTED = {
    "bool_type": "true or false",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "string_type": "a string",
    "tuple_type": "a list, such as [a, b]",
    "dict_type": "a mapping",
    "dataclass_type": "a mapping",
}


class Ambiguous(str):
    """A scalar that YAML 1.1 and 1.2 read differently (`no`, `010`, `12:30`). Options reject it."""

    __slots__ = ("remedy",)
    remedy: str

    def __new__(cls, text: str, remedy: str) -> "Ambiguous":
        """Store `text` as written, and the unambiguous spelling."""
        scalar = super().__new__(cls, text)
        scalar.remedy = remedy
        return scalar

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        """Arguments of a copy."""
        return str(self), self.remedy


def parse(hint: Any, value: Any, path: str, problems: list[Issue]) -> Any:
    """Convert a plain value to a type.

    Lists become tuples, and null becomes an empty section. Integers and `1e-3` (a string in YAML 1.1) become floats if the
    type is a float. Nothing else is converted.

    Args:
        hint: The type, such as a frozen dataclass.
        value: Content of a file.
        path: Dotted key of the value.
        problems: Receives every problem.

    Returns:
        The value of this type, or `INVALID` if a problem was added.
    """
    issues: list[Issue] = []
    plain = _sanitize(value, path, issues)
    result, errors = _validate(hint, plain)
    for error in errors:
        converted = _convert(error.kind, error.value)
        plain = plain if converted is INVALID else _set_entry(plain, error.keys, converted)
    if errors:
        result, errors = _validate(hint, plain)
    unreadable = {issue.path for issue in issues}
    unknown = [error.keys[:-1] for error in errors if error.kind == "unexpected_keyword_argument"]
    for error in errors:
        misspelled = error.kind.startswith("missing") and error.keys[:-1] in unknown
        issues += [] if misspelled else [issue for issue in _issues(error, path) if issue.path not in unreadable]
    problems += issues
    return INVALID if issues else result


@dataclass(frozen=True)
class Later:
    """Marks an option that was added after trials had been stored: `Annotated[bool, Later()] = False`.

    At its default it is not part of a trial's content, so that the new option changes the identity of no trial.
    """


def option_values(component: Any) -> dict[str, Any]:
    """Return the options of a component by name, as they are."""
    return {field.name: getattr(component, field.name) for field in dataclasses.fields(component)}


def to_dict(value: Any) -> Any:
    """Convert the options of a component, including defaults, to plain JSON values. This is the inverse of `parse`.

    Options that are marked `Later` are left out at their default.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        options = option_values(value)
        later = _later_defaults(type(value))
        return {name: to_dict(item) for name, item in options.items() if name not in later or item != later[name]}
    if isinstance(value, tuple | list):
        return [to_dict(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): to_dict(item) for key, item in value.items()}
    return value


def json_schema(hint: Any) -> dict[str, Any]:
    """The JSON Schema of a type. Imports pydantic."""
    return _adapter(hint).json_schema()


@cache
def option_types(section: type) -> dict[str, Any]:
    """Return the options of a dataclass by name, with their types and bounds."""
    types_by_name = typing.get_type_hints(section, include_extras=True)
    return {field.name: types_by_name[field.name] for field in dataclasses.fields(section)}


@cache
def _later_defaults(section: type) -> dict[str, Any]:
    """Return the options of a dataclass that are marked `Later`, with their defaults."""
    marked = {name for name, hint in option_types(section).items() if Later() in getattr(hint, "__metadata__", ())}
    return {field.name: field.default for field in dataclasses.fields(section) if field.name in marked}


@cache
def _adapter(hint: Any) -> "TypeAdapter[Any]":
    """Return the validator of a type. Dataclasses forbid unknown keys and call their `validate` method."""
    from pydantic import ConfigDict, TypeAdapter
    from pydantic_core import PydanticCustomError, core_schema

    def check_rules(section: Any) -> Any:
        if issues := section.validate():
            raise PydanticCustomError("rules", "", {"issues": issues})
        return section

    def schema(cls: type, source: Any, handler: Any) -> Any:
        return core_schema.no_info_after_validator_function(check_rules, handler(source))

    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    for section in _sections(hint):
        setattr(section, "__pydantic_config__", config)  # noqa: B010
        if hasattr(section, "validate"):
            setattr(section, "__get_pydantic_core_schema__", classmethod(schema))  # noqa: B010
    return TypeAdapter(hint, config=None if dataclasses.is_dataclass(hint) else config)


def _sections(hint: Any) -> list[type]:
    """Return the dataclasses that a type consists of."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return [hint, *(section for inner in option_types(hint).values() for section in _sections(inner))]
    return [section for argument in get_args(hint) for section in _sections(argument)]


def _sanitize(value: Any, path: str, problems: list[Issue]) -> Any:
    """Copy a value as JSON data. Ambiguous, inexact, and non-plain values are reported and replaced by None."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                problems.append(Issue("invalid-key", path, f"keys must be strings, got {format_value(key)}"))
        return {str(key): _sanitize(item, _join(path, key), problems) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_sanitize(item, f"{path}[{index}]", problems) for index, item in enumerate(value)]
    if isinstance(value, Ambiguous):
        text = value if len(value) <= 60 else value[:57] + "..."
        problems.append(Issue("ambiguous-value", path, f"ambiguous YAML value `{text}`: write {value.remedy}"))
    elif isinstance(value, int) and abs(value) >= MAX_INTEGER:
        problems.append(
            Issue("out-of-range", path, too_large(value) or f"must be below 2^53, got {format_value(value)}")
        )
    elif isinstance(value, float) and not math.isfinite(value):
        problems.append(Issue("out-of-range", path, f"must be finite, got {format_value(value)}"))
    elif not isinstance(value, str | int | float | None):
        problems.append(Issue("wrong-type", path, f"must be a plain, finite value, got {format_value(value)}"))
    else:
        return value
    return None


@dataclass(frozen=True)
class _Error:
    """An error of pydantic: its kind, the keys and indices that lead to the value, and the type and value."""

    kind: str
    keys: list[int | str]
    hint: Any
    value: Any
    context: Mapping[str, Any]
    section: Any  # the type that contains it


def _validate(hint: Any, plain: Any) -> tuple[Any, list[_Error]]:
    """Return the value of a type, or `INVALID` and the errors."""
    from pydantic import ValidationError

    try:
        return _adapter(hint).validate_json(json.dumps(plain), strict=True), []
    except ValidationError as failure:
        located = [_locate(hint, plain, error) for error in failure.errors(include_url=False)]
    return INVALID, [error for error in located if error is not None]


def _locate(hint: Any, value: Any, error: "ErrorDetails") -> _Error | None:
    """Follow an error to its type. Return None if it belongs to a branch of a union that the value does not select."""
    keys: list[int | str] = []
    section = branch = _union_branch(hint, value)
    for step in error["loc"]:
        section, is_section = branch, dataclasses.is_dataclass(branch)
        is_dict = get_origin(branch) is dict and isinstance(value, dict) and step in value
        if isinstance(step, str) and not is_section and not is_dict:  # the name of a branch
            if step.startswith("tuple") != (get_origin(branch) is tuple):
                return None
            continue
        keys.append(step)
        hint = option_types(branch).get(str(step), Any) if is_section else get_args(branch)[1 if is_dict else 0]
        value = value.get(step) if isinstance(value, dict) else value[step]
        branch = _union_branch(hint, value)
    return _Error(error["type"], keys, hint, value, error.get("ctx", {}), section)


def _union_branch(hint: Any, value: Any) -> Any:
    """Return the type without bounds and None. In a union, select the branch for a list or for a single value."""
    while get_origin(hint) in (Annotated, Union, types.UnionType):
        choices = [choice for choice in get_args(hint) if choice is not type(None)]
        matching = [choice for choice in choices if (get_origin(choice) is tuple) == isinstance(value, list)]
        hint = choices[0] if get_origin(hint) is Annotated or not matching else matching[0]
    return hint


def _convert(kind: str, value: Any) -> Any:
    """Convert an exponent to a number and null to an empty section, if these are expected."""
    if kind == "float_type" and isinstance(value, str) and EXPONENT.fullmatch(value):
        return float(value)
    return {} if kind == "dataclass_type" and value is None else INVALID


def _set_entry(plain: Any, keys: list[int | str], value: Any) -> Any:
    """Replace an entry of nested plain data."""
    if not keys:
        return value
    inner = plain
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return plain


def _issues(error: _Error, path: str) -> list[Issue]:
    """Convert an error to issues below `path`."""
    for key in error.keys:
        path = f"{path}[{key}]" if isinstance(key, int) else _join(path, key)
    if error.kind == "rules":
        return [replace(issue, path=_join(path, issue.path)) for issue in error.context["issues"]]
    if error.kind.startswith("missing"):
        return [Issue("missing-key", path.rpartition(".")[0], f"missing key '{error.keys[-1]}'")]
    if error.kind == "unexpected_keyword_argument":
        return [Issue("unknown-key", path, unknown_key(error.keys[-1], tuple(option_types(error.section))))]
    got = f"got {format_value(error.value)}"
    if error.kind == "literal_error":
        names = [str(name) for name in get_args(_union_branch(error.hint, error.value))]
        suggestion = did_you_mean(error.value, names) if isinstance(error.value, str) else ""
        listed = ", ".join(names + ["null"] * (_validate(error.hint, None)[0] is None))
        return [Issue("unknown-name", path, f"must be one of {listed}, {got}{suggestion and '.' + suggestion}")]
    if error.kind == "finite_number":
        return [Issue("out-of-range", path, f"must be finite, {got}")]
    if error.kind in BOUNDS:
        bound = next(iter(error.context.values()))
        return [Issue("out-of-range", path, f"must be {BOUNDS[error.kind]} {bound:g}, {got}{_fraction_hint(error)}")]
    return [Issue("wrong-type", path, f"must be {EXPECTED.get(error.kind, 'valid')}, {got}")]


def _fraction_hint(error: _Error) -> str:
    """Suggest a fraction if the value is probably a percentage."""
    for rule in getattr(error.hint, "__metadata__", ()):
        if isinstance(rule, Interval) and 0 in (rule.ge, rule.gt) and 1 in (rule.le, rule.lt) and 1 < error.value < 100:
            return f". Did you mean {error.value / 100:g}?"
    return ""


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)
