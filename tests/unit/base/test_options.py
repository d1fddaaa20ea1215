"""Strict options: what every type takes, and the exact words about what it does not."""

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Interval

from fathomlab.base.options import (
    INVALID,
    Ambiguous,
    Fraction,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    parse,
    to_dict,
    unknown_key,
)
from fathomlab.base.problems import ConfigError, Problem, UserError, shown, suggestion

ACT = Literal["ReLU", "GELU"]
CHOICE = Literal["basic", "bottleneck"]


@dataclass(frozen=True)
class Inner:
    """A section."""

    depth: PositiveInt = 1


@dataclass(frozen=True)
class Outer:
    """A section with a needed key, a section inside and a rule over its options."""

    name: str
    rate: PositiveFloat = 0.5
    inner: Inner = field(default_factory=Inner)
    sizes: tuple[PositiveInt, ...] = (1, 2)
    extra: dict[str, Any] = field(default_factory=dict)

    def complaints(self) -> list[Problem]:
        """A rule over two options."""
        return [Problem("conflict", "rate", "must be below the depth")] if self.rate >= self.inner.depth else []


def checked(hint: Any, value: Any) -> tuple[Any, list[str]]:
    """The value as checked, and the complaints."""
    problems: list[Problem] = []
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
def test_values_that_fit(hint: Any, value: Any, expected: Any) -> None:
    """Taken as they are, but for lists, whole numbers and exponents where the type asks."""
    found, complaints = checked(hint, value)
    assert complaints == []
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("hint", "value", "complaint"),
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
def test_values_that_do_not_fit(hint: Any, value: Any, complaint: str) -> None:
    """Place, what is wrong, what was got, and the nearest name."""
    found, complaints = checked(hint, value)
    assert found is INVALID
    assert complaints == [complaint]


def test_every_problem_is_named_at_once() -> None:
    """Unknown keys, wrong values deep inside, all in one go."""
    problems: list[Problem] = []
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


def test_a_missing_key_is_named() -> None:
    """Where no other key can be its misspelling."""
    problems: list[Problem] = []
    assert parse(Outer, {"rate": 0.1}, "model", problems) is INVALID
    assert [(problem.code, problem.path) for problem in problems] == [("missing-key", "model")]


def test_rules_over_options_come_after_the_options() -> None:
    """Only once each option is right by itself."""
    problems: list[Problem] = []
    assert parse(Outer, {"name": "x", "rate": 2}, "model", problems) is INVALID
    assert [(problem.code, problem.path) for problem in problems] == [("conflict", "model.rate")]
    problems.clear()
    parse(Outer, {"name": 1, "rate": 2}, "model", problems)
    assert [(problem.code, problem.path) for problem in problems] == [("wrong-type", "model.name")]


def test_earlier_problems_do_not_spoil_what_is_right() -> None:
    """A section is judged by its own mistakes."""
    problems = [Problem("unknown-key", "elsewhere", "wrong.")]
    made = parse(Outer, {"name": "x"}, "model", problems)
    assert made == Outer("x")
    assert len(problems) == 1


def test_plain_is_the_inverse() -> None:
    """Defaults are filled in, tuples become lists, and all of it is read back."""
    made = Outer("x", 0.25, Inner(4), (3,), {"a": (1, 2)})
    options = to_dict(made)
    assert options == {"name": "x", "rate": 0.25, "inner": {"depth": 4}, "sizes": [3], "extra": {"a": [1, 2]}}
    problems: list[Problem] = []
    assert to_dict(parse(Outer, options, "", problems)) == options
    assert not problems


def test_messages_join_into_one_error() -> None:
    """Source, number of problems, one line each; a UserError, and so a ValueError."""
    error = ConfigError(
        "exp.yaml", [Problem("wrong-type", "a.b", "is wrong.", "exp.yaml:3"), Problem("empty-file", "", "is empty.")]
    )
    assert str(error) == "exp.yaml: 2 problems\n  exp.yaml:3  a.b: is wrong.\n  is empty."
    assert str(ConfigError("x", [Problem("wrong-type", "a", "b.")])) == "x: 1 problem\n  a: b."
    assert isinstance(error, UserError)
    assert isinstance(error, ValueError)


def test_values_are_shown_short() -> None:
    """As YAML has them, cut where they are long."""
    assert [shown(value) for value in (True, False, None, 1, "x")] == ["true", "false", "null", "1", "'x'"]
    assert shown("y" * 100) == "'" + "y" * 56 + "..."
    assert suggestion("dropuot", ("dropout", "width")) == " Did you mean 'dropout'?"
    assert suggestion("zzzz", ("dropout", "width")) == ""
    assert unknown_key(3, ("b", "a")).endswith("a, b")
