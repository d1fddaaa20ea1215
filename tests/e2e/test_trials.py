"""Trials as scripts read them: weights and images that give the stored accuracies exactly, and the errors if they cannot."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import fathomlab
from fathomlab import data as datasets
from tests.helpers.commands import run_python
from tests.helpers.shared import build_once

MLP: dict[str, Any] = {"type": "MLP", "params": {"layers_dim": 8, "hidden_layers_num": 3, "batch_norm": True}}
CNN: dict[str, Any] = {"type": "CNN", "params": {"width": 2, "layers": [1, 1, 1, 1]}}
SMALL: dict[str, Any] = {"name": "mnist-sample", "limit": 200, "batch_size": 40}
SEEDS: dict[str, Any] = {"seeds": 2, "analyze_gradients": True}
RESIDUAL: dict[str, Any] = {"model.params.residual": [False, True]}
TRAINING: dict[str, Any] = {"epochs": 2, "lr": 0.01}
PLUGIN = """
    from torch import nn

    class Own(nn.Module):
        def __init__(self, width: int = 4):
            super().__init__()
            self.conv = nn.Conv2d(1, width, 3, stride=2)
            self.norm = nn.BatchNorm2d(width)
            self.head = nn.Linear(width, 10)
            self.register_buffer("offset", nn.Parameter().new_full((1,), 0.5), persistent=False)

        def forward(self, images):
            return self.head(self.norm(self.conv(images)).relu().mean((2, 3)) + self.offset)
"""
EXPERIMENTS: dict[str, dict[str, Any]] = {
    "mlp": {"data": SMALL, "model": MLP, "training": TRAINING, "experiment": SEEDS | {"factors": RESIDUAL}},
    "fp64": {"data": SMALL, "model": MLP, "training": TRAINING | {"precision": "fp64"}},
    "cnn": {
        "data": {"name": "shapes", "limit": 100, "batch_size": 50, "augment": ["flip"]},
        "model": CNN,
        "training": TRAINING,
        "experiment": {"factors": RESIDUAL},
    },
    "roles": {
        "data": SMALL,
        "roles": {
            "teacher": {"model": MLP, "training": TRAINING},
            "student": {"model": MLP, "training": TRAINING, "parents": {"teacher": "teacher"}},
        },
        "distillation": {"alpha": 0.5},
    },
    "plugin": {"plugins": ["my_parts.py"], "data": SMALL, "model": {"type": "Own"}, "training": TRAINING},
}


def train_all(folder: Path) -> None:
    """Run each experiment."""
    (folder / "my_parts.py").write_text(dedent(PLUGIN))
    for name, content in EXPERIMENTS.items():
        (folder / f"{name}.yaml").write_text(json.dumps(content))
        fathomlab.run(folder / f"{name}.yaml", runs=folder / "runs", workers=1, progress="off")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, fathomlab.Experiment]:
    """Each experiment, in one store; do not change it. This process has loaded the plugin."""
    folder = build_once(tmp_path_factory, "trials", train_all)
    fathomlab.load(folder / "plugin.yaml")
    return {name: fathomlab.open_store(folder / "runs").experiment(name) for name in EXPERIMENTS}


def accuracy(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    """The fraction of correct predictions."""
    images, labels = data
    return int((model(images).argmax(1) == labels).sum()) / len(labels)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_weights_and_data_give_the_stored_accuracies(runs: dict[str, fathomlab.Experiment], name: str):
    """Of the last epoch and of the best, on the test set and on the validation images."""
    for trial in runs[name]:
        last, best = trial.load_model(), trial.load_model("best")
        assert not last.training
        assert accuracy(last, trial.test_data()) == trial.metrics["test/accuracy"]
        assert accuracy(last, trial.validation_data()) == trial.metrics["val/accuracy"]
        assert accuracy(best, trial.test_data()) == trial.metrics["best/test/accuracy"]
        assert accuracy(best, trial.validation_data()) == trial.metrics["best/val/accuracy"]


def test_data_are_the_files_without_augmentation(runs: dict[str, fathomlab.Experiment]):
    """Both parts together are the limited training set in the order of the files; equal seeds share the split."""
    arrays, info = datasets.load("shapes"), datasets.DATASETS["shapes"].info
    trial = runs["cnn"][0]
    images, labels = trial.test_data()
    assert torch.equal(labels, torch.from_numpy(arrays.test_labels))
    expected = (arrays.test_images / 255 - np.reshape(info.mean, (-1, 1, 1))) / np.reshape(info.std, (-1, 1, 1))
    assert images.dtype == torch.float32
    assert np.allclose(images.numpy(), expected, atol=1e-5)
    train, validation = trial.train_data(), trial.validation_data()
    assert (len(train[0]), len(validation[0])) == (80, 20)
    mean, std = torch.tensor(info.mean).view(-1, 1, 1), torch.tensor(info.std).view(-1, 1, 1)
    stored = {image.tobytes(): row for row, image in enumerate(arrays.train_images)}
    rows = [
        [stored[image.numpy().tobytes()] for image in ((part * std + mean) * 255).round().to(torch.uint8)]
        for part in (train[0], validation[0])
    ]
    assert rows[0] == sorted(rows[0])
    assert rows[1] == sorted(rows[1])
    assert not set(rows[0]) & set(rows[1])
    assert torch.equal(train[1], torch.from_numpy(arrays.train_labels[rows[0]]))
    other, same = runs["cnn"].filter(residual=True)[0], runs["cnn"].filter(residual=False)[0]
    assert torch.equal(other.train_data()[0], same.train_data()[0])
    train[0].zero_()  # the tensors are the caller's
    assert torch.equal(same.train_data()[0], other.train_data()[0])
    assert runs["fp64"][0].test_data()[0].dtype == torch.float64


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_checkpoints_fit_modules_of_the_same_options(runs: dict[str, fathomlab.Experiment], name: str):
    """Parameters and running statistics have equal names, for plain and residual networks."""
    for trial in runs[name]:
        model = fathomlab.build_model(trial.record.content["model"], data=trial.record.content["data"]["name"])
        model.load_state_dict(load_file(trial.record.folder / "checkpoint.safetensors"), strict=True)
        assert model.eval()(trial.test_data()[0]).equal(trial.load_model()(trial.test_data()[0]))
    with pytest.raises(fathomlab.ConfigError):
        fathomlab.build_model({"type": "MLP"}, data="shapes")
    with pytest.raises(fathomlab.UserError):
        fathomlab.build_model({"type": "MLP"}, data="shape")


def test_curves_and_gradients_are_columns(runs: dict[str, fathomlab.Experiment]):
    trial = runs["mlp"][0]
    assert trial.curves["epoch"] == [1, 2]
    assert trial.curves["val/accuracy"][-1] == trial.metrics["val/accuracy"]
    columns = trial.gradients
    assert list(columns) == ["epoch", "step", "kind", "layer", "norm"]
    snapshots = trial.record.probes["gradients"]
    assert len(columns["norm"]) == sum(
        len(item.columns["weight"]) + len(item.columns["activation"]) for item in snapshots
    )
    weights = [norm for norm, kind in zip(columns["norm"], columns["kind"], strict=True) if kind == "weight"]
    assert weights == [norm for item in snapshots for norm in item.columns["weight"]]
    assert [*dict.fromkeys(columns["epoch"])] == [0, 1, 2]
    assert runs["roles"][0].gradients == {}


def test_gradients_and_curves_are_data_frames(runs: dict[str, fathomlab.Experiment]):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(runs["mlp"][0].gradients)
    wide = frame[frame.kind == "weight"].pivot(index="step", columns="layer", values="norm")
    assert wide.shape == (4, 5)
    assert len(pandas.DataFrame(runs["mlp"][0].curves)) == 2


def test_plugins_are_needed_with_their_digest(runs: dict[str, fathomlab.Experiment], tmp_path: Path):
    """Another process has to name the file; another content is refused. This process knows the plugin."""
    store, trial = runs["plugin"].store, runs["plugin"][0]
    assert type(trial.load_model()).__name__ == "Own"
    source = store.root.parent / "my_parts.py"
    digest = trial.record.content["plugins"]["my_parts.py"]
    (tmp_path / "my_parts.py").write_text(source.read_text() + "# changed\n")
    code = f"""
        import fathomlab
        trial = fathomlab.open_store({str(store.root)!r}).trial({trial.hash!r})
        for files in ([], [{str(tmp_path / "my_parts.py")!r}], {str(source)!r}):
            try:
                model = trial.load_model(plugins=files)
            except fathomlab.UserError as error:
                print(error.code, "my_parts.py" in str(error), {digest!r} in str(error))
                if not files:  # the message names the stored copy
                    trial.load_model(plugins=[str(error).split("'")[1]])
        images, labels = trial.test_data()
        model(images)
        print(float((model(images).argmax(1) == labels).double().mean()))
        model.load_state_dict({{name: tensor for name, tensor in model.state_dict().items()}}, strict=True)
    """
    result = run_python("-c", dedent(code), cwd=tmp_path)
    *refused, measured = result.stdout.splitlines()
    assert refused == ["plugin-needed True True", "plugin-changed True True"], result.stderr
    assert float(measured) == pytest.approx(trial.metrics["test/accuracy"], abs=1e-12)


@pytest.fixture
def copied(runs: dict[str, fathomlab.Experiment], tmp_path: Path) -> tuple[Path, str]:
    """A copy of the store to damage, and a trial."""
    shutil.copytree(runs["mlp"].store.root, tmp_path / "runs")
    return tmp_path / "runs", runs["mlp"][0].hash


def test_lost_and_corrupted_weights_are_errors(copied: tuple[Path, str]):
    root, name = copied
    path = root / "trials" / name / "checkpoint.safetensors"
    trial = fathomlab.open_store(root).trial(name)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(fathomlab.UserError) as caught:
        trial.load_model()
    assert caught.value.code == "corrupt-file"
    path.unlink()
    with pytest.raises(fathomlab.UserError) as caught:
        trial.load_model()
    assert caught.value.code == "no-such-file"
    assert trial.load_model("best")
    with pytest.raises(fathomlab.UserError) as caught:
        trial.load_model("bset")  # type: ignore[arg-type]
    assert caught.value.code == "invalid-option"


def test_unfinished_and_unreadable_trials_are_errors(copied: tuple[Path, str]):
    root, name = copied
    (root / "trials" / name / "result.json").unlink()
    trial = fathomlab.open_store(root).trial(name)
    with pytest.raises(fathomlab.UserError) as caught:
        trial.load_model()
    assert (caught.value.code, trial.status) == ("not-finished", "interrupted")
    assert len(trial.test_data()[0]) == 1000
    (root / "trials" / name / "trial.json").write_text("{}")
    trial = fathomlab.open_store(root).trial(name)
    with pytest.raises(fathomlab.UserError) as caught:
        trial.test_data()
    assert caught.value.code == "unreadable-trial"


def test_diverged_trials_have_no_model(tmp_path: Path):
    content = {"data": SMALL, "model": MLP, "training": {"epochs": 1, "lr": 1e30}}
    (trial,) = fathomlab.run(content, runs=tmp_path, workers=1, progress="off")
    assert trial.status == "diverged"
    assert "diverged" in repr(trial)
    with pytest.raises(fathomlab.UserError) as caught:
        trial.load_model()
    assert caught.value.code == "not-finished"


def test_changed_and_lost_datasets_are_errors(
    runs: dict[str, fathomlab.Experiment], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """Other files than those of the training are refused, as are files that are not there."""
    trial = runs["mlp"][0]
    data = replace(trial.record.provenance.data, files=dict.fromkeys(datasets.load("mnist-sample").files, "0" * 64))
    other = replace(trial, record=replace(trial.record, provenance=replace(trial.record.provenance, data=data)))
    with pytest.raises(fathomlab.UserError) as caught:
        other.test_data()
    assert caught.value.code == "data-changed"
    monkeypatch.setenv("FATHOMLAB_DATA", str(tmp_path))
    monkeypatch.setenv("FATHOMLAB_OFFLINE", "1")
    content = {**trial.record.content, "data": {**trial.record.content["data"], "name": "cifar-10", "params": {}}}
    with pytest.raises(fathomlab.UserError):
        replace(trial, record=replace(trial.record, content=content)).test_data()
