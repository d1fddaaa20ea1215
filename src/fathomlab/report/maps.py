"""Maps of single images that a probe measured: a table with an image per row and a condition per column."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fathomlab.analysis.study import Condition, Study
from fathomlab.probes.columns import ProbeDescription
from fathomlab.report.pictures import Picture, pictures
from fathomlab.store.records import ProbeSnapshot, TrialRecord

if TYPE_CHECKING:
    import numpy.typing as npt

MAX_CONDITIONS = 8
SIDE = 48  # pixels of a map on the page
FOR, AGAINST = (213, 94, 0), (0, 114, 178)  # colors of positive and negative values; zero is transparent


@dataclass(frozen=True)
class Map:
    """A map of one image.

    Attributes:
        data_uri: A PNG file with a pixel per position.
        text: What it shows: the class and its probability.
        description: The same for screen readers, with the position of the largest value.
    """

    data_uri: str
    width: int
    height: int
    text: str
    description: str


@dataclass(frozen=True)
class MapRow:
    """An image, and the maps of each condition."""

    label: str
    description: str
    picture: Picture | None
    cells: tuple[tuple[Map, ...], ...]


@dataclass(frozen=True)
class MapTable:
    """The maps of one seed for conditions with the same images.

    Attributes:
        when: The snapshot and the seed.
        left_out: Number of conditions that are not drawn.
    """

    when: str
    conditions: tuple[str, ...]
    rows: tuple[MapRow, ...]
    left_out: int


@dataclass(frozen=True)
class _Measured:
    condition: Condition
    trial: TrialRecord
    snapshot: ProbeSnapshot

    @property
    def images(self) -> tuple[int, ...]:
        return _integers(self.snapshot, "image")


def map_tables(study: Study, probe: str, description: ProbeDescription) -> tuple[MapTable, ...]:
    """The maps of the last snapshot of a probe for one seed; a table per set of images.

    The probe must also have the columns `image` (position in the training set), `label`, and `predicted` per entry.
    """
    columns = [name for name, column in description.columns.items() if column.figure == "maps"]
    per_image = {name for name, column in description.columns.items() if column.axis == "entry"}
    if not columns or not {"image", "label", "predicted"} <= per_image:
        return ()
    groups: dict[object, list[_Measured]] = {}
    seeds: dict[object, int] = {}
    for condition in study.conditions:
        member = next(((seed, trial) for seed, trial in condition.trials if trial.probes.get(probe)), None)
        if member is not None and member[1].status == "finished":
            measured = _Measured(condition, member[1], member[1].probes[probe][-1])
            groups.setdefault((measured.images, member[1].labels), []).append(measured)
            seeds[measured.images, member[1].labels] = member[0]
    return tuple(_table(group, columns, seeds[key]) for key, group in groups.items() if group[0].images)


def map_png(values: "npt.NDArray[np.float64]") -> str:
    """A map (h, w) as a PNG data URI: orange above zero, blue below; the largest absolute value is opaque."""
    from PIL import Image

    largest = float(np.abs(values).max()) or 1.0
    pixels = np.empty((*values.shape, 4), np.uint8)
    pixels[..., :3] = np.where(values[..., None] >= 0, np.array(FOR), np.array(AGAINST))
    pixels[..., 3] = np.rint(255 * np.abs(values) / largest)
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(target.getvalue()).decode()}"


def _table(group: Sequence[_Measured], columns: Sequence[str], seed: int) -> MapTable:
    shown = group[:MAX_CONDITIONS]
    first = shown[0]
    names = first.trial.dataset.class_names if first.trial.dataset is not None else ()
    drawn = pictures(first.trial, first.images, "train")
    labels = _integers(first.snapshot, "label")
    rows = tuple(
        MapRow(
            _name(names, labels[entry]),
            f"Training image {index:,}, class {_name(names, labels[entry])}",
            drawn.get(index),
            tuple(tuple(_maps(item, columns, entry, names)) for item in shown),
        )
        for entry, index in enumerate(first.images)
    )
    when = f"Training images of seed {seed} after epoch {first.snapshot.epoch}"
    return MapTable(when, tuple(item.condition.name for item in shown), rows, len(group) - len(shown))


def _maps(item: _Measured, columns: Sequence[str], entry: int, names: Sequence[str]) -> Iterable[Map]:
    """The maps of one image; a map of the true class only if another class is predicted."""
    predicted, label = (_integers(item.snapshot, name)[entry] for name in ("predicted", "label"))
    probability = item.snapshot.columns.get("probability", ())[entry : entry + 1]
    share = "".join(f" ({100 * value:.0f}%)" for value in probability if value is not None)
    for column in columns:
        if column.startswith("label") and predicted == label:
            continue
        values = _grid(item.snapshot, column, entry)
        if values is None:
            continue
        class_ = label if column.startswith("label") else predicted
        text = _name(names, class_) + ("" if column.startswith("label") else share)
        y, x = np.unravel_index(int(values.argmax()), values.shape)
        height, width = values.shape
        where = f"most evidence in row {y + 1} of {height}, column {x + 1} of {width}"
        kind = "true class" if column.startswith("label") else "predicted"
        yield Map(map_png(values), width, height, text, f"{item.condition.name}: {kind} {text}, {where}")


def _grid(snapshot: ProbeSnapshot, column: str, entry: int) -> "npt.NDArray[np.float64] | None":
    """The map (h, w) of one image; None if it is incomplete, or has numbers that are not finite."""
    prefix = f"{snapshot.names['entry'][entry]}/"
    cells: Mapping[str, float | None] = dict(zip(snapshot.names["cell"], snapshot.columns[column], strict=True))
    grid: dict[tuple[int, int], float | None] = {}
    for name, value in cells.items():
        y, _, x = name.removeprefix(prefix).partition("/")
        if name.startswith(prefix) and y.isdecimal() and x.isdecimal():
            grid[int(y), int(x)] = value
    height, width = (1 + max((key[axis] for key in grid), default=-1) for axis in (0, 1))
    values = [grid.get((y, x)) for y in range(height) for x in range(width)] if height * width == len(grid) else []
    known = [value for value in values if value is not None]
    return np.array(known).reshape(height, width) if known and len(known) == len(values) else None


def _integers(snapshot: ProbeSnapshot, column: str) -> tuple[int, ...]:
    values = snapshot.columns.get(column, ())
    return tuple(-1 if value is None else int(value) for value in values)


def _name(names: Sequence[str], class_: int) -> str:
    return names[class_] if 0 <= class_ < len(names) else str(class_)
