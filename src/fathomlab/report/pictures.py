"""Images of a dataset as small PNG files inside a page, as they are before normalization. Nothing is downloaded."""

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fathomlab.data.table import DatasetArrays
from fathomlab.store.datasets import installed_arrays
from fathomlab.store.predictions import read_classes
from fathomlab.store.records import TrialRecord

if TYPE_CHECKING:
    import numpy.typing as npt

MAX_SIDE = 48  # pixels; larger images are reduced


@dataclass(frozen=True)
class Picture:
    """An image of a page.

    Attributes:
        data_uri: The PNG file as a data URI.
    """

    data_uri: str
    width: int
    height: int


def pictures(trial: TrialRecord, indices: Iterable[int], split: Literal["train", "test"]) -> Mapping[int, Picture]:
    """Images of the dataset of a trial by index; empty if the dataset is not on this machine.

    Args:
        trial: The trial. Its stored test labels must be those of the dataset.
        indices: Positions in the training or test set, from 0.
        split: Whether to read training or test images.
    """
    wanted = sorted(set(indices))
    arrays = _arrays(trial) if wanted else None
    if arrays is None:
        return {}
    images = arrays.test_images if split == "test" else arrays.train_images
    return {index: picture(images[index]) for index in wanted if 0 <= index < len(images)}


def picture(image: "npt.NDArray[Any]") -> Picture:
    """An image (c, h, w) as PNG. float32 is scaled to the image's own range; other than 3 channels are averaged."""
    from PIL import Image

    pixels = image.astype(np.float64)
    if image.dtype != np.uint8:
        low, high = pixels.min(), pixels.max()
        pixels = (pixels - low) * (255 / (high - low)) if high > low else np.zeros_like(pixels)
    pixels = np.rint(pixels if len(pixels) == 3 else pixels.mean(0, keepdims=True)).astype(np.uint8)
    drawn = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)) if len(pixels) == 3 else pixels[0])
    drawn.thumbnail((MAX_SIDE, MAX_SIDE))
    target = io.BytesIO()
    drawn.save(target, "PNG", optimize=True)
    text = base64.b64encode(target.getvalue()).decode()
    return Picture(f"data:image/png;base64,{text}", drawn.width, drawn.height)


def _arrays(trial: TrialRecord) -> DatasetArrays | None:
    """The dataset of a trial, if it is the one that the trial was tested on."""
    root, source = trial.folder.parents[1], trial.provenance.data
    arrays = None if trial.labels is None else installed_arrays(root, trial.content)
    if arrays is None or trial.labels is None:
        return None
    labels = read_classes(trial.labels.path(root), trial.labels.sha256)
    recorded = source.files.items() if source is not None else ()
    changed = any(arrays.files.get(name, digest) != digest for name, digest in recorded)
    return None if changed or labels is None or not np.array_equal(labels, arrays.test_labels) else arrays
