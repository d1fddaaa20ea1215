"""Generated shapes: the same bytes everywhere, and images that show what their labels say."""

import hashlib

import numpy as np

from fathomlab.data.render import render_images
from fathomlab.data.shapes import Shapes

PINNED = "cf75e6930d4495384cacb31e93c8b30d304ff0557872fd17c21506a8bdfcb364"


def test_shapes_have_pinned_bytes() -> None:
    """SHA-256 of images and labels at difficulty 0.5."""
    arrays = Shapes().load()
    digest = hashlib.sha256(arrays.train_images.tobytes() + arrays.test_images.tobytes())
    digest.update(arrays.train_labels.astype("<i8").tobytes() + arrays.test_labels.astype("<i8").tobytes())
    assert digest.hexdigest() == PINNED
    assert list(arrays.files.values()) == [PINNED]


def test_images_are_independent_of_each_other() -> None:
    many = render_images(np.arange(50), 128)
    assert render_images(np.array([37]), 128).tobytes() == many[37:38].tobytes()


def test_easiest_shapes_are_clean_and_central() -> None:
    """Two colors, and a disc that equals a loop over pixels."""
    images = render_images(np.arange(10), 0)
    for picture in images:
        assert len(np.unique(picture.reshape(3, -1), axis=1).T) == 2
    disc = images[0]
    for y in range(32):
        for x in range(32):
            inside = (2 * x - 31) ** 2 + (2 * y - 31) ** 2 <= 24**2
            assert (disc[:, y, x] == disc[:, 16, 16]).all() == inside


def test_difficulty_adds_noise() -> None:
    """Neighboring pixels differ more, and all images are different."""
    easy, hard = render_images(np.arange(200), 0), render_images(np.arange(200), 256)
    rough = [np.abs(np.diff(images[:, :, 0].astype(int), axis=-1)).mean() for images in (easy, hard)]
    assert rough[0] < 1
    assert rough[1] > 20
    assert len({picture.tobytes() for picture in hard}) == 200
