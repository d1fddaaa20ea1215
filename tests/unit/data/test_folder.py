"""Folders of images: classes, sizes, colors, the test split, and every kind of unusable file."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fathomlab.base.errors import UserError
from fathomlab.data import folder as folder_module
from fathomlab.data.folder import Folder

RED, GREEN = (255, 0, 0), (0, 255, 0)


def save(path: Path, color: Any = RED, size: tuple[int, int] = (4, 4), mode: str = "RGB") -> Path:
    """Write an image of one color."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes with 5 training images and one test image each."""
    for name, color in (("b", GREEN), ("a", RED)):
        for number in range(5):
            save(tmp_path / "photos" / "train" / name / f"{number}.png", color)
        save(tmp_path / "photos" / "test" / name / "0.jpg", color)
    return tmp_path / "photos"


def read(photos: Path, **options: Any) -> Any:
    """The arrays of the folder."""
    return Folder(photos.name, **options).read(photos.parent)


def test_folder_reads_classes_in_the_order_of_their_names(photos: Path) -> None:
    """Hidden files, other files, and hidden folders are ignored; links to files are read."""
    for name in (".hidden.png", "notes.txt", "Thumbs.db", ".cache/x.png"):
        path = photos / "train" / "a" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("no image")
    (photos / "train" / ".git").mkdir()
    (photos / "train" / "a" / "link.png").symlink_to(photos / "train" / "a" / "0.png")
    arrays = read(photos)
    assert arrays.class_names == ("a", "b")
    assert arrays.train_images.shape == (11, 3, 4, 4)
    assert arrays.train_labels.tolist() == [0] * 6 + [1] * 5
    assert arrays.train_images[0, :, 0, 0].tolist() == list(RED)
    assert arrays.test_labels.tolist() == [0, 1]


def test_classes_are_sorted_whatever_the_order_of_the_disk(photos: Path) -> None:
    for name in "hgcfde":
        save(photos / "train" / name / "0.png")
    assert read(photos).class_names == tuple("abcdefgh")


def test_gray_images_have_one_channel(photos: Path) -> None:
    save(photos / "train" / "a" / "alpha.png", (*RED, 10), mode="RGBA")
    save(photos / "train" / "a" / "palette.gif", 3, mode="P")
    save(photos / "train" / "a" / "bits.png", 1, mode="1")
    arrays = read(photos, color="gray")
    assert arrays.train_images.shape == (13, 1, 4, 4)
    assert arrays.train_images[0, 0, 0, 0] == 76  # 299 R / 1000
    assert read(photos).train_images.shape == (13, 3, 4, 4)


def test_size_resizes_the_shorter_side_and_cuts_out_the_center(photos: Path) -> None:
    """An image of 40 x 20 with a red center is reduced to the center."""
    image = Image.new("RGB", (40, 20), GREEN)
    image.paste(RED, (10, 0, 30, 20))
    image.save(photos / "train" / "a" / "0.png")
    first = read(photos, size=5).train_images[0]
    assert first.shape == (3, 5, 5)
    assert first[:, 2, 2].tolist() == list(RED)
    assert first[0, :, 1:4].min() == 255
    same = read(photos, size=4)
    assert same.train_images[1, :, 3, 3].tolist() == list(RED)


def test_orientation_of_a_camera_is_applied(photos: Path) -> None:
    image = Image.new("RGB", (4, 4), GREEN)
    image.putpixel((0, 0), RED)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(photos / "train" / "a" / "0.png", exif=exif)
    assert read(photos).train_images[0, :, 3, 3].tolist() == list(RED)


def test_test_set_is_split_off_in_proportion(photos: Path) -> None:
    """The same for each call; the rest is for training."""
    for path in (photos / "test").rglob("*.jpg"):
        path.unlink()
    for name in ("a", "b", ""):
        (photos / "test" / name).rmdir()
    for number in range(10):
        save(photos / "train" / "a" / f"more{number}.png", (number, 0, 0))
    arrays, again = read(photos), read(photos)
    assert np.bincount(arrays.test_labels).tolist() == [3, 1]
    assert np.bincount(arrays.train_labels).tolist() == [12, 4]
    assert np.array_equal(arrays.test_images, again.test_images)
    assert np.bincount(read(photos, test_percent=50).test_labels).sum() == 10
    for number in (1, 2, 3, 4):
        (photos / "train" / "b" / f"{number}.png").unlink()
    with pytest.raises(UserError) as caught:
        read(photos, test_percent=90)
    assert caught.value.code == "no-images"


def corrupt(photos: Path) -> None:
    (photos / "train" / "a" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 50)


def truncate(photos: Path) -> None:
    path = save(photos / "train" / "a" / "0.png", RED, (64, 64))
    path.write_bytes(path.read_bytes()[:-30])


def broken_link(photos: Path) -> None:
    (photos / "train" / "a" / "0.png").unlink()
    (photos / "train" / "a" / "0.png").symlink_to("nowhere.png")


def pipe(photos: Path) -> None:
    (photos / "train" / "a" / "0.png").unlink()
    os.mkfifo(photos / "train" / "a" / "0.png")


def deep(photos: Path) -> None:
    save(photos / "train" / "a" / "0.png", 40_000, mode="I;16")


def other_size(photos: Path) -> None:
    save(photos / "train" / "a" / "0.png", size=(4, 5))


def other_size_in_test(photos: Path) -> None:
    for name in ("a", "b"):
        save(photos / "test" / name / "0.jpg", size=(6, 6))


def unknown_class(photos: Path) -> None:
    save(photos / "test" / "c" / "0.png")


def empty_class(photos: Path) -> None:
    (photos / "train" / "c").mkdir()


def one_class(photos: Path) -> None:
    (photos / "train" / "b").rename(photos / "b")
    (photos / "test" / "b").rename(photos / "c")


def no_train(photos: Path) -> None:
    (photos / "train").rename(photos / "training")


def no_classes(photos: Path) -> None:
    for name in ("a", "b"):
        (photos / "train" / name).rename(photos / name)


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        (corrupt, "unreadable-image", "0.png"),
        (truncate, "unreadable-image", "0.png"),
        (broken_link, "unreadable-image", "0.png"),
        (pipe, "unreadable-image", "0.png"),
        (deep, "unreadable-image", "0.png"),
        (other_size, "data-mismatch", "png"),
        (other_size_in_test, "data-mismatch", "photos"),
        (unknown_class, "data-mismatch", "test/c"),
        (empty_class, "no-images", "train/c"),
        (one_class, "no-images", "train"),
        (no_classes, "no-images", "train"),
        (no_train, "no-such-folder", "train"),
    ],
)
def test_unusable_folders_are_rejected(photos: Path, change: Callable[[Path], None], code: str, named: str) -> None:
    change(photos)
    with pytest.raises(UserError) as caught:
        read(photos)
    assert caught.value.code == code
    assert named in str(caught.value)


def test_huge_images_are_rejected_before_decoding(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the header, without memory for the pixels, and without a warning of Pillow."""
    save(photos / "train" / "a" / "0.png", 1, (9_000, 9_000), "1")
    with pytest.raises(UserError, match=r"0\.png.*9000 x 9000") as caught:
        read(photos, size=4)
    assert caught.value.code == "unreadable-image"
    monkeypatch.setattr(folder_module, "MAX_PIXELS", 10**9)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)
    with pytest.raises(UserError) as caught:
        read(photos, size=4)
    assert caught.value.code == "unreadable-image"
