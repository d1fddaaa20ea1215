"""Objects that a Python program passes as data: `Arrays`, or datasets as torch and torchvision have them."""

from typing import TYPE_CHECKING, Any

from fathomlab.base.errors import UserError, format_value
from fathomlab.base.generators import IMPORT_SEED, seeded
from fathomlab.data.arrays import Arrays

if TYPE_CHECKING:
    import numpy as np

    Pairs = tuple[np.ndarray, np.ndarray]

TEST_PERCENT = 20.0  # of a single dataset
SUPPORTED = "fathomlab.Arrays, a dataset of (image, label) pairs, or the two datasets (train, test)"


def as_arrays(data: Any) -> Arrays:
    """Return the images and labels of an object.

    A dataset has `len(dataset)` and `dataset[index]`, a pair of an image and a label, as datasets of torch and torchvision have.
    An image is a torch tensor or NumPy array (channels, height, width), or a Pillow image. A single dataset is split: 20% of
    each class are the test set. All random generators are seeded, so that random transforms give the same images each time.

    Args:
        data: `Arrays`, a dataset, or a tuple of a training and a test dataset.

    Raises:
        UserError: If it is something else, or the images or labels cannot be used.
    """
    if isinstance(data, Arrays):
        return data
    if isinstance(data, tuple) and len(data) == 2 and all(map(_is_dataset, data)):
        with seeded(IMPORT_SEED):
            train, test = _pairs(data[0], "train"), _pairs(data[1], "test")
        return _named(train, test, _names(data[0]))
    if isinstance(data, tuple) or not _is_dataset(data):
        raise UserError("wrong-type", f"data must be {SUPPORTED}, got {format_value(type(data).__name__)}")
    from fathomlab.data.split import split_off_test

    with seeded(IMPORT_SEED):
        images, labels = _pairs(data, "data")
    rows, test_rows = split_off_test(labels, TEST_PERCENT)
    if not len(test_rows):
        raise UserError("no-images", f"data: {len(labels)} images are too few for a test set of {TEST_PERCENT:g}%")
    return _named((images[rows], labels[rows]), (images[test_rows], labels[test_rows]), _names(data))


def _is_dataset(value: Any) -> bool:
    is_array = hasattr(value, "dtype") or isinstance(value, str | bytes | dict)
    return hasattr(value, "__len__") and hasattr(value, "__getitem__") and not is_array


def _pairs(dataset: Any, name: str) -> "Pairs":
    """Images (n, c, h, w) and labels (n,) of a dataset."""
    import numpy as np

    if not len(dataset):
        raise UserError("no-images", f"{name}: must not be empty")
    labels, images = np.empty(len(dataset), np.int64), np.empty(0)
    for index in range(len(dataset)):
        item = dataset[index]
        if not isinstance(item, tuple | list) or len(item) != 2:
            got = f"{type(item).__name__} of {len(item)}" if isinstance(item, tuple | list) else type(item).__name__
            raise UserError("wrong-type", f"{name}[{index}]: must be a pair of an image and a label, got {got}")
        pixels = _pixels(item[0], f"{name}[{index}]")
        if index == 0:
            images = np.empty((len(dataset), *pixels.shape), pixels.dtype)
        elif (pixels.shape, pixels.dtype) != (images.shape[1:], images.dtype):
            expected, got = (
                f"{shape} {dtype}" for shape, dtype in ((images.shape[1:], images.dtype), (pixels.shape, pixels.dtype))
            )
            raise UserError("data-mismatch", f"{name}[{index}]: must be as the first image, {expected}, got {got}")
        images[index], labels[index] = pixels, _label(item[1], f"{name}[{index}]")
    return images, labels


def _pixels(image: Any, where: str) -> "np.ndarray":
    """An image as an array (c, h, w)."""
    import numpy as np

    if hasattr(image, "detach"):
        image = image.detach().cpu().numpy()
    elif hasattr(image, "convert") and hasattr(image, "mode"):  # of Pillow
        pixels = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    if not isinstance(image, np.ndarray) or image.ndim not in (2, 3):
        got = type(image).__name__ if not isinstance(image, np.ndarray) else f"shape {image.shape}"
        text = f"must be an image (channels, height, width), as a torch tensor, NumPy array, or Pillow image, got {got}"
        raise UserError("wrong-type", f"{where}: {text}")
    return image[None] if image.ndim == 2 else image


def _label(label: Any, where: str) -> int:
    """A label as an integer: a Python integer, or a NumPy or torch scalar of an integer type."""
    value = label.item() if hasattr(label, "item") and label.ndim == 0 else label
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError("invalid-dtype", f"{where}: the label must be an integer, got {format_value(label)}")
    return value


def _names(dataset: Any) -> tuple[str, ...]:
    """The names of the classes, as datasets of torchvision have them; empty without."""
    names = getattr(dataset, "classes", ())
    return tuple(names) if isinstance(names, tuple | list) and all(isinstance(name, str) for name in names) else ()


def _named(train: "Pairs", test: "Pairs", names: tuple[str, ...]) -> Arrays:
    """The arrays, with names of classes if there is one per class."""
    classes = int(train[1].max()) + 1
    return Arrays(*train, *test, names if len(set(names)) == len(names) == classes else ())
