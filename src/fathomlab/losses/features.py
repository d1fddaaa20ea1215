"""Which features of two networks belong together, and computations with them."""

from typing import TYPE_CHECKING

from fathomlab.base.errors import Issue, unknown_name
from fathomlab.losses.defaults import Points

if TYPE_CHECKING:
    from torch import Tensor


def common_points(student: Points, teacher: Points) -> dict[str, str]:
    """Return points of the student with those of the teacher that have maps of the same size.

    For each height and width of both networks, it is the last point of each, such as the end of each stage. Features without
    positions have one size.
    """
    last, matching = {_size(shape): name for name, shape in student.items()}, _last_of_each_size(teacher)
    return {name: matching[size] for size, name in last.items() if size in matching}


def partner(layer: str, student: Points, teacher: Points) -> str:
    """Return the last point of the teacher whose maps have the size of the student's at `layer`."""
    return _last_of_each_size(teacher)[_size(student[layer])]


def point_issues(option: str, layer: str, student: Points, teacher: Points) -> list[Issue]:
    """Return what is wrong with the name of a point of the student, the value of `option`."""
    if text := unknown_name("point of the student", layer, tuple(student)):
        return [Issue("unknown-name", option, text)]
    if _size(student[layer]) in _last_of_each_size(teacher):
        return []
    sizes = ", ".join(f"{name} {_described(shape)}" for name, shape in teacher.items())
    text = f"the teacher has no features of the size of {layer}, {_described(student[layer])}. It has {sizes}"
    return [Issue("data-mismatch", option, text)]


def unit(values: "Tensor") -> "Tensor":
    """Divide by the Euclidean norm along the last axis; zeros stay zeros, with gradient 0."""
    import torch

    largest = values.detach().abs().amax(-1, keepdim=True)
    nonzero = largest != 0
    scaled = values / torch.where(nonzero, largest, 1)  # so that squares of small numbers do not underflow
    squares = scaled.square().sum(-1, keepdim=True)
    return scaled * torch.where(nonzero, squares, 1).rsqrt()


def _last_of_each_size(points: Points) -> dict[tuple[int, ...], str]:
    return {_size(shape): name for name, shape in points.items()}


def _size(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[1:]


def _described(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape[1:])) if len(shape) > 1 else "without positions"
