"""Tables of components."""

from dataclasses import dataclass

import pytest

from fathomlab.base.errors import Issue
from fathomlab.base.options import PositiveInt
from fathomlab.base.table import Table


@dataclass(frozen=True)
class Square:
    """A component with one option."""

    side: PositiveInt = 1


@dataclass(frozen=True)
class Circle:
    """A component without options."""


SHAPES: Table[Square] = Table("shape", {"square": Square})


def test_table_make_returns_the_component_with_its_options():
    problems: list[Issue] = []
    assert SHAPES.make("square", {"side": 3}, "shape.params", problems) == Square(3)
    assert problems == []


def test_table_make_reports_unknown_options_at_their_key():
    problems: list[Issue] = []
    assert SHAPES.make("square", {"sides": 3}, "shape.params", problems) is None
    assert [(issue.code, issue.path) for issue in problems] == [("unknown-key", "shape.params.sides")]
    assert "'side'" in problems[0].message


def test_table_suggests_a_similar_name_and_lists_all():
    assert SHAPES.unsupported("square") == ""
    text = SHAPES.unsupported("squar")
    assert "unsupported shape 'squar'" in text
    assert "Did you mean 'square'?" in text
    assert "Supported: square." in text
    assert SHAPES.unsupported(["square"]) != ""


def test_extended_table_leaves_the_first_one_unchanged():
    both = Table("shape", {"square": Square}).extended("circle", Circle)  # type: ignore[type-var]
    assert list(both) == ["square", "circle"]
    assert both["circle"] is Circle
    assert list(SHAPES) == ["square"]
    with pytest.raises(ValueError, match="square"):
        both.extended("square", Square)
