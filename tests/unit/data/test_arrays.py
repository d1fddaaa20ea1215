"""Users' arrays: what is accepted, converted, and rejected; identity and normalization."""

from typing import Any

import numpy as np
import pytest
import torch

from fathomlab.base.errors import UserError
from fathomlab.data.arrays import CHUNK, Arrays, content_sha256, describe

IMAGES = np.arange(6 * 2 * 4 * 5, dtype=np.uint8).reshape(6, 2, 4, 5)
LABELS = np.array([0, 1, 2, 0, 1, 2])
VALID = {"train_images": IMAGES, "train_labels": LABELS, "test_images": IMAGES[:2], "test_labels": LABELS[:2]}
DIGEST = "c78adc42a5e55cea791316fcd38531a3bad372aab3ec760c9114be8c4592c4cf"  # stays: it names files in stores
FLOATS = IMAGES.astype(np.float32)
NAN = FLOATS.copy()
NAN[4, 0, 1, 1] = np.nan


def make(**changes: Any) -> Arrays:
    """Arrays as in VALID, with changes."""
    return Arrays(**{**VALID, **changes})


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"train_images": IMAGES.tolist()}, "wrong-type"),
        ({"train_images": None}, "wrong-type"),
        ({"train_images": IMAGES.astype(np.float64)}, "invalid-dtype"),
        ({"train_images": IMAGES.astype(np.int64)}, "invalid-dtype"),
        ({"train_images": IMAGES.astype(object)}, "invalid-dtype"),
        ({"train_images": torch.zeros(6, 2, 4, 5, dtype=torch.bfloat16)}, "invalid-dtype"),
        ({"train_images": IMAGES[:, 0]}, "invalid-shape"),
        ({"train_images": IMAGES.reshape(6, 40)}, "invalid-shape"),
        ({"train_images": np.zeros((6, 28, 28, 1), np.uint8)}, "invalid-shape"),
        ({"train_images": np.zeros((6, 30, 40, 3), np.uint8)}, "invalid-shape"),
        ({"train_images": IMAGES[:0], "train_labels": LABELS[:0]}, "no-images"),
        ({"test_images": IMAGES[:0], "test_labels": LABELS[:0]}, "no-images"),
        ({"train_images": IMAGES[:, :, :, :0]}, "no-images"),
        ({"train_images": NAN, "test_images": FLOATS[:2]}, "not-finite"),
        ({"train_images": FLOATS, "test_images": np.full_like(FLOATS[:2], -np.inf)}, "not-finite"),
        ({"train_labels": LABELS[:5]}, "data-mismatch"),
        ({"test_images": IMAGES[:2, :1]}, "data-mismatch"),
        ({"test_images": FLOATS[:2]}, "data-mismatch"),
        ({"train_labels": LABELS.astype(np.float32)}, "invalid-dtype"),
        ({"train_labels": LABELS > 0}, "invalid-dtype"),
        ({"train_labels": np.eye(3, dtype=int)[LABELS]}, "invalid-shape"),
        ({"train_labels": LABELS - 1}, "invalid-label"),
        ({"train_labels": LABELS + 1}, "invalid-label"),
        ({"train_labels": LABELS * 2}, "invalid-label"),
        ({"train_labels": LABELS + 70_000 * (LABELS == 2)}, "invalid-label"),
        ({"train_labels": LABELS * 0}, "invalid-label"),
        ({"test_labels": np.array([0, 3])}, "invalid-label"),
        ({"test_labels": np.array([0, -1])}, "invalid-label"),
        ({"class_names": ("a", "b")}, "data-mismatch"),
        ({"class_names": ("a", "b", "b")}, "data-mismatch"),
        ({"class_names": (1, 2, 3)}, "wrong-type"),
    ],
)
def test_arrays_reject_what_cannot_be_trained(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(UserError) as caught:
        make(**changes)
    assert caught.value.code == code
    assert any(name in str(caught.value) for name in changes)


def test_arrays_convert_without_needless_copies() -> None:
    """Tensors, other integer labels, and arrays that are not contiguous; classes may be missing in the test."""
    arrays = make(train_images=torch.from_numpy(IMAGES), train_labels=torch.from_numpy(LABELS).int())
    assert np.shares_memory(arrays.train_images, IMAGES)
    assert np.shares_memory(arrays.test_labels, LABELS)
    assert (arrays.train_labels.dtype, arrays.classes) == (np.int64, 3)
    assert arrays.class_names == ("0", "1", "2")
    transposed = make(train_images=IMAGES.transpose(0, 1, 3, 2), test_images=IMAGES[:2].transpose(0, 1, 3, 2))
    assert transposed.train_images.flags.c_contiguous
    assert make(class_names=["a", "b", "\x1b"]).class_names == ("a", "b", "\\x1b")


def test_identity_is_the_content() -> None:
    """Every array counts, with its dtype and shape; names of classes do not."""
    digest = content_sha256(make().by_name)
    assert digest == content_sha256(make(train_images=IMAGES.copy(), class_names=("a", "b", "c")).by_name)
    others = [
        make(train_images=IMAGES.transpose(0, 1, 3, 2), test_images=IMAGES[:2].transpose(0, 1, 3, 2)),
        make(train_labels=LABELS[::-1]),
        make(test_images=IMAGES[2:4]),
        make(test_labels=LABELS[2:4]),
        make(train_images=FLOATS, test_images=FLOATS[:2]),
    ]
    digests = {content_sha256(arrays.by_name) for arrays in others} | {digest}
    assert len(digests) == len(others) + 1
    assert digest == DIGEST


def test_facts_have_mean_and_deviation_per_channel() -> None:
    """As NumPy computes them, over all chunks; a constant channel is only centered, floats are used as given."""
    images = np.random.default_rng(0).integers(0, 256, (300, 3, 128, 128)).astype(np.uint8)
    assert images.nbytes > 2 * CHUNK
    images[:, 2] = 51
    labels = np.arange(300) % 2
    info = describe(Arrays(images, labels, images[:1], labels[:1]), "x", "X")
    scaled = images / 255
    assert info.mean == pytest.approx(scaled.mean((0, 2, 3)), rel=1e-12)
    assert info.std[:2] == pytest.approx(scaled.std((0, 2, 3))[:2], rel=1e-12)
    assert (info.std[2], info.train_examples, info.test_examples, info.is_normalized) == (1.0, 300, 1, True)
    given = describe(make(train_images=FLOATS, test_images=FLOATS[:2]), "x", "X")
    assert (given.mean, given.std, given.is_normalized) == ((0.0, 0.0), (1.0, 1.0), False)
    assert (given.channels, given.height, given.width, given.classes) == (2, 4, 5, 3)
