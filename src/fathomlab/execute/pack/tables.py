"""Computes tables of teachers' outputs, stores them next to the teachers' weights, and verifies them at every start."""

import contextlib
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from fathomlab.base.errors import UserError
from fathomlab.data.augment import apply_views
from fathomlab.data.table import num_views
from fathomlab.engine.device_data import DeviceDataset
from fathomlab.engine.network import PackedNetwork
from fathomlab.engine.state import Tensors
from fathomlab.engine.targets import random_views
from fathomlab.execute.signals import RunInterrupted
from fathomlab.plan.recipe import Recipe
from fathomlab.store.checksums import CorruptFileError
from fathomlab.store.lock import file_lock
from fathomlab.store.tables import TableOptions, TableOrigin
from fathomlab.store.weights import load_checked, save_checked

TEACHER_BATCH = 512
CHECKED = 512  # pairs of image and view that are computed again at every start
TABLE_FORMAT = torch.float16  # of all views of the images
TOLERANCES = {
    torch.float16: 4e-3,
    torch.float32: 1e-3,
    torch.float64: 1e-8,
}  # relative; another device may have computed it


@dataclass(frozen=True)
class LoadedTeacher:
    """One trained teacher.

    Attributes:
        trial: Hash of its trial.
        folder: Directory of its trial.
        weights: SHA-256 of the file with its weights.
        network: The tensor program of one replica.
        tensors: Learned tensors and running statistics, each (1, *shape).
    """

    trial: str
    folder: Path
    weights: str
    network: PackedNetwork
    tensors: Tensors

    def __call__(self, images: Tensor) -> Tensor:
        """Compute logits (n, classes) of normalized images (n, c, h, w) with the running statistics."""
        return self.network(self.tensors, self.tensors, images.unsqueeze(0), "eval")[0]


@dataclass(frozen=True)
class StoredViews:
    """The views of each image that a table contains.

    Attributes:
        options: What decides which outputs the table contains.
        numbers: Numbers of the views as in `view_index`, (views, images); None for one view without augmentation.
        dtype: Number format of the table.
    """

    options: TableOptions
    numbers: Int64[Tensor, "views images"] | None
    dtype: torch.dtype


class TeacherTables:
    """The tables of the teachers of one pack."""

    def __init__(
        self, images: DeviceDataset, rows: Int64[Tensor, " n"], recipe: Recipe, stop: Callable[[], int | None]
    ):
        """Compute and load nothing yet.

        Args:
            images: The dataset of the students.
            rows: Indices of the images that the tables contain.
            recipe: The recipe of a student; its seed is not used.
            stop: Returns a signal number to request the end; called between two batches.
        """
        self.images, self.rows, self.recipe, self.stop = images, rows, recipe, stop

    def clean(self) -> StoredViews:
        """The images without augmentation, in the format of the students."""
        return StoredViews(self._options((), None, self.images.mean.dtype), None, self.images.mean.dtype)

    def random(self, recipe: Recipe) -> StoredViews:
        """One random view per image for a student, in its format."""
        numbers = random_views(recipe, self.rows).unsqueeze(0)
        options = self._options(recipe.augment, recipe.seed, self.images.mean.dtype)
        return StoredViews(options, numbers, self.images.mean.dtype)

    def all(self) -> StoredViews:
        """All views of the images."""
        names, device = self.recipe.augment, self.rows.device
        numbers = torch.arange(num_views(names), device=device).unsqueeze(1).expand(-1, len(self.rows))
        return StoredViews(self._options(names, None, TABLE_FORMAT), numbers, TABLE_FORMAT)

    @torch.no_grad()
    def load(self, teacher: LoadedTeacher, views: StoredViews, computed_for: str) -> Tensor:
        """Load the outputs of a teacher, (views, images, classes), or compute and store them.

        `computed_for` is the trial to which the time is attributed. A table is computed again if it is missing or corrupted,
        and completed if a stop interrupted it.

        Raises:
            UserError: If the table has another origin, or if the teacher outputs other numbers.
            RunInterrupted: If a stop is requested. The complete views are stored.
        """
        path = views.options.path(teacher.folder)
        origin = self._origin(teacher, views.options)
        count = 1 if views.numbers is None else len(views.numbers)
        shape = (count, len(self.rows), teacher.network.architecture.classes)
        table = torch.empty(shape, device=self.rows.device, dtype=views.dtype)
        if _read(path, origin, table)[0] < count:
            with file_lock(path.with_name(f".{path.name}.lock"), self._check_stop):
                done, seconds = _read(path, origin, table)  # another worker may have computed it
                if done < count:
                    self._fill(_Task(path, origin, teacher, views, computed_for, seconds), table, done)
        self._verify(path, teacher, views, table)
        return table

    def _fill(self, task: "_Task", table: Tensor, done: int) -> None:
        """Compute the views from `done` on, and store the table."""
        started, view = time.monotonic(), done
        try:
            for view in range(done, len(table)):
                for start in range(0, len(self.rows), TEACHER_BATCH):
                    self._check_stop()
                    some = torch.arange(start, min(start + TEACHER_BATCH, len(self.rows)), device=self.rows.device)
                    table[view, some] = task.teacher(self._batch(task.views, some, view)).to(table.dtype)
                if table.dtype == TABLE_FORMAT and not bool(table[view].isfinite().all()):
                    text = f"trial {task.teacher.trial[:12]}: its outputs are too large for a table of all views"
                    raise UserError("out-of-range", f"{text}. Use distillation.targets: on_the_fly.")
        except RunInterrupted:
            if view > done:
                with contextlib.suppress(OSError, CorruptFileError):  # it only saves time
                    task.save(table[:view].cpu(), time.monotonic() - started)
            raise
        stored = table.cpu()  # waits for the device
        task.save(stored, time.monotonic() - started)

    def _check_stop(self) -> None:
        if (signum := self.stop()) is not None:
            raise RunInterrupted(signum)

    def _verify(self, path: Path, teacher: LoadedTeacher, views: StoredViews, table: Tensor) -> None:
        """Compute the outputs for random pairs of image and view, and compare them with the table."""
        generator = torch.Generator().manual_seed(self.recipe.seed % 2**63)
        count = min(CHECKED, len(table) * len(self.rows))
        view, some = (
            torch.randint(size, (count,), generator=generator).to(self.rows.device)
            for size in (len(table), len(self.rows))
        )
        outputs, stored = teacher(self._batch(views, some, view)).double(), table[view, some].double()
        errors = (outputs - stored).abs().amax(1) / outputs.abs().amax(1).clamp(min=1)
        wrong = int((~(errors <= TOLERANCES[table.dtype])).sum())
        if wrong:
            text = f"{path}: the teacher outputs other numbers than the table for {wrong} of {count} images"
            raise UserError("stale-table", f"{text}. Remove {path}, then run again.")

    def _batch(self, views: StoredViews, some: Tensor, view: int | Tensor) -> Tensor:
        """Return normalized views (n, c, h, w) of the images in rows `some`: the same view of all, or one view each."""
        pictures = self.images.images[self.rows[some]]
        if views.numbers is not None:
            numbers = views.numbers[view, some]
            pictures = apply_views(pictures.unsqueeze(0), numbers.unsqueeze(0), views.options.augment)[0]
        return self.images.normalize(pictures)

    def _options(self, augment: tuple[str, ...], seed: int | None, dtype: torch.dtype) -> TableOptions:
        formats = f"{dtype} of {self.images.mean.dtype}".replace("torch.", "")
        return TableOptions(self.recipe.data, self.recipe.limit, augment, seed, formats)

    def _origin(self, teacher: LoadedTeacher, options: TableOptions) -> TableOrigin:
        mean, scale = (tuple(each.flatten().tolist()) for each in (self.images.mean, self.images.scale))
        return TableOrigin(teacher.trial, teacher.weights, options, *self._digests, mean, scale)

    @cached_property
    def _digests(self) -> tuple[str, str]:
        """SHA-256 of the images, and of their indices."""
        images = hashlib.sha256()
        for rows in self.rows.split(TEACHER_BATCH):  # not all at once, which would copy the dataset
            images.update(_bytes(self.images.images[rows]))
        return images.hexdigest(), hashlib.sha256(_bytes(self.rows)).hexdigest()


@dataclass(frozen=True)
class _Task:
    """A table to compute; `seconds` were spent on it before an interruption."""

    path: Path
    origin: TableOrigin
    teacher: LoadedTeacher
    views: StoredViews
    computed_for: str
    seconds: float

    def save(self, table: Tensor, seconds: float) -> None:
        """Write the table, or its first views."""
        metadata = {"computed_for": self.computed_for, "seconds": self.seconds + seconds}
        save_checked(self.path, {"logits": table}, {"origin": self.origin.plain, **metadata})


def _read(path: Path, origin: TableOrigin, table: Tensor) -> tuple[int, float]:
    """Read the stored views into `table`: their number, and the seconds spent on them; 0 if there are none or if corrupted."""
    try:
        stored, metadata = load_checked(path)
    except CorruptFileError:
        return 0, 0.0
    origin.check(path, metadata)
    done = len(stored["logits"])
    table[:done] = stored["logits"].to(table.device)
    return done, float(metadata["seconds"])


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.cpu().contiguous().numpy().data
