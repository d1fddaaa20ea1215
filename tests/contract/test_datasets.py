"""Every data set of the table: shapes, dtypes, counts, splits that do not overlap, the same bytes each time."""

import hashlib
import subprocess
import sys
from functools import cache

import numpy as np
import pytest

from fathomlab.base.problems import UserError
from fathomlab.data import DATASETS, canonical_name, make
from fathomlab.data.folder import data_folder, locate
from fathomlab.data.table import AUGMENTATIONS, DataSet, Split


@cache
def loaded(name: str) -> Split:
    """The data set with its tiny options; it is read once for all tests."""
    return make(name, DATASETS[name].tiny).load()


@pytest.fixture(params=sorted(DATASETS))
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each data set that is on this machine; the others are skipped, and say so."""
    monkeypatch.setenv("FATHOMLAB_OFFLINE", "1")
    layout = DATASETS[request.param].layout
    if layout is not None and any(piece.path is None for piece in locate(layout, data_folder())):
        pytest.skip(f"{request.param}: its files are not in the data folder (set FATHOMLAB_DATA)")
    return request.param


def test_arrays_are_what_the_facts_say(name: str) -> None:
    """Counts, shapes, dtypes; writable, as torch wants them."""
    split, facts = loaded(name), DATASETS[name].facts
    image = (facts.channels, facts.height, facts.width)
    assert split.train_images.shape == (facts.train_examples, *image)
    assert split.test_images.shape == (facts.test_examples, *image)
    for images, labels in ((split.train_images, split.train_labels), (split.test_images, split.test_labels)):
        assert images.dtype == np.uint8
        assert labels.dtype == np.int64
        assert images.flags.writeable
        assert images.flags.c_contiguous
        assert labels.shape == images.shape[:1]
        assert sorted(set(labels.tolist())) == list(range(facts.classes))


def test_mean_and_std_are_those_of_the_training_images(name: str) -> None:
    """The published constants fit the bytes (the tiny options of a generated data set may differ a little)."""
    facts, split = DATASETS[name].facts, loaded(name)
    tolerance = 0.001 if DATASETS[name].layout is not None else 0.02
    for channel in range(facts.channels):
        values = np.bincount(split.train_images[:, channel].ravel(), minlength=256) / split.train_images[:, 0].size
        mean = float(values @ np.arange(256)) / 255
        std = float(values @ (np.arange(256) / 255 - mean) ** 2) ** 0.5
        assert mean == pytest.approx(facts.mean[channel], abs=tolerance)
        assert std == pytest.approx(facts.std[channel], abs=tolerance)


def test_train_and_test_do_not_overlap(name: str) -> None:
    """No test image is a training image, but for the few doubles that the published sets are known to have."""
    split = loaded(name)
    train = {hashlib.blake2b(image.tobytes()).digest() for image in split.train_images}
    shared = sum(hashlib.blake2b(image.tobytes()).digest() in train for image in split.test_images)
    published = DATASETS[name].layout is not None
    assert shared <= (len(split.test_images) // 500 if published else 0)


def test_loading_again_gives_the_same_bytes(name: str) -> None:
    """Deterministic, with a SHA-256 for every file."""
    first, second = loaded(name), make(name, DATASETS[name].tiny).load()
    assert first.train_images.tobytes() == second.train_images.tobytes()
    assert first.test_labels.tobytes() == second.test_labels.tobytes()
    assert first.files == second.files
    assert first.files
    assert all(len(digest) == 64 for digest in first.files.values())
    assert set(first.unofficial) <= set(first.files)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_parts_keep_the_contract(name: str) -> None:
    """Facts agree with themselves and with the table, without reading a file."""
    part = make(name, DATASETS[name].tiny)
    facts = part.facts
    assert isinstance(part, DataSet)
    assert facts.name == name
    assert canonical_name(facts.title) == name
    assert len(facts.class_names) == facts.classes == len(set(facts.class_names))
    assert len(facts.mean) == len(facts.std) == facts.channels
    assert facts.source
    assert facts.licence
    if part.layout is not None:
        for remote in part.layout.remotes:
            assert all(url.startswith("https://") for url in remote.urls)
        pins = [pin for piece in part.layout.pieces for pin in piece]
        assert all(len(pin.sha256) == 64 and pin.size > 0 for pin in pins)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("MNIST", "mnist"),
        ("CIFAR10", "cifar-10"),
        ("cifar_100", "cifar-100"),
        ("FashionMNIST", "fashion-mnist"),
        ("Shapes", "shapes"),
        ("ImageNet", None),
    ],
)
def test_names_are_accepted_in_any_case(text: str, name: str | None) -> None:
    """The spellings of other libraries work."""
    assert canonical_name(text) == name


def test_wrong_names_and_options_are_refused() -> None:
    """With the nearest name, and every option problem."""
    with pytest.raises(UserError, match="Did you mean 'mnist'"):
        make("mnits")
    with pytest.raises(UserError, match=r"data\.params\.difficulty: should be at most 1"):
        make("shapes", {"difficulty": 2})
    with pytest.raises(UserError, match="unknown key"):
        make("mnist", {"difficulty": 0.5})


def test_importing_the_data_layer_needs_no_torch() -> None:
    """Plans and lists start fast."""
    code = "import sys, fathomlab.data, fathomlab.data.split; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert AUGMENTATIONS == ("flip", "crop")
