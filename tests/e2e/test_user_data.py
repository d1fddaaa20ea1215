"""Users' datasets from the experiment file to the report: resumption, reading without the plugin, folders, and objects."""

import json
import shutil
import signal
import time
import zipfile
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fathomlab
from fathomlab.data import make
from fathomlab.engine.device_data import to_device
from fathomlab.execute.pack.inputs import load_dataset_of
from fathomlab.store.datasets import dataset_files
from fathomlab.store.maintenance import check_store, repair_store
from fathomlab.store.pruning import Pruning, prune_store
from fathomlab.store.reading import Store
from tests.e2e.test_plugins import command, results, start

pytestmark = pytest.mark.usefixtures("no_charts")

PLUGIN = """
    import os
    import numpy as np
    import fathomlab

    def stripes(width: int = 2) -> fathomlab.Arrays:
        with open(os.environ["PLUGIN_LOG"], "a") as file:
            file.write("called\\n")
        labels = np.arange(400) % 2
        pattern = np.arange(8) // width % 2 * 100
        images = np.where(labels[:, None, None] > 0, pattern[:, None], pattern)
        images = images + np.random.normal(60, 30, images.shape)  # the global generator, which is seeded
        images = images.clip(0, 255).astype(np.uint8)[:, None]
        return fathomlab.Arrays(images[:300], labels[:300], images[300:], labels[300:], ("vertical", "hor<b>izontal"))
"""
EXPERIMENT = """
    plugins: [parts.py]
    data: {name: stripes, batch_size: 50, augment: [flip, crop]}
    model: {type: MLP, params: {input_size: 64, class_num: 2, layers_dim: 8, hidden_layers_num: 1}}
    training: {epochs: 3, lr: 0.01}
    experiment: {seeds: 2, factors: {data.params.width: [1, 2]}}
    claims:
      - {name: wide stripes, factor: width, levels: [2, 1], expect: greater}
"""
RUN = ("--workers", "1", "--progress", "off")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an experiment file and its plugin."""
    for name, text in (("parts.py", PLUGIN), ("exp.yaml", EXPERIMENT)):
        (tmp_path / name).write_text(dedent(text), encoding="utf-8")
    (tmp_path / "log").touch()
    monkeypatch.setenv("PLUGIN_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("FATHOMLAB_RUNS", str(tmp_path / "runs"))
    return tmp_path


def calls(folder: Path) -> int:
    """How often the function was called."""
    return len((folder / "log").read_text().splitlines())


def test_function_is_called_once_per_option_and_resumed_with_the_same_bits(folder: Path) -> None:
    """Workers and the run after a kill read the images from the store; reports need no plugin."""
    experiment = str(folder / "exp.yaml")
    command("run", experiment, *RUN, "run.pack=1", "--runs", str(folder / "complete"))
    assert calls(folder) == 2
    process = start(folder, "run", experiment, *RUN, "run.executor=local", "run.checkpoint_seconds=0", "run.pack=1")
    deadline = time.monotonic() + 120
    while not any(folder.glob("runs/trials/*/state-*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=120)
    command("run", experiment, *RUN, "--wait", "run.pack=1")
    assert calls(folder) == 6
    assert results(folder / "runs") == results(folder / "complete")
    _check_reading(folder)


def _check_reading(folder: Path) -> None:
    """Without the plugin: the report, the images, and the next run on a copy."""
    (folder / "parts.py").unlink()
    for arguments in (["list"], ["report"], ["store", "check"]):
        command(*arguments)
    assert calls(folder) == 6
    (report,) = folder.glob("runs/experiments/*/report.html")
    text = report.read_text()
    assert "300 training images and 100 test images of 8 x 8 pixels in 2 classes" in text
    assert "hor<b>" not in text
    assert "stripes: images" in text
    assert "your own data" in text
    assert "Claims were fixed before the first trial" in text
    store = Store(folder / "runs")
    record = store.trial(store.trials()[0])
    arrays, images = load_dataset_of(record.content, store.root, "cpu", torch.float32)
    assert images.normalize(images.images).mean().abs() < 1e-4
    assert images.normalize(images.images).std() == pytest.approx(1, abs=1e-3)
    correct, predictions = record.correct(), record.predictions()
    assert correct is not None
    assert predictions is not None
    assert np.array_equal(correct, predictions == arrays.test_labels)


def test_function_with_other_images_for_the_same_code_is_an_error(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is lost: the same images again, or other code, are trained."""
    text = dedent(PLUGIN).replace("np.random.normal", "np.random.default_rng(os.stat('seed').st_size).normal")
    (folder / "parts.py").write_text(text.replace("'seed'", repr(str(folder / "seed"))), encoding="utf-8")
    (folder / "seed").write_text("1")
    command("run", str(folder / "exp.yaml"), *RUN)
    before = results(folder / "runs")
    (folder / "seed").write_text("12")
    for options in ((), ("experiment.seeds=3",)):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            fathomlab.cli.main(["run", str(folder / "exp.yaml"), *RUN, "--json", *options])  # type: ignore[attr-defined]
        assert ended.value.code == 2
        (problem,) = json.loads(capsys.readouterr().out)["problems"]
        assert problem["code"] == "data-changed"
    assert results(folder / "runs") == before
    command("plan", str(folder / "exp.yaml"))
    assert "note: data.name: stripes" in capsys.readouterr().out
    (folder / "seed").write_text("1")
    command("run", str(folder / "exp.yaml"), *RUN, "experiment.seeds=3")
    assert len(results(folder / "runs")) == 6


def save_photos(root: Path, test: bool = True) -> None:
    """Bright and dark images with noise."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 30), ("test", 10))[: 2 if test else 1]:
        for label, name in enumerate(("bright", "dark")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = draw.integers(0, 120, (10, 12, 3)) + 130 * (1 - label)
                Image.fromarray(pixels.astype(np.uint8)).save(root / split / name / f"{number}.png")


def test_folder_is_trained_and_cached_by_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A moved folder is cached; a damaged copy in the store is replaced."""
    monkeypatch.setenv("FATHOMLAB_RUNS", str(tmp_path / "runs"))
    save_photos(tmp_path / "photos")
    data = {"name": "folder", "params": {"path": "photos", "size": 8}, "batch_size": 10}
    model = {"type": "MLP", "params": {"input_size": 192, "class_num": 2, "layers_dim": 8, "hidden_layers_num": 1}}
    experiment = tmp_path / "exp.yaml"
    experiment.write_text(json.dumps({"data": data, "model": model, "training": {"epochs": 3, "lr": 0.01}}))
    first = fathomlab.run(experiment, progress="off", workers=1)
    (trial,) = first
    assert (first.summary.trained, trial.metrics["test/accuracy"]) == (1, 1.0)
    assert trial.record.dataset is not None
    assert trial.record.dataset.class_names == ("bright", "dark")
    (tmp_path / "photos").rename(tmp_path / "moved")
    again = fathomlab.run(experiment, "data.params.path=moved", progress="off", workers=1)
    assert again.summary.trained == 0
    (arrays,) = (path for path in dataset_files(tmp_path / "runs") if path.suffix == ".npz")
    content = bytearray(arrays.read_bytes())
    content[len(content) // 2] ^= 1
    arrays.write_bytes(content)
    assert [problem.path for problem in check_store(tmp_path / "runs").problems] == [arrays]
    more = fathomlab.run(experiment, "data.params.path=moved", "seed=1", progress="off", workers=1)
    assert more.summary.trained == 1
    assert check_store(tmp_path / "runs").problems == ()


CONF: dict[str, Any] = {
    "data": {"limit": 200, "batch_size": 40, "augment": ["flip"]},
    "model": {"type": "MLP", "params": {"layers_dim": 8, "hidden_layers_num": 1, "dropout": 0.1}},
    "training": {"epochs": 2, "lr": 0.01},
}


def test_normalized_floats_train_as_the_built_in_dataset(tmp_path: Path) -> None:
    """Bit by bit: mnist-sample, normalized by hand, has the curves of mnist-sample."""
    dataset = make("mnist-sample")
    arrays = dataset.load()
    images = to_device(arrays, dataset.info, torch.device("cpu"), torch.float32)
    train, test = images.normalize(images.images), images.normalize(images.test_images)
    given = fathomlab.Arrays(train, arrays.train_labels, test, images.test_labels)
    conf = CONF | {"data": {**CONF["data"], "augment": ["flip"]}}
    (mine,) = fathomlab.run(conf, data=given, runs=tmp_path, progress="off", workers=1)
    named = {**conf["data"], "name": "mnist-sample"}
    (built_in,) = fathomlab.run({**conf, "data": named}, runs=tmp_path, progress="off", workers=1)
    assert mine.hash != built_in.hash
    curves = [{**record.curves, "seconds": []} for record in (mine, built_in)]
    assert curves[0] == curves[1]
    assert mine.metrics == built_in.metrics


def test_objects_are_resumed_pruned_and_repaired(tmp_path: Path) -> None:
    """A second run with the same content is cached; the store keeps what its trials need."""
    labels = np.arange(120) % 3
    images = (
        np.random.default_rng(0).integers(0, 80, (120, 1, 28, 28)).astype(np.uint8) + 80 * labels[:, None, None, None]
    )
    pairs = [(image.astype(np.uint8), int(label)) for image, label in zip(images, labels, strict=True)]
    conf = {
        **CONF,
        "data": {"batch_size": 20},
        "model": {"type": "MLP", "params": {"class_num": 3, "layers_dim": 8, "hidden_layers_num": 1}},
    }
    first = fathomlab.run(conf, data=pairs, runs=tmp_path, progress="off", workers=1)
    again = fathomlab.run(conf, data=pairs, runs=tmp_path, progress="off", workers=1)
    assert (first.summary.trained, again.summary.trained) == (1, 0)
    (path,) = first.export("bundle", tmp_path / "bundle.zip")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "bundle")
    (root,) = (tmp_path / "bundle").iterdir()
    check = check_store(root)
    assert (check.problems, check.left_out) == ((), 3)
    assert fathomlab.open_store(root).trials()[0].record.dataset == first[0].record.dataset
    files = dataset_files(tmp_path)
    assert sorted(path.suffix for path in files) == [".json", ".npz"]
    assert prune_store(tmp_path, Pruning(unfinished=True, orphans=True)) == []
    facts = next(path for path in files if path.suffix == ".json")
    text = facts.read_text()
    facts.write_text(text.replace('"test_examples": 24', '"test_examples": 25'))
    assert [problem.path for problem in check_store(tmp_path).problems] == [facts]
    assert prune_store(tmp_path, Pruning()) == []
    assert [change.path for change in repair_store(tmp_path)] == [facts]
    (record,) = (trial.record for trial in fathomlab.open_store(tmp_path))
    assert record.dataset is None
    (trial,) = fathomlab.run(conf, "seed=1", data=pairs, runs=tmp_path, progress="off", workers=1)
    assert trial.record.dataset is not None
    assert check_store(tmp_path).problems == ()
    shutil.rmtree(tmp_path / "experiments")
    changes = prune_store(tmp_path, Pruning(orphans=True))
    assert set(files) < {change.path for change in changes}
    assert dataset_files(tmp_path) == []
