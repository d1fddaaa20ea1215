"""Generated shapes: the same bytes everywhere, and pictures of what their labels say."""

import hashlib

import numpy as np

from fathomlab.data.shapes import Shapes, pictures

PINNED = "cf75e6930d4495384cacb31e93c8b30d304ff0557872fd17c21506a8bdfcb364"


def test_the_bytes_are_pinned() -> None:
    """SHA-256 over images and labels at difficulty 0.5; whoever changes the pictures changes this on purpose."""
    split = Shapes().load()
    digest = hashlib.sha256(split.train_images.tobytes() + split.test_images.tobytes())
    digest.update(split.train_labels.astype("<i8").tobytes() + split.test_labels.astype("<i8").tobytes())
    assert digest.hexdigest() == PINNED
    assert list(split.files.values()) == [PINNED]


def test_a_picture_does_not_depend_on_the_others() -> None:
    """Alone or among many: the same bytes."""
    many = pictures(np.arange(50), 128)
    assert pictures(np.array([37]), 128).tobytes() == many[37:38].tobytes()


def test_without_difficulty_each_shape_is_clean_and_central() -> None:
    """Two colours, and a disc that a loop over pixels draws as well."""
    made = pictures(np.arange(10), 0)
    for picture in made:
        assert len(np.unique(picture.reshape(3, -1), axis=1).T) == 2
    disc = made[0]
    for y in range(32):
        for x in range(32):
            inside = (2 * x - 31) ** 2 + (2 * y - 31) ** 2 <= 24**2
            assert (disc[:, y, x] == disc[:, 16, 16]).all() == inside


def test_difficulty_adds_noise_and_takes_contrast() -> None:
    """Neighbouring pixels differ more, and no class is drawn twice alike."""
    easy, hard = pictures(np.arange(200), 0), pictures(np.arange(200), 256)
    rough = [np.abs(np.diff(images[:, :, 0].astype(int), axis=-1)).mean() for images in (easy, hard)]
    assert rough[0] < 1
    assert rough[1] > 20
    assert len({picture.tobytes() for picture in hard}) == 200
