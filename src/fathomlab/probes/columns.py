"""What a probe measures, and how a report plots it. Does not import torch."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, final, get_args

from fathomlab.base.errors import unknown_name

if TYPE_CHECKING:
    from torch import Tensor

# What `measure` returns: columns as tensors (k, ...), and what all replicas share, such as the names of the layers.
Measured: TypeAlias = "Mapping[str, Tensor | list[str] | str | int]"
Axis: TypeAlias = Literal["replica", "layer", "point", "class", "cell", "entry"]
Figure: TypeAlias = Literal["profile", "heatmap", "lines", "maps", "none"]
# Axis to the key of the names of its entries.
NAMES: dict[str, str] = {"layer": "layers", "point": "points", "class": "classes", "cell": "cells", "entry": "entries"}
COLUMN = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
RESERVED = ("step", "epoch", "dtype", "crc", *NAMES.values())  # other keys of a probe's log


@final
@dataclass(frozen=True)
class Column:
    """A column of numbers, and how a report plots it.

    Attributes:
        label: What the numbers are, as a title: "Fraction of dead units".
        unit: Unit of the numbers; "" for a fraction or a ratio.
        axis: What each number belongs to: `replica` (one number per snapshot), `layer` (weight matrix or kernel), `point` (output
            of a layer or block), `class`, `cell`, or `entry` (of any other list). The names of the entries are measured as
            `layers`, `points`, ...
        figure: `profile` (lines over the axis, at initialization and at the end), `heatmap` (axis by snapshot, for positive
            numbers), `lines` (over the snapshots, for the axis `replica`), `maps` (an image per entry at the end, for the axis
            `cell`, whose names are `entry/row/column`), or `none`.
        log: Whether the scale is logarithmic. Means over seeds are then geometric. Heatmaps are always logarithmic.
        may_be_nan: Whether a number may be NaN or infinite, which is stored as missing. Only users' probes are checked.
        quotient: Two columns of which this one is the quotient. A report divides their means over seeds, because the mean of
            quotients is biased.
    """

    label: str = ""
    unit: str = ""
    axis: Axis = "replica"
    figure: Figure = "none"
    log: bool = False
    quotient: tuple[str, str] | None = None
    may_be_nan: bool = False

    def __post_init__(self) -> None:
        unknown = unknown_name("axis", self.axis, get_args(Axis)) or unknown_name(
            "figure", self.figure, get_args(Figure)
        )
        if unknown:
            raise ValueError(unknown)
        if self.figure != "none" and (self.figure == "lines") != (self.axis == "replica"):
            raise ValueError(f"a figure of kind {self.figure} cannot show a number per {self.axis}")
        if self.figure == "maps" and self.axis != "cell":
            raise ValueError(f"a figure of kind maps needs the axis cell, got {self.axis}")


@final
@dataclass(frozen=True)
class ProbeDescription:
    """What a report needs to know of a probe.

    Attributes:
        title: Heading of its figures.
        note: How to read the figures; "" if that is clear.
        columns: Name of each column to what it is and how it is plotted.
    """

    title: str
    note: str
    columns: Mapping[str, Column]

    def __post_init__(self) -> None:
        if problem := next((text for name in self.columns if (text := column_name_problem(name))), ""):
            raise ValueError(problem)
        for name, column in self.columns.items():
            pair = column.quotient or ()
            if any(part not in self.columns or self.columns[part].axis != "replica" for part in pair):
                raise ValueError(f"{name}: a quotient must name two columns of the axis replica")


def column_name_problem(name: object) -> str:
    """Return why a probe's log cannot have a column of this name, or `""`."""
    if not isinstance(name, str) or COLUMN.fullmatch(name) is None:
        return f"a column must be named by letters, digits, and underscores, got {name!r}"
    return f"{name} is a reserved name of a column; rename it" if name in RESERVED else ""
