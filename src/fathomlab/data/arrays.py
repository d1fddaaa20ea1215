"""Users' images and labels, validated once, and their identity and facts."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fathomlab.base.errors import UserError, format_value
from fathomlab.base.output import escape_control_chars
from fathomlab.data.table import DatasetInfo

if TYPE_CHECKING:
    import numpy as np

MAX_CLASSES = 2**16
MAX_NAME = 200  # characters of a class name
FIELDS = ("train_images", "train_labels", "test_images", "test_labels")
CHUNK = 2**22  # bytes of images whose pixels are counted together


@dataclass(frozen=True, eq=False)
class Arrays:
    """Images and labels for training and for the test: your own dataset.

    uint8 images are scaled to 0..1 and normalized with mean and standard deviation of all training images, per channel. A channel
    that is constant in the training images is only centered. float32 images are used as given.

    Attributes:
        train_images: NumPy array or torch tensor, uint8 or float32, shape (n, c, h, w).
        train_labels: Integers, shape (n,). The classes are 0 to k - 1, and each of them has a training image.
        test_images: As `train_images`: same dtype and same image shape.
        test_labels: As `train_labels`. Classes may be missing.
        class_names: One name per class; "0", "1", ... by default.

    Raises:
        UserError: If the arrays are not as described. All are stored as contiguous NumPy arrays, labels as int64.

    Example:
        >>> import numpy as np
        >>> images, labels = np.zeros((4, 1, 8, 8), np.uint8), np.array([0, 1, 0, 1])
        >>> Arrays(images, labels, images[:2], labels[:2]).classes
        2
    """

    train_images: Any
    train_labels: Any
    test_images: Any
    test_labels: Any
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Validate, and convert what is not contiguous."""
        for split in ("train", "test"):
            images = _images(f"{split}_images", getattr(self, f"{split}_images"))
            labels = _labels(f"{split}_labels", getattr(self, f"{split}_labels"))
            if len(images) != len(labels):
                text = f"{split}_labels: must have one label per image, got {len(labels)} for {len(images)} images"
                raise UserError("data-mismatch", text)
            object.__setattr__(self, f"{split}_images", images)
            object.__setattr__(self, f"{split}_labels", labels)
        train, test = self.train_images, self.test_images
        if train.shape[1:] != test.shape[1:]:
            text = f"test_images: must have the shape of the training images {train.shape[1:]}, got {test.shape[1:]}"
            raise UserError("data-mismatch", text)
        if train.dtype != test.dtype:
            text = f"test_images: must have the dtype of the training images {train.dtype}, got {test.dtype}"
            raise UserError("data-mismatch", text)
        self._check_classes()
        object.__setattr__(self, "class_names", _class_names(self.class_names, self.classes))

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.train_labels.max()) + 1

    @property
    def by_name(self) -> "dict[str, np.ndarray]":
        """The four arrays."""
        return {name: getattr(self, name) for name in FIELDS}

    def _check_classes(self) -> None:
        import numpy as np

        classes = np.unique(self.train_labels)
        if classes[0] < 0 or classes[-1] >= MAX_CLASSES:
            got = classes[0] if classes[0] < 0 else classes[-1]
            raise UserError("invalid-label", f"train_labels: must be from 0 to {MAX_CLASSES - 1:,}, got {got}")
        if len(classes) < 2:
            text = f"train_labels: must have at least two classes, 0 and 1, got only {classes[0]}"
            raise UserError("invalid-label", text)
        if len(classes) <= classes[-1]:
            missing = int(np.setdiff1d(np.arange(classes[-1]), classes)[0])
            text = (
                f"train_labels: must be 0 to k - 1 without gaps, got no image of class {missing} of {classes[-1] + 1}"
            )
            text += ". Count from 0: labels - 1" if missing == 0 else ""
            raise UserError("invalid-label", text)
        wrong = self.test_labels[(self.test_labels < 0) | (self.test_labels > classes[-1])]
        if len(wrong):
            text = f"test_labels: must be a class of the training images, from 0 to {classes[-1]}, got {wrong[0]}"
            raise UserError("invalid-label", text)


def content_sha256(arrays: "Mapping[str, np.ndarray]") -> str:
    """SHA-256 of names, dtypes, shapes, and bytes of the four arrays, which must be contiguous."""
    digest = hashlib.sha256()
    for name in FIELDS:
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def describe(arrays: Arrays, name: str, title: str) -> DatasetInfo:
    """Facts about a dataset. Mean and standard deviation of uint8 images are exact; float32 images have 0 and 1."""
    channels, height, width = arrays.train_images.shape[1:]
    mean, std = _mean_and_std(arrays.train_images)
    return DatasetInfo(
        name=name,
        title=title,
        channels=channels,
        height=height,
        width=width,
        classes=arrays.classes,
        class_names=arrays.class_names,
        train_examples=len(arrays.train_images),
        test_examples=len(arrays.test_images),
        mean=mean,
        std=std,
        source="",
        license="",
    )


def _images(name: str, value: object) -> "np.ndarray":
    import numpy as np

    images = _as_array(name, value)
    if images.dtype not in (np.uint8, np.float32):
        fix = "" if images.dtype.kind not in "fiu" else ", such as images.astype(np.float32)"
        raise UserError("invalid-dtype", f"{name}: must be uint8 or float32, got {images.dtype}. Convert them{fix}")
    if images.ndim != 4:
        fix = ". Add the channel axis: images[:, None]" if images.ndim == 3 else ""
        text = f"{name}: must have the shape (n, channels, height, width), got {images.shape}{fix}"
        raise UserError("invalid-shape", text)
    if not images.size:
        raise UserError("no-images", f"{name}: must not be empty, got shape {images.shape}")
    _, first, second, last = images.shape
    if first > 4 and (last in (3, 4) or (last == 1 and first == second)):
        fix = "Move the channels to the front: images.transpose(0, 3, 1, 2)"
        raise UserError("invalid-shape", f"{name}: must have the channels before height, got {images.shape}. {fix}")
    images = np.ascontiguousarray(images)
    if images.dtype == np.float32:
        with np.errstate(all="ignore"):
            if not np.isfinite([images.min(), images.max()]).all():  # NaN is minimum and maximum
                sums = images.reshape(len(images), -1).sum(1, dtype=np.float64)
                got = f"NaN or infinity in image {np.flatnonzero(~np.isfinite(sums))[0]}"
                raise UserError("not-finite", f"{name}: must be finite, got {got}")
    return images


def _labels(name: str, value: object) -> "np.ndarray":
    import numpy as np

    labels = _as_array(name, value)
    if labels.dtype.kind not in "iu":
        raise UserError("invalid-dtype", f"{name}: must be integers, got {labels.dtype}")
    if labels.ndim != 1:
        text = f"{name}: must have the shape (n,), got {labels.shape}"
        fix = ". Use labels.argmax(1) for one-hot labels" if labels.ndim == 2 and labels.shape[1] > 1 else ""
        raise UserError("invalid-shape", text + fix)
    return np.ascontiguousarray(labels, dtype=np.int64)


def _as_array(name: str, value: Any) -> "np.ndarray":
    """A NumPy array, or the values of a torch tensor, which share its memory if it is on the CPU."""
    import numpy as np

    if hasattr(value, "detach") and hasattr(value, "cpu"):
        try:
            value = value.detach().cpu().numpy()
        except (TypeError, RuntimeError) as error:  # NumPy lacks bfloat16 and sparse tensors
            raise UserError("invalid-dtype", f"{name}: {error}") from None
    if not isinstance(value, np.ndarray):
        raise UserError("wrong-type", f"{name}: must be a NumPy array or a torch tensor, got {type(value).__name__}")
    return value


def _class_names(names: Any, classes: int) -> tuple[str, ...]:
    names = tuple(names) or tuple(map(str, range(classes)))
    if not all(isinstance(name, str) for name in names):
        raise UserError("wrong-type", f"class_names: must be strings, got {format_value(names)}")
    if longest := next((name for name in names if len(name) > MAX_NAME), None):
        raise UserError(
            "wrong-type", f"class_names: must have at most {MAX_NAME} characters, got {format_value(longest)}"
        )
    if len(names) != classes or len(set(names)) < classes:
        text = f"class_names: must be {classes} different names, one per class, got {format_value(names)}"
        raise UserError("data-mismatch", text)
    return tuple(map(escape_control_chars, names))


def _mean_and_std(images: "np.ndarray") -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, for pixels from 0 to 1. A standard deviation of zero becomes 1."""
    import numpy as np

    channels = images.shape[1]
    if images.dtype != np.uint8:
        return (0.0,) * channels, (1.0,) * channels
    counts, step = np.zeros((channels, 256), np.int64), max(1, CHUNK // images[0].size)
    for start in range(0, len(images), step):
        for channel in range(channels):
            counts[channel] += np.bincount(images[start : start + step, channel].ravel(), minlength=256)
    means, deviations = [], []
    for row in counts.tolist():  # sums of integers, which are exact
        total = sum(row)
        first = sum(count * pixel for pixel, count in enumerate(row))
        second = sum(count * pixel**2 for pixel, count in enumerate(row))
        means.append(first / total / 255)
        deviations.append((total * second - first**2) ** 0.5 / total / 255 or 1.0)
    return tuple(means), tuple(deviations)
