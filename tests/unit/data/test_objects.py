"""Objects as data: datasets of torch and torchvision, and what is neither."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from fathomlab.base.errors import UserError
from fathomlab.base.generators import IMPORT_SEED, seeded
from fathomlab.data.arrays import content_sha256
from fathomlab.data.objects import as_arrays

IMAGES = torch.arange(20 * 3 * 4 * 4).reshape(20, 3, 4, 4).to(torch.uint8)
LABELS = torch.arange(20) % 2


class Vision(Dataset[Any]):
    """A dataset as torchvision has it: Pillow images, a transform, names of classes."""

    classes = ("cat", "dog")

    def __init__(self, transform: Any = None, mode: str = "RGB"):
        self.transform, self.mode = transform, mode

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> Any:
        if index >= len(self):
            raise IndexError
        image = Image.fromarray(IMAGES[index].permute(1, 2, 0).numpy()).convert(self.mode)
        return (self.transform(image) if self.transform else image), int(LABELS[index])


def test_two_datasets_are_training_and_test() -> None:
    dataset = TensorDataset(IMAGES, LABELS)
    arrays = as_arrays((dataset, TensorDataset(IMAGES[:3], LABELS[:3])))
    assert np.array_equal(arrays.train_images, IMAGES.numpy())
    assert np.array_equal(arrays.test_labels, LABELS[:3].numpy())
    assert as_arrays(arrays) is arrays


def test_single_dataset_is_split_in_proportion() -> None:
    """20% are the test set; each image is in one of them."""
    arrays = as_arrays(Vision())
    assert (len(arrays.train_images), np.bincount(arrays.test_labels).tolist()) == (16, [2, 2])
    rows = np.concatenate([arrays.train_images, arrays.test_images])
    assert sorted(map(bytes, rows)) == sorted(map(bytes, IMAGES.numpy()))
    assert arrays.class_names == ("cat", "dog")
    assert content_sha256(as_arrays(Vision()).by_name) == content_sha256(arrays.by_name)


def test_images_may_be_pillow_images_tensors_and_arrays() -> None:
    """Gray images have one channel; other modes become RGB."""
    assert as_arrays(Vision(mode="L")).train_images.shape[1:] == (1, 4, 4)
    assert as_arrays(Vision(mode="RGBA")).train_images.shape[1:] == (3, 4, 4)
    pairs = [(np.full((4, 5), index, np.float32), np.int16(index % 2)) for index in range(20)]
    arrays = as_arrays(pairs)
    assert (arrays.train_images.dtype, arrays.train_images.shape[1:]) == (np.float32, (1, 4, 5))


def test_random_transforms_are_seeded_and_the_caller_keeps_its_generators() -> None:
    def noise(image: Any) -> Any:
        return torch.rand(1, 2, 2) + np.random.rand() + random.random()  # noqa: NPY002

    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index]  # noqa: NPY002
    first, second = as_arrays(Vision(noise)), as_arrays(Vision(noise))
    assert content_sha256(first.by_name) == content_sha256(second.by_name)
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index]  # noqa: NPY002
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])


def test_seed_is_that_of_a_fresh_torch() -> None:
    """So that it does not matter whether a function imports torch, or torch was loaded before."""
    fresh = torch.Generator()
    assert fresh.initial_seed() == IMPORT_SEED
    expected = torch.rand(3, generator=fresh)
    with seeded(IMPORT_SEED):
        assert torch.equal(torch.rand(3), expected)


class Endless:
    """An iterable dataset."""

    def __iter__(self) -> Any:
        return iter(())


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (3, "wrong-type"),
        ("photos", "wrong-type"),
        (IMAGES, "wrong-type"),
        ((IMAGES, LABELS), "wrong-type"),
        (({"a": 1}, {"b": 2}), "wrong-type"),
        (Endless(), "wrong-type"),
        ([], "no-images"),
        ([(IMAGES[0], 0), (IMAGES[1], 1)], "no-images"),
        ([IMAGES[0]] * 10, "wrong-type"),
        ([(IMAGES[0], 0, 1)] * 10, "wrong-type"),
        ([("image.png", 0)] * 10, "wrong-type"),
        ([(IMAGES[:2], 0)] * 10, "wrong-type"),
        ([(IMAGES[0], "cat")] * 10, "invalid-dtype"),
        ([(IMAGES[0], 0.5)] * 10, "invalid-dtype"),
        ([(IMAGES[0], torch.tensor([1, 0]))] * 10, "invalid-dtype"),
        ([(IMAGES[0], 0), (IMAGES[0, :1], 1)] * 10, "data-mismatch"),
        ([(IMAGES[0], 0), (IMAGES[0].float(), 1)] * 10, "data-mismatch"),
        ([(IMAGES[0].double(), index % 2) for index in range(10)], "invalid-dtype"),
        ([(IMAGES[0], 0)] * 10, "invalid-label"),
    ],
)
def test_other_objects_are_rejected(data: Any, code: str) -> None:
    with pytest.raises(UserError) as caught:
        as_arrays(data)
    assert caught.value.code == code
