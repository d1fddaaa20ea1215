"""A user's folder of images, one folder per class, read with Pillow."""

import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final

from annotated_types import Interval

from fathomlab.base.errors import UserError
from fathomlab.base.output import escape_control_chars
from fathomlab.data.arrays import Arrays

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
MAX_PIXELS = 2**26
MODES = {"rgb": "RGB", "gray": "L"}
DEEP = ("I", "F")  # Pillow clips more than 8 bits instead of scaling them


@final
@dataclass(frozen=True)
class Folder:
    """Your images: files `train/CLASS/*.png` and `test/CLASS/*.png` (or .jpg, .bmp, .gif, .tif, .webp, .ppm) below `path`.

    The classes are the sorted names of the folders. Hidden files and other file types are ignored. Without a folder `test`,
    `test_percent` of the images are the test set: every class in proportion, the same images for every seed.

    Attributes:
        path: The folder, relative to the experiment file. It is not part of a trial's identity; the images are.
        size: Height and width (pixels): the shorter side is resized to it (bilinear, antialiased), then the center is cut out.
            Without it, all images must have the same size.
        color: `rgb`, or `gray` for one channel. Transparency is dropped.
        test_percent: Images for the test (%), if there is no folder `test`.
    """

    path: str
    size: Annotated[int, Interval(ge=1, le=1024)] | None = None
    color: Literal["rgb", "gray"] = "rgb"
    test_percent: Annotated[float, Interval(ge=1, le=90)] = 20.0

    test_options: ClassVar[Mapping[str, object]] = {"path": "photos", "size": 8}
    option_of_source: ClassVar[str] = "params.path"  # where problems are located

    @property
    def title(self) -> str:
        """Name for people."""
        return f"folder {escape_control_chars(Path(self.path).name or self.path)}"

    def read(self, directory: Path) -> Arrays:
        """Read the images.

        Args:
            directory: The folder that `path` is relative to.

        Raises:
            UserError: If a folder is missing or has no images, or an image cannot be used; names it.
        """
        import numpy as np

        from fathomlab.data.split import split_off_test

        try:
            root = directory / Path(self.path).expanduser()
        except RuntimeError:  # ~NAME without such a user
            raise UserError("no-such-folder", f"{self.path}: no such home directory") from None
        names, images, labels = self._split(root, "train", ())
        if len(names) < 2:
            raise UserError("no-images", f"{_shown(root / 'train')}: must have two folders or more, one per class")
        if (root / "test").is_dir():
            _, test_images, test_labels = self._split(root, "test", names)
            if test_images.shape[1:] != images.shape[1:]:
                shapes = f"{images.shape[1:]} for training and {test_images.shape[1:]} for the test"
                raise UserError(
                    "data-mismatch", f"{_shown(root)}: images of different shapes: {shapes}. Set params.size"
                )
            return Arrays(images, labels, test_images, test_labels, names)
        train, test = split_off_test(labels, self.test_percent)
        if not len(test) or len(np.unique(labels[train])) < len(names):
            text = f"{len(labels)} images of {len(names)} classes are too few for a test set of {self.test_percent:g}%"
            raise UserError("no-images", f"{_shown(root)}: {text}. Add images, or a folder test")
        return Arrays(images[train], labels[train], images[test], labels[test], names)

    def _split(
        self, root: Path, split: str, names: tuple[str, ...]
    ) -> "tuple[tuple[str, ...], np.ndarray, np.ndarray]":
        """Classes, images (n, c, h, w), and labels (n,) below `train` or `test`. `names` are the classes of `train`."""
        import numpy as np

        folders = _class_folders(root / split)
        unknown = [folder.name for folder in folders if folder.name not in names]
        if names and unknown:
            text = f"no training images of this class; the folders of train are {', '.join(names)}"
            raise UserError("data-mismatch", f"{_shown(root / split / unknown[0])}: {text}")
        names = names or tuple(folder.name for folder in folders)
        files = [(path, names.index(folder.name)) for folder in folders for path in _image_files(folder)]
        if not files:
            raise UserError("no-images", f"{_shown(root / split)}: no images in the folders of the classes")
        first = self._pixels(files[0][0])
        images = np.empty((len(files), *first.shape), np.uint8)
        for index, (path, _) in enumerate(files):
            pixels = self._pixels(path)
            if pixels.shape != first.shape:
                height, width = pixels.shape[1:]
                text = f"{width} x {height} pixels, others have {first.shape[2]} x {first.shape[1]}. Set params.size"
                raise UserError("data-mismatch", f"{_shown(path)}: {text}")
            images[index] = pixels
        return names, images, np.array([label for _, label in files], np.int64)

    def _pixels(self, path: Path) -> "np.ndarray":
        """One image, uint8 (c, h, w).

        Raises:
            UserError: If it cannot be read.
        """
        import numpy as np
        from PIL import Image, ImageOps

        try:
            if path.exists() and not path.is_file():
                raise ValueError("not a regular file")  # a pipe would be waited for
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # such as a large image, which is judged below
                with Image.open(path) as image:
                    if image.width * image.height > MAX_PIXELS:
                        raise ValueError(f"{image.width} x {image.height} pixels; at most {MAX_PIXELS:,} are supported")
                    if image.mode.startswith(DEEP):
                        raise ValueError("more than 8 bits per channel; convert it to 8 bits")
                    upright = ImageOps.exif_transpose(image).convert(MODES[self.color])
            pixels = np.asarray(upright if self.size is None else _resized(upright, self.size))
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            reason = getattr(error, "strerror", None) or str(error).replace(str(path), path.name)
            raise UserError("unreadable-image", f"{_shown(path)}: cannot be read: {reason}") from None
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _resized(image: "Image", size: int) -> "Image":
    """The center square of an image whose shorter side is resized to `size`."""
    from PIL.Image import Resampling

    shorter = min(image.size)
    width, height = (max(size, round(side * size / shorter)) for side in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))


def _class_folders(folder: Path) -> list[Path]:
    """The folders of the classes, sorted by name, each with at least one image."""
    if not folder.is_dir():
        text = "no such folder. The images of a class are expected in train/CLASS"
        raise UserError("no-such-folder", f"{_shown(folder)}: {text}")
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith(".") and (folder / name).is_dir())
    except OSError as error:
        raise UserError("unreadable-file", f"{_shown(folder)}: cannot be read: {error.strerror}") from None
    for name in names:
        if next(_image_files(folder / name), None) is None:
            raise UserError("no-images", f"{_shown(folder / name)}: no images ({', '.join(SUFFIXES)})")
    return [folder / name for name in names]


def _image_files(folder: Path) -> Iterator[Path]:
    """The images below a folder, sorted by path. Links to files are read, links to folders are not followed."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and name.lower().endswith(SUFFIXES):
                yield Path(parent, name)


def _shown(path: Path) -> str:
    return escape_control_chars(str(path))
