"""Strict options: plain values from a file become frozen dataclasses, and all problems are reported together.

A part (model, dataset, optimizer, probe) and a section of the experiment file are the same kind of thing: a frozen
dataclass whose fields are its options. The types it may use: bool, int, float, str, `Literal`, `tuple[T, ...]`,
`dict[str, object]`, another such dataclass, `T | None`, and `Annotated[T, Bound(...)]` or `Annotated[str, OneOf(...)]`.
"""

import dataclasses
import math
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from fathomlab.base.problems import Problem, shown, suggestion


@dataclass(frozen=True)
class Bound:
    """The interval in which a number must lie; None leaves a side open."""

    least: int | float | None = None
    most: int | float | None = None
    above: int | float | None = None
    below: int | float | None = None

    code: ClassVar[str] = "out-of-range"

    def complaint(self, value: int | float) -> str:
        """What is wrong with `value`, or `""`."""
        checks: tuple[tuple[int | float | None, Callable[[int | float], bool], str], ...] = (
            (self.least, lambda limit: value < limit, ">="),
            (self.above, lambda limit: value <= limit, ">"),
            (self.most, lambda limit: value > limit, "<="),
            (self.below, lambda limit: value >= limit, "<"),
        )
        for limit, broken, words in checks:
            if limit is not None and broken(limit):
                return f"must be {words} {limit:g}, got {shown(value)}{self._as_fraction(value)}"
        return ""

    def _as_fraction(self, value: int | float) -> str:
        """The fraction that was probably meant by a percentage."""
        is_fraction = 0 in (self.least, self.above) and 1 in (self.most, self.below)
        return f". Did you mean {value / 100:g}?" if is_fraction and 1 < value < 100 else ""


@dataclass(frozen=True)
class OneOf:
    """A closed list of names for a string option."""

    what: str
    names: tuple[str, ...]

    code: ClassVar[str] = "unknown-name"

    def complaint(self, value: str) -> str:
        """What is wrong with `value`, or `""`."""
        if value in self.names:
            return ""
        near = suggestion(value, self.names)
        return f"unsupported {self.what} {shown(value)}.{near} Supported: {', '.join(self.names)}."


class Ambiguous(str):
    """A scalar that YAML 1.1 and 1.2 read differently (`no`, `010`, `12:30`); never silently either."""

    __slots__ = ("remedy",)
    remedy: str

    def __new__(cls, text: str, remedy: str) -> "Ambiguous":
        """Keep `text` as it was written, and the spelling that is clear."""
        made = super().__new__(cls, text)
        made.remedy = remedy
        return made

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        """What a copy is made of."""
        return str(self), self.remedy


Positive = Annotated[float, Bound(above=0)]
NonNegative = Annotated[float, Bound(least=0)]
Fraction = Annotated[float, Bound(least=0, below=1)]
Count = Annotated[int, Bound(least=1)]
EXPONENT = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+")
MISSING = object()
OK = ("", "")


def check(hint: Any, value: Any, path: str, problems: list[Problem]) -> Any:
    """`value` as the type `hint` says, or `MISSING` after adding to `problems`.

    A list becomes a tuple, a whole number becomes a float where a float is asked for, and `1e-3`, which YAML 1.1 leaves a
    string, becomes a number where the schema asks for one. Nothing else is converted.
    """
    if isinstance(value, Ambiguous):
        problems.append(_ambiguous(value, path))
        return MISSING
    if complaint := too_large(value):
        problems.append(Problem("out-of-range", path, complaint))
        return MISSING
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _check_union(get_args(hint), value, path, problems)
    if origin is tuple:
        return _check_list(get_args(hint)[0], value, path, problems)
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return check_options(hint, value, path, problems)
    if hint in (object, Any) or ((origin is dict or hint is dict) and isinstance(value, Mapping)):
        return value if _is_raw(value, path, problems) else MISSING
    if origin is Annotated:
        base, *rules = get_args(hint)
        value = check(base, value, path, problems)
        skip = value is MISSING or value is None
        code, complaint = next(
            ((rule.code, text) for rule in rules if not skip and (text := rule.complaint(value))), OK
        )
    else:
        value, (code, complaint) = _check_plain(hint, value)
    if complaint:
        problems.append(Problem(code, path, complaint))
        return MISSING
    return value


def check_options(part: type, options: Any, path: str, problems: list[Problem]) -> Any:
    """An instance of the dataclass `part` from a mapping, or `MISSING` after adding all problems to `problems`."""
    if options is None:
        options = {}
    if not isinstance(options, Mapping):
        problems.append(Problem("wrong-type", path, f"must be a mapping, got {shown(options)}"))
        return MISSING
    hints = _hints(part)
    fields = {field.name: field for field in dataclasses.fields(part)}
    before = len(problems)
    values: dict[str, Any] = {}
    for key, value in options.items():
        if key not in fields:
            problems.append(Problem("unknown-key", _join(path, key), unknown_key(key, tuple(fields))))
            continue
        values[key] = check(hints[key], value, _join(path, key), problems)
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in options and not any(key not in fields for key in options):
            problems.append(Problem("missing-key", path, f"missing key '{name}'"))
    if len(problems) > before:
        return MISSING
    made = part(**values)
    complaints = getattr(made, "complaints", None)
    if complaints is not None:
        problems.extend(replace(problem, path=_join(path, problem.path)) for problem in complaints())
    return made if len(problems) == before else MISSING


def too_large(value: Any) -> str:
    """What is wrong with a whole number of so many digits that Python itself will not print it, or `""`."""
    huge = isinstance(value, int) and value.bit_length() > 1024
    return "must be below 2^53, got a number of more than 300 digits" if huge else ""


def unknown_key(key: object, known: Sequence[str]) -> str:
    """The message for an unknown key, with the most similar known key or all of them."""
    near = suggestion(str(key), known)
    return f"unknown key.{near}" if near else f"unknown key. Known keys: {', '.join(sorted(known))}"


def plain(part: Any) -> Any:
    """The options of a part as plain JSON values: the inverse of `check_options`, defaults filled in."""
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        return {field.name: plain(getattr(part, field.name)) for field in dataclasses.fields(part)}
    if isinstance(part, tuple | list):
        return [plain(item) for item in part]
    if isinstance(part, Mapping):
        return {str(key): plain(item) for key, item in part.items()}
    return part


@cache
def _hints(part: type) -> dict[str, Any]:
    return typing.get_type_hints(part, include_extras=True)


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _ambiguous(value: Ambiguous, path: str) -> Problem:
    got = value if len(value) <= 60 else value[:57] + "..."
    return Problem("ambiguous-value", path, f"ambiguous YAML value `{got}`: write {value.remedy}")


def _is_raw(value: Any, path: str, problems: list[Problem]) -> bool:
    """Whether an option that is kept raw is what a file can hold, without ambiguous scalars; adds what is not."""
    before = len(problems)
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, str):
                _is_raw(item, _join(path, key), problems)
            else:
                problems.append(Problem("invalid-key", path, f"keys must be strings, got {shown(key)}"))
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            _is_raw(item, f"{path}[{place}]", problems)
    elif isinstance(value, Ambiguous):
        problems.append(_ambiguous(value, path))
    elif complaint := too_large(value):
        problems.append(Problem("out-of-range", path, complaint))
    elif not isinstance(value, str | int | float | None) or (isinstance(value, float) and not math.isfinite(value)):
        problems.append(Problem("wrong-type", path, f"must be a plain, finite value, got {shown(value)}"))
    return len(problems) == before


def _check_union(hints: tuple[Any, ...], value: Any, path: str, problems: list[Problem]) -> Any:
    if value is None and type(None) in hints:
        return None
    choices = [hint for hint in hints if hint is not type(None)]
    attempts: list[list[Problem]] = []
    for hint in choices:
        attempt: list[Problem] = []
        result = check(hint, value, path, attempt)
        if not attempt:
            return result
        attempts.append(attempt)
    is_list = isinstance(value, list | tuple)
    fitting = [
        attempt for hint, attempt in zip(choices, attempts, strict=True) if (get_origin(hint) is tuple) == is_list
    ]
    problems.extend((fitting or attempts)[0])
    return MISSING


def _check_list(item: Any, value: Any, path: str, problems: list[Problem]) -> Any:
    if not isinstance(value, list | tuple):
        problems.append(Problem("wrong-type", path, f"must be a list, got {shown(value)}"))
        return MISSING
    made = [check(item, entry, f"{path}[{place}]", problems) for place, entry in enumerate(value)]
    return MISSING if any(entry is MISSING for entry in made) else tuple(made)


def _check_plain(hint: Any, value: Any) -> tuple[Any, tuple[str, str]]:
    """The value, and the code and text of what is wrong with it, `OK` where nothing is."""
    if get_origin(hint) is dict:
        return value, _typed(isinstance(value, Mapping), "must be a mapping", value)
    if get_origin(hint) is Literal:
        names = tuple(str(name) for name in get_args(hint))
        if isinstance(value, str) and value in names:
            return value, OK
        near = suggestion(value, names) if isinstance(value, str) else ""
        return value, ("unknown-name", f"must be one of {', '.join(names)}, got {shown(value)}{near and '.' + near}")
    return _check_scalar(hint, value)


def _check_scalar(hint: Any, value: Any) -> tuple[Any, tuple[str, str]]:
    if hint is bool:
        return value, _typed(isinstance(value, bool), "must be true or false", value)
    if hint is int:
        if isinstance(value, bool) or not isinstance(value, int):
            return value, _typed(False, "must be an integer", value)
        return value, OK if abs(value) < 2**53 else _large(value)
    if hint is float:
        if isinstance(value, str) and EXPONENT.fullmatch(value):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value, _typed(False, "must be a number", value)
        return _finite(value)
    if hint is str:
        return value, _typed(isinstance(value, str), "must be a string", value)
    assert hint in (object, Any), f"options may not have the type {hint!r}"
    return value, OK


def _typed(fits: bool, text: str, value: Any) -> tuple[str, str]:
    return OK if fits else ("wrong-type", f"{text}, got {shown(value)}")


def _large(value: int | float) -> tuple[str, str]:
    return "out-of-range", f"must be below 2^53, got {shown(value)}"


def _finite(value: int | float) -> tuple[Any, tuple[str, str]]:
    if isinstance(value, int) and abs(value) >= 2**53:
        return value, _large(value)
    return float(value), OK if math.isfinite(value) else (
        "out-of-range",
        f"must be finite, got {shown(value)}",
    )
