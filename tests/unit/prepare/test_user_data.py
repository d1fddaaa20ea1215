"""Users' datasets on their way to the store: arrays that change, a full disk, and a store that cannot be written."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import fathomlab
from fathomlab.base.errors import UserError
from fathomlab.plan import Plan
from fathomlab.prepare.jobs import provide_datasets
from fathomlab.store.datasets import dataset_files

PLUGIN = """
import numpy as np
import fathomlab

IMAGES, LABELS = np.zeros((40, 1, 4, 4), np.uint8), np.arange(40) % 2

def shared(value: int = 1) -> fathomlab.Arrays:
    IMAGES[:] = value
    return fathomlab.Arrays(IMAGES, LABELS, IMAGES[:10], LABELS[:10])
"""
MODEL = {"type": "MLP", "params": {"input_size": 16, "class_num": 2}}


def planned(folder: Path, *overrides: str) -> Plan:
    """A plan with the function."""
    (folder / "parts.py").write_text(PLUGIN)
    data = {"name": "shared", "batch_size": 5}
    document = {"plugins": ["parts.py"], "data": data, "model": MODEL, "training": {"epochs": 1}}
    (folder / "exp.yaml").write_text(json.dumps(document))
    return fathomlab.load(folder / "exp.yaml", overrides)


def test_arrays_that_a_later_call_changes_are_refused(tmp_path: Path) -> None:
    """Two levels share one buffer. A single one is stored."""
    plan = planned(tmp_path, "data.params.value=1,2")
    with pytest.raises(UserError, match="shared") as caught:
        provide_datasets(plan, plan.trials, tmp_path)
    assert caught.value.code == "data-changed"
    plan = planned(tmp_path, "data.params.value=3")
    provide_datasets(plan, plan.trials, tmp_path)
    (arrays,) = (path for path in dataset_files(tmp_path) if path.suffix == ".npz")
    with np.load(arrays) as file:
        assert file["train_images"].max() == 3


def test_only_what_is_trained_is_stored(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    provide_datasets(plan, [], tmp_path)
    assert dataset_files(tmp_path) == []


@pytest.mark.parametrize("code", ["disk-full", "unwritable"])
def test_store_without_space_for_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    plan = planned(tmp_path)
    if code == "disk-full":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: (1000, 200, 800))
    else:
        (tmp_path / "data").write_text("in the way")
    with pytest.raises(UserError) as caught:
        provide_datasets(plan, plan.trials, tmp_path)
    assert caught.value.code == code
