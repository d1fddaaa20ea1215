"""Rules for every dataset of the table, and for users' datasets: shapes, dtypes, counts, splits, and reproducibility."""

import hashlib
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fathomlab
from fathomlab.base.errors import ConfigError, UserError
from fathomlab.data import DATASETS, canonical_name, make
from fathomlab.data.arrays import Arrays
from fathomlab.data.cache import data_dir, locate
from fathomlab.data.table import AUGMENTATIONS, Dataset, DatasetArrays
from fathomlab.data.users import UserDataset
from fathomlab.store.datasets import find_dataset, read_arrays, write_dataset


@cache
def load_test_arrays(name: str) -> DatasetArrays:
    """Load the dataset with its test options, once for all tests."""
    return make(name, DATASETS[name].test_options).load()


@pytest.fixture(params=sorted(DATASETS))
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each dataset that is on this machine; the others are skipped."""
    monkeypatch.setenv("FATHOMLAB_OFFLINE", "1")
    layout = DATASETS[request.param].layout
    if layout is not None and any(file.path is None for file in locate(layout, data_dir())):
        pytest.skip(f"{request.param}: its files are not in the data folder (set FATHOMLAB_DATA)")
    return request.param


def test_load_returns_documented_arrays(name: str) -> None:
    """Counts, shapes, and dtypes; writable, as torch requires."""
    arrays, info = load_test_arrays(name), DATASETS[name].info
    image = (info.channels, info.height, info.width)
    assert arrays.train_images.shape == (info.train_examples, *image)
    assert arrays.test_images.shape == (info.test_examples, *image)
    for images, labels in ((arrays.train_images, arrays.train_labels), (arrays.test_images, arrays.test_labels)):
        assert images.dtype == np.uint8
        assert labels.dtype == np.int64
        assert images.flags.writeable
        assert images.flags.c_contiguous
        assert labels.shape == images.shape[:1]
        assert sorted(set(labels.tolist())) == list(range(info.classes))


def test_mean_and_std_equal_those_of_training_images(name: str) -> None:
    """The test options of a generated dataset may differ a little from the published constants."""
    info, arrays = DATASETS[name].info, load_test_arrays(name)
    tolerance = 0.001 if DATASETS[name].layout is not None else 0.02
    for channel in range(info.channels):
        values = np.bincount(arrays.train_images[:, channel].ravel(), minlength=256) / arrays.train_images[:, 0].size
        mean = float(values @ np.arange(256)) / 255
        std = float(values @ (np.arange(256) / 255 - mean) ** 2) ** 0.5
        assert mean == pytest.approx(info.mean[channel], abs=tolerance)
        assert std == pytest.approx(info.std[channel], abs=tolerance)


def test_load_returns_disjoint_splits(name: str) -> None:
    """Except for the few duplicates that the published datasets are known to have."""
    arrays = load_test_arrays(name)
    train = {hashlib.blake2b(image.tobytes()).digest() for image in arrays.train_images}
    shared = sum(hashlib.blake2b(image.tobytes()).digest() in train for image in arrays.test_images)
    published = DATASETS[name].layout is not None
    assert shared <= (len(arrays.test_images) // 500 if published else 0)


def test_load_returns_equal_bytes_each_time(name: str) -> None:
    """With a SHA-256 per file."""
    first, second = load_test_arrays(name), make(name, DATASETS[name].test_options).load()
    assert first.train_images.tobytes() == second.train_images.tobytes()
    assert first.test_labels.tobytes() == second.test_labels.tobytes()
    assert first.files == second.files
    assert first.files
    assert all(len(digest) == 64 for digest in first.files.values())
    assert set(first.modified) <= set(first.files)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_info_is_consistent(name: str) -> None:
    """With the table and with each other, without reading a file."""
    dataset = make(name, DATASETS[name].test_options)
    info = dataset.info
    assert isinstance(dataset, Dataset)
    assert info.name == name
    assert canonical_name(info.title) == name
    assert len(info.class_names) == info.classes == len(set(info.class_names))
    assert len(info.mean) == len(info.std) == info.channels
    assert info.source
    assert info.license
    if dataset.layout is not None:
        for remote in dataset.layout.remotes:
            assert all(url.startswith("https://") for url in remote.urls)
        files = [file for spellings in dataset.layout.files for file in spellings]
        assert all(len(file.sha256) == 64 and file.size > 0 for file in files)


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
def test_canonical_name_accepts_other_spellings(text: str, name: str | None) -> None:
    assert canonical_name(text) == name


def test_make_rejects_unknown_names() -> None:
    """With the nearest name."""
    with pytest.raises(UserError, match="'mnist'") as caught:
        make("mnits")
    assert caught.value.code == "unknown-dataset"


@pytest.mark.parametrize(("name", "value"), [("shapes", 2), ("mnist", 0.5)])
def test_make_rejects_invalid_options(name: str, value: float) -> None:
    with pytest.raises(ConfigError) as caught:
        make(name, {"difficulty": value})
    assert [problem.path for problem in caught.value.problems] == ["data.params.difficulty"]


def test_data_does_not_import_torch() -> None:
    """Plans and lists start fast."""
    code = "import sys, fathomlab.data, fathomlab.data.split; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert AUGMENTATIONS == ("flip", "crop")


PLUGIN = """
import numpy as np
import fathomlab

def noise(classes: int = 3) -> fathomlab.Arrays:
    labels = np.arange(60) % classes
    images = np.random.randint(0, 200, (60, 3, 6, 5)) + 20 * labels[:, None, None, None]
    images = images.clip(0, 255).astype(np.uint8)
    return fathomlab.Arrays(images[:48], labels[:48], images[48:], labels[48:])
"""


def user_dataset(kind: str, folder: Path) -> tuple[UserDataset, Arrays]:
    """A function of a plugin, a folder of images, or an object, as an experiment loads it."""
    data: Any = None
    if kind == "function":
        (folder / "parts.py").write_text(PLUGIN)
    elif kind == "folder":
        draw = np.random.default_rng(0)
        for number in range(60):
            path = folder / "photos" / "train" / f"class {number % 3}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 256, (6, 5, 3)).astype(np.uint8)).save(path)
    else:
        labels = np.arange(60) % 3
        images = np.random.default_rng(0).normal(size=(60, 3, 6, 5)).astype(np.float32)
        data = Arrays(images[:48], labels[:48], images[48:], labels[48:])
    document = {
        "function": {"plugins": ["parts.py"], "data": {"name": "noise"}},
        "folder": {"data": {"name": "folder", "params": {"path": "photos"}}},
        "object": {},
    }[kind]
    model = {"type": "MLP", "params": {"input_size": 90, "class_num": 3}}
    document["data"] = {**document.get("data", {}), "batch_size": 10}
    (folder / "exp.yaml").write_text(json.dumps({**document, "model": model, "training": {"epochs": 1}}))
    plan = fathomlab.load(folder / "exp.yaml", data=data)
    dataset = plan.trials[0].data.component
    assert isinstance(dataset, UserDataset)
    return dataset, plan.loaded.components.user_data.arrays[dataset.sha256]


@pytest.mark.parametrize("kind", ["function", "folder", "object"])
def test_users_datasets_keep_the_rules_of_built_in_ones(tmp_path: Path, kind: str) -> None:
    """Also after they were written to a store and read again."""
    dataset, arrays = user_dataset(kind, tmp_path)
    (tmp_path / "runs").mkdir()
    write_dataset(tmp_path / "runs", dataset, arrays)
    loaded, info = read_arrays(tmp_path / "runs", dataset), dataset.info
    assert loaded.train_images.shape == (48, 3, 6, 5) == (info.train_examples, info.channels, info.height, info.width)
    assert loaded.test_images.shape[0] == info.test_examples == 12
    for images, labels in ((loaded.train_images, loaded.train_labels), (loaded.test_images, loaded.test_labels)):
        assert images.dtype == (np.float32 if kind == "object" else np.uint8)
        assert images.flags.writeable
        assert images.flags.c_contiguous
        assert labels.dtype == np.int64
        assert sorted(set(labels.tolist())) == list(range(info.classes))
    assert len(set(info.class_names)) == info.classes == 3
    assert len(info.mean) == len(info.std) == info.channels
    assert loaded.train_images.tobytes() == arrays.train_images.tobytes()
    assert user_dataset(kind, tmp_path)[0] == dataset
    content = {"data": {key: value for key, value in dataset.identity.items() if key != "plugin"}}
    content["plugins"] = {"parts.py": dataset.plugin}
    assert find_dataset(tmp_path / "runs", content) == dataset
