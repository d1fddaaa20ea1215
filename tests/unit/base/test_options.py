"""Strict options: accepted and rejected values of every type."""

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Interval

from fathomlab.base.errors import ConfigError, Issue, UserError, did_you_mean, format_value, unknown_key
from fathomlab.base.identity import content_hash
from fathomlab.base.options import (
    INVALID,
    Ambiguous,
    Fraction,
    Later,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    parse,
    to_dict,
)

ACT = Literal["ReLU", "GELU"]
CHOICE = Literal["basic", "bottleneck"]


@dataclass(frozen=True)
class Inner:
    """A section."""

    depth: PositiveInt = 1


@dataclass(frozen=True)
class Outer:
    """A section with a required key, a nested section, and a rule over its options."""

    name: str
    rate: PositiveFloat = 0.5
    inner: Inner = field(default_factory=Inner)
    sizes: tuple[PositiveInt, ...] = (1, 2)
    extra: dict[str, Any] = field(default_factory=dict)

    def validate(self) -> list[Issue]:
        """A rule over two options."""
        return [Issue("conflict", "rate", "must be below the depth")] if self.rate >= self.inner.depth else []


def parse_with_issues(hint: Any, value: Any) -> tuple[Any, list[str]]:
    """Parse a value. Return it with codes and keys of the issues."""
    problems: list[Issue] = []
    return parse(hint, value, "k", problems), [f"{problem.code} {problem.path}" for problem in problems]


@pytest.mark.parametrize(
    ("hint", "value", "expected"),
    [
        (bool, True, True),
        (int, 3, 3),
        (int, -(2**53) + 1, -(2**53) + 1),
        (float, 3, 3.0),
        (float, 0.5, 0.5),
        (float, "1e-3", 0.001),
        (float, "+2.E5", 2e5),
        (float, "-.5e1", -5.0),
        (str, "x", "x"),
        (str, "1e-3", "1e-3"),
        (CHOICE, "basic", "basic"),
        (ACT, "GELU", "GELU"),
        (PositiveInt, 1, 1),
        (Fraction, 0, 0.0),
        (Annotated[float, Interval(ge=0, le=1)], 1, 1.0),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[int, ...], [], ()),
        (tuple[tuple[int, ...], ...], [[1], [2, 3]], ((1,), (2, 3))),
        (float | None, None, None),
        (float | None, 2, 2.0),
        (int | tuple[int, ...], 4, 4),
        (int | tuple[int, ...], [4], (4,)),
        (PositiveFloat | None, "1e-2", 0.01),
        (dict[str, Any], {"a": [1]}, {"a": [1]}),
        (Inner, {"depth": 3}, Inner(3)),
        (Inner, None, Inner()),
        (Any, [1, "x"], [1, "x"]),
    ],
)
def test_parse_returns_valid_values(hint: Any, value: Any, expected: Any) -> None:
    """Only lists, integers, and exponents are converted, if the type asks for it."""
    result, issues = parse_with_issues(hint, value)
    assert issues == []
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("hint", "value", "issue"),
    [
        (bool, 1, "wrong-type k"),
        (bool, "true", "wrong-type k"),
        (bool, None, "wrong-type k"),
        (int, True, "wrong-type k"),
        (int, 1.0, "wrong-type k"),
        (int, "3", "wrong-type k"),
        (int, 2**53, "out-of-range k"),
        (float, False, "wrong-type k"),
        (float, "0.5", "wrong-type k"),
        (float, "1e", "wrong-type k"),
        (float, math.nan, "out-of-range k"),
        (float, math.inf, "out-of-range k"),
        (float, "1e999", "out-of-range k"),
        (float, -(2**53), "out-of-range k"),
        (str, 3, "wrong-type k"),
        (CHOICE, "basik", "unknown-name k"),
        (CHOICE, "zzz", "unknown-name k"),
        (CHOICE, ["basic"], "unknown-name k"),
        (ACT, "relu", "unknown-name k"),
        (ACT, "swish", "unknown-name k"),
        (PositiveInt, 0, "out-of-range k"),
        (PositiveFloat, 0, "out-of-range k"),
        (NonNegativeFloat, -0.5, "out-of-range k"),
        (Fraction, 1, "out-of-range k"),
        (Annotated[int, Interval(le=9)], 10, "out-of-range k"),
        (tuple[int, ...], 3, "wrong-type k"),
        (tuple[int, ...], "12", "wrong-type k"),
        (tuple[PositiveInt, ...], [1, 0, 2], "out-of-range k[1]"),
        (float | None, "x", "wrong-type k"),
        (PositiveFloat | None, 0, "out-of-range k"),
        (int | tuple[int, ...], [1, "x"], "wrong-type k[1]"),
        (int | tuple[int, ...], "x", "wrong-type k"),
        (dict[str, Any], [1], "wrong-type k"),
        (Inner, 3, "wrong-type k"),
        (Inner, {"depht": 3}, "unknown-key k.depht"),
        (Inner, {"x": 3}, "unknown-key k.x"),
        (Inner, {"depth": "3"}, "wrong-type k.depth"),
        (int, Ambiguous("010", "10 or '010'"), "ambiguous-value k"),
        (
            str,
            Ambiguous("no", "'no' or false"),
            "ambiguous-value k",
        ),
    ],
)
def test_parse_rejects_invalid_values(hint: Any, value: Any, issue: str) -> None:
    result, issues = parse_with_issues(hint, value)
    assert result is INVALID
    assert issues == [issue]


def test_parse_reports_all_issues() -> None:
    problems: list[Issue] = []
    options = {"nam": "x", "rate": -1, "inner": {"depth": 0}, "sizes": [0, "a"], "extra": 3}
    assert parse(Outer, options, "model", problems) is INVALID
    messages = {problem.path: problem.message for problem in problems}
    assert sorted((problem.path, problem.code) for problem in problems) == [
        ("model.extra", "wrong-type"),
        ("model.inner.depth", "out-of-range"),
        ("model.nam", "unknown-key"),
        ("model.rate", "out-of-range"),
        ("model.sizes[0]", "out-of-range"),
        ("model.sizes[1]", "wrong-type"),
    ]
    assert "'name'" in messages["model.nam"]
    assert "-1" in messages["model.rate"]


def test_parse_reports_missing_keys() -> None:
    """Unless another key can be its misspelling."""
    problems: list[Issue] = []
    assert parse(Outer, {"rate": 0.1}, "model", problems) is INVALID
    assert [(problem.code, problem.path) for problem in problems] == [("missing-key", "model")]


def test_parse_checks_rules_after_options() -> None:
    """Rules are checked only if every option is valid."""
    problems: list[Issue] = []
    assert parse(Outer, {"name": "x", "rate": 2}, "model", problems) is INVALID
    assert [(problem.code, problem.path) for problem in problems] == [("conflict", "model.rate")]
    problems.clear()
    parse(Outer, {"name": 1, "rate": 2}, "model", problems)
    assert [(problem.code, problem.path) for problem in problems] == [("wrong-type", "model.name")]


def test_parse_ignores_earlier_issues() -> None:
    problems = [Issue("unknown-key", "elsewhere", "wrong.")]
    section = parse(Outer, {"name": "x"}, "model", problems)
    assert section == Outer("x")
    assert len(problems) == 1


def test_to_dict_round_trips() -> None:
    section = Outer("x", 0.25, Inner(4), (3,), {"a": (1, 2)})
    options = to_dict(section)
    assert options == {"name": "x", "rate": 0.25, "inner": {"depth": 4}, "sizes": [3], "extra": {"a": [1, 2]}}
    problems: list[Issue] = []
    assert to_dict(parse(Outer, options, "", problems)) == options
    assert not problems


def test_config_error_joins_issues() -> None:
    error = ConfigError(
        "exp.yaml", [Issue("wrong-type", "a.b", "is wrong.", "exp.yaml:3"), Issue("empty-file", "", "is empty.")]
    )
    assert str(error) == "exp.yaml: 2 problems\n  exp.yaml:3  a.b: is wrong.\n  is empty."
    assert str(ConfigError("x", [Issue("wrong-type", "a", "b.")])) == "x: 1 problem\n  a: b."
    assert isinstance(error, UserError)
    assert isinstance(error, ValueError)


def test_format_value_returns_short_yaml() -> None:
    assert [format_value(value) for value in (True, False, None, 1, "x")] == ["true", "false", "null", "1", "'x'"]
    assert format_value("y" * 100) == "'" + "y" * 55 + "...'"
    assert did_you_mean("dropuot", ("dropout", "width")) == " Did you mean 'dropout'?"
    assert did_you_mean("zzzz", ("dropout", "width")) == ""
    assert unknown_key(3, ("b", "a")).endswith("a, b")


@dataclass(frozen=True)
class Before:
    """A component as trials were stored with it."""

    rate: float = 0.5


@dataclass(frozen=True)
class After:
    """The same component with options that were added later."""

    rate: float = 0.5
    sparse: Annotated[bool, Later()] = False
    sizes: Annotated[tuple[int, ...] | None, Later()] = None


def test_later_option_at_its_default_keeps_the_identity():
    assert content_hash(to_dict(After())) == content_hash(to_dict(Before()))
    assert to_dict(After(sparse=True)) == {"rate": 0.5, "sparse": True}
    assert content_hash(to_dict(After(sizes=(1,)))) != content_hash(to_dict(Before()))


def test_later_option_is_read_back():
    for value in (After(), After(sparse=True, sizes=(1, 2))):
        assert parse_with_issues(After, to_dict(value)) == (value, [])


def test_null_is_listed_where_it_is_allowed():
    for hint, listed in ((ACT, False), (ACT | None, True), (Annotated[ACT | None, Later()], True)):
        problems: list[Issue] = []
        parse(hint, "none", "k", problems)
        assert ("null" in problems[0].message) == listed
