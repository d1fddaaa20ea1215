"""What a probe measures, and how a report plots it. Does not import torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, final

if TYPE_CHECKING:
    from torch import Tensor

# What `measure` returns: columns as tensors (k, ...), and what all replicas share, such as the names of the layers.
Measured: TypeAlias = "Mapping[str, Tensor | list[str] | str | int]"
NAMES = {"layer": "layers", "point": "points", "class": "classes", "cell": "cells"}  # axis to the key of its names


@final
@dataclass(frozen=True)
class Column:
    """A column of numbers, and how a report plots it.

    Attributes:
        label: What the numbers are, as a title: "Fraction of dead units".
        unit: Unit of the numbers; "" for a fraction or a ratio.
        axis: What each number belongs to: `replica` (one number per snapshot), `layer` (weight matrix or kernel), `point` (output
            of a layer or block), `class`, or `cell`. The names of the entries are measured as `layers`, `points`, ...
        figure: `profile` (lines over the axis, at initialization and at the end), `heatmap` (axis by snapshot, for positive
            numbers), `lines` (over the snapshots, for the axis `replica`), or `none`.
        log: Whether the scale is logarithmic. Means over seeds are then geometric. Heatmaps are always logarithmic.
        quotient: Two columns of which this one is the quotient. A report divides their means over seeds, because the mean of
            quotients is biased.
    """

    label: str = ""
    unit: str = ""
    axis: Literal["replica", "layer", "point", "class", "cell"] = "replica"
    figure: Literal["profile", "heatmap", "lines", "none"] = "none"
    log: bool = False
    quotient: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if self.figure != "none" and (self.figure == "lines") != (self.axis == "replica"):
            raise ValueError(f"a figure of kind {self.figure} cannot show a number per {self.axis}")
