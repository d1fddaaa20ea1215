"""Tables of a teacher's outputs, next to its weights: names, origins, and sizes. No torch.

A table is a cache: it can be deleted. Its name contains a digest of the options that it was computed with, so that students with
other options have other tables. Its metadata contains its origin, which also has what must not change under one name.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from fathomlab.base.codec import JsonObject
from fathomlab.base.errors import UserError
from fathomlab.base.identity import content_hash

if TYPE_CHECKING:
    from fathomlab.plan import Trial

PATTERN = "logits*.sealed"
VERSION = 1
DIGITS = 16


@dataclass(frozen=True)
class TableOptions:
    """What decides which outputs a table contains.

    Attributes:
        data: What identifies the dataset, as canonical JSON.
        limit: Number of training images; None for all.
        augment: Names of augmentations; empty for images without augmentation.
        seed: Seed of the random view of each image; None for all views.
        format: Number format of the outputs.
    """

    data: str
    limit: int | None
    augment: tuple[str, ...]
    seed: int | None
    format: str

    def path(self, folder: Path) -> Path:
        """The file of the table in the folder of a teacher's trial."""
        return folder / f"logits-{content_hash(asdict(self))[:DIGITS]}.sealed"


@dataclass(frozen=True)
class TableOrigin:
    """What a table was computed from. Tables of another origin are refused.

    Attributes:
        trial: Hash of the teacher's trial.
        weights: SHA-256 of the file with its weights.
        options: What decides which outputs it contains.
        images: SHA-256 of the images, as they are stored.
        rows: SHA-256 of their indices in the dataset.
        mean: Mean per channel that is subtracted.
        scale: Factor per channel by which images are multiplied.
        version: Version of the table format and of the numbering of views.
    """

    trial: str
    weights: str
    options: TableOptions
    images: str
    rows: str
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    version: int = VERSION

    @property
    def plain(self) -> JsonObject:
        """As in the metadata of the table."""
        return json.loads(json.dumps(asdict(self)))

    def check(self, path: Path, metadata: JsonObject) -> None:
        """Compare with the metadata of a table.

        Raises:
            UserError: If the table has another origin.
        """
        expected, recorded = self.plain, metadata.get("origin")
        found: JsonObject = cast(JsonObject, recorded) if isinstance(recorded, dict) else {}
        if different := sorted(key for key in {*expected, *found} if expected.get(key) != found.get(key)):
            text = f"{path}: the teacher's outputs were computed with other {', '.join(different)}"
            raise UserError("stale-table", f"{text}. Remove {path}, then run again.")


def table_seconds(root: Path, trial: "Trial") -> float | None:
    """Time in which tables of its teachers were computed for a trial (s); None if all were loaded.

    It includes the time before an interruption, because it is read from the tables.
    """
    seconds = 0.0
    for teacher in trial.teachers:
        for path in (root / "trials" / teacher.hash).glob(PATTERN):
            try:
                with open(path, "rb") as file:
                    file.readline()
                    metadata = json.loads(file.readline())
            except (OSError, ValueError):  # a cache may be removed or corrupted at any time
                continue
            known: JsonObject = cast(JsonObject, metadata) if isinstance(metadata, dict) else {}
            if known.get("computed_for") == trial.hash:
                seconds += float(known.get("seconds", 0))
    return seconds or None
