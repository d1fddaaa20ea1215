"""Probes of plugins: classes with `measure(snapshot)`. Their options are the annotated parameters of `__init__`.

A user's probe measures one replica at a time, so that its numbers, and the random numbers that it draws, do not depend on the
pack. It is created for each snapshot, so that it has no state that a checkpoint would lose.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from fathomlab.base.errors import UserError, definition_location
from fathomlab.base.options import option_values
from fathomlab.probes.columns import NAMES, Column, Measured, ProbeDescription, column_name_problem

if TYPE_CHECKING:
    from torch import Tensor

    from fathomlab.probes import Snapshot

KEYS: dict[str, Any] = {names: axis for axis, names in NAMES.items()}  # such as "layers" to "layer"
MAX_ENTRIES = 10_000  # of a column in one snapshot: they are text in logs and reports
LOGS = ("metrics",)  # names of other files that a probe's log would replace


class UserProbe:
    """Base of the components of users' probes: frozen dataclasses whose fields are the parameters of `__init__`.

    Attributes:
        probe_class: The user's class.
        columns: What the class declares; empty to take the columns from the first result.
        title: Heading of its figures.
        note: How to read the figures.
    """

    probe_class: ClassVar[Callable[..., Any]]
    columns: ClassVar[Mapping[str, Column]]
    title: ClassVar[str]
    note: ClassVar[str]
    needs_maps: ClassVar[bool] = False
    test_options: ClassVar[Mapping[str, object]] = {}

    def measure(self, snapshot: "Snapshot") -> Measured:
        """Measure a snapshot of one replica.

        Returns:
            Columns, float64 (1,) or (1, entries), and the names of the entries of each axis, such as `layers`.

        Raises:
            UserError: If the result is not what a probe must return; names the line of `measure`.
        """
        result = type(self).probe_class(**option_values(self)).measure(snapshot)
        if not isinstance(result, Mapping) or not all(isinstance(key, str) for key in result):
            raise self.defect(f"must return a dictionary of column names to numbers, got {type(result).__name__}")
        names = {KEYS[key]: self._names(key, value) for key, value in result.items() if key in KEYS}
        values = {key: self._numbers(key, value) for key, value in result.items() if key not in (*KEYS, "dtype")}
        self._check_columns(values)
        columns: dict[str, Tensor] = {}
        axes = dict(names)
        for key, value in values.items():
            axis = self.columns[key].axis if key in self.columns else _axis(value, names, snapshot)
            if axis != "replica":
                expected = axes.setdefault(axis, _default_names(axis, value, snapshot))
                if value.shape != (1, len(expected)):
                    raise self._wrong_shape(key, value, f"one number per {axis}, {len(expected)} in total")
            elif value.numel() != 1:
                raise self._wrong_shape(key, value, "one number")
            columns[key] = value.reshape(1) if axis == "replica" else value
            self._check_finite(key, value, snapshot)
        return {"dtype": snapshot.dtype, **{NAMES[axis]: list(entries) for axis, entries in axes.items()}, **columns}

    def describe(self, row: Mapping[str, Any]) -> ProbeDescription:
        """What a report needs to know in order to plot a result: the declared columns, or those of the result.

        Args:
            row: A result of `measure` as numbers and lists, as the log contains it.
        """
        if self.columns:
            return ProbeDescription(self.title, self.note, self.columns)
        columns: dict[str, Column] = {}
        lengths = {KEYS[key]: len(names) for key, names in row.items() if key in KEYS}  # in the order of `_axis`
        for name, value in row.items():
            if name in (*KEYS, "dtype"):
                continue
            label = name.replace("_", " ")
            label = label[:1].upper() + label[1:]
            if isinstance(value, list):
                axis: Any = next(axis for axis, length in lengths.items() if length == len(value))
                columns[name] = Column(label, axis=axis, figure="profile")
            else:
                columns[name] = Column(label, figure="lines")
        return ProbeDescription(self.title, self.note, columns)

    def defect(self, text: str) -> UserError:
        """The error of `measure`, with its file and line."""
        cls: Any = type(self).probe_class
        return UserError("plugin-error", f"{definition_location(cls.measure)}{cls.__name__}.measure {text}")

    def _names(self, key: str, value: Any) -> tuple[str, ...]:
        if isinstance(value, list | tuple) and value and all(isinstance(name, str) for name in value):
            return tuple(value)
        raise self.defect(f"must return names as a list of strings for '{key}', got {type(value).__name__}")

    def _numbers(self, key: str, value: Any) -> "Tensor":
        """Convert numbers to a float64 tensor, (1,) or (1, entries)."""
        import torch

        if problem := column_name_problem(key):
            raise self.defect(problem)
        parts = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(part, torch.Tensor) and part.requires_grad for part in parts):
            raise self.defect(f"must return numbers without gradients, got a tensor with requires_grad for '{key}'")
        try:
            if isinstance(value, list | tuple) and any(isinstance(part, torch.Tensor) for part in value):
                value = torch.stack([torch.as_tensor(part) for part in value])
            numbers = torch.as_tensor(value)
            if numbers.is_complex():
                raise TypeError
            numbers = numbers.detach().to("cpu", torch.float64)
        except (TypeError, ValueError, RuntimeError):
            raise self.defect(f"must return numbers, got {type(value).__name__} for '{key}'") from None
        if numbers.numel() > MAX_ENTRIES:
            raise self._wrong_shape(key, numbers, f"at most {MAX_ENTRIES:,} numbers")
        if numbers.dim() == 1 and len(numbers) != 1:
            numbers = numbers.unsqueeze(0)
        if numbers.dim() > 2 or (numbers.dim() == 2 and (len(numbers) != 1 or not numbers.numel())):
            raise self._wrong_shape(key, numbers, "one number, or a list of numbers,")
        return numbers if numbers.dim() == 2 else numbers.reshape(1)

    def _check_columns(self, values: Mapping[str, object]) -> None:
        if not values:
            raise self.defect("must return at least one column")
        if not self.columns:
            return
        if missing := [name for name in self.columns if name not in values]:
            raise self.defect(f"must return every declared column; missing: {', '.join(missing)}")
        if unknown := [name for name in values if name not in self.columns]:
            raise self.defect(f"must return declared columns only; not declared: {', '.join(unknown)}")

    def _check_finite(self, key: str, value: "Tensor", snapshot: "Snapshot") -> None:
        """Numbers must be finite, unless the column allows others or the network diverges."""
        if bool(value.isfinite().all()) or (key in self.columns and self.columns[key].may_be_nan):
            return
        if all(bool(param.isfinite().all()) for param in snapshot.params.values()):
            fix = f"declare the column as Column(..., may_be_nan=True) if '{key}' can be undefined"
            raise self.defect(f"must return finite numbers, got NaN or infinity for '{key}'; {fix}")

    def _wrong_shape(self, key: str, value: "Tensor", expected: str) -> UserError:
        return self.defect(f"must return {expected} for '{key}', got shape {tuple(value.shape)}")


def probe_facts(probe_class: type) -> dict[str, Any]:
    """Return the class attributes of the component of a user's class.

    Raises:
        ValueError: If the class cannot be a probe.
    """
    name, columns = probe_class.__name__, getattr(probe_class, "columns", {})
    if not isinstance(columns, Mapping) or not all(isinstance(column, Column) for column in columns.values()):
        raise ValueError(f"{name}.columns must be a mapping of names to fathomlab.Column")
    title, note = getattr(probe_class, "title", "") or _words(name), getattr(probe_class, "note", "")
    if not isinstance(title, str) or not isinstance(note, str):
        raise ValueError(f"{name}: title and note must be strings")
    try:
        ProbeDescription(title, note, columns)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return {"probe_class": probe_class, "columns": dict(columns), "title": title, "note": note}


def _words(name: str) -> str:
    """WeightNorms as "Weight norms"."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name.replace("_", " ")).split()
    return " ".join(
        [words[0][:1].upper() + words[0][1:], *(word if word.isupper() else word.lower() for word in words[1:])]
    )


def _axis(value: "Tensor", names: Mapping[str, Sequence[str]], snapshot: "Snapshot") -> str:
    """What each number of an undeclared column belongs to, from the number of entries."""
    if value.dim() == 1:
        return "replica"
    defaults: dict[str, int] = {"layer": len(snapshot.layers), "point": len(snapshot.points), "class": snapshot.classes}
    lengths: dict[str, int] = {axis: len(entries) for axis, entries in names.items()} if names else defaults
    return next((axis for axis, length in lengths.items() if length == value.shape[1]), "entry")


def _default_names(axis: str, value: "Tensor", snapshot: "Snapshot") -> tuple[str, ...]:
    """Names of the entries of an axis that the probe does not name."""
    if axis in ("layer", "point"):
        return snapshot.layers if axis == "layer" else snapshot.points
    if axis == "class":
        return tuple(map(str, range(snapshot.classes)))
    return tuple(str(number) for number in range(1, 1 + value.shape[-1]))
