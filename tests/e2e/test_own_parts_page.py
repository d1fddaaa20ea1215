"""The examples of docs/tutorials/your-own-parts.md run as they are printed."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import fathomlab
from fathomlab.cli.new import KINDS

PAGE = (Path(__file__).parents[2] / "docs" / "tutorials" / "your-own-parts.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(python|yaml)\n(.*?)```", PAGE, re.DOTALL)
FILES = {match[1]: text for _, text in BLOCKS if (match := re.match(r"# (\w+\.(?:py|yaml))\n", text))}


def block(language: str, word: str) -> str:
    """The one block of code that contains a word."""
    (text,) = [text for kind, text in BLOCKS if kind == language and word in text]
    return text


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with the files of the page and a folder of images."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    for number in range(50):
        path = tmp_path / "photos" / "train" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 32)).save(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("FATHOMLAB_RUNS", raising=False)
    before = set(sys.modules)
    yield tmp_path
    for name in {path.stem for path in tmp_path.glob("*.py")} - before:
        sys.modules.pop(name, None)


def test_page_names_every_template():
    text = PAGE[PAGE.index("Other templates are") :].split(".")[0]
    assert {"model", *re.findall(r"`(\w+)`", text)} == set(KINDS)


def test_tutorial_runs_as_printed(folder: Path, monkeypatch: pytest.MonkeyPatch):
    train = fathomlab.run
    monkeypatch.setattr(fathomlab, "run", lambda file: train(file, workers=1, progress="off", log="none"))
    names: dict[str, Any] = {}
    for word in ("trial.load_model", "load_state_dict"):
        exec(compile(block("python", word), "docs/tutorials/your-own-parts.md", "exec", dont_inherit=True), names)
    (verdict,) = names["results"].verdicts
    assert verdict.decision in ("supported", "undecided")  # three seeds; numbers differ between processors
    assert verdict.effect is not None
    assert verdict.effect.mean > 0.05
    assert names["accuracy"] == names["trial"].metrics["test/accuracy"]
    assert "my-lab" in (folder / "small_cnn.yaml").read_text()
    assert not (folder / "runs" / "wandb").exists()


@pytest.mark.parametrize(
    ("word", "trials"),
    [
        ("# small_cnn.yaml", 6),
        ("# compare.yaml", 6),
        ("# fine_tuning.yaml", 6),
        ("[my_probe.py]", 1),
        ("[my_optimizer.py]", 2),
        ("[my_data.py]", 3),
        ("name: folder", 1),
    ],
)
def test_experiment_of_the_page_is_planned(folder: Path, word: str, trials: int):
    (folder / "experiment.yaml").write_text(block("yaml", word))
    plan = fathomlab.load(folder / "experiment.yaml")
    assert len(plan.trials) == trials


@pytest.mark.parametrize("plugin", ["my_probe.py", "my_optimizer.py"])
def test_parts_of_the_page_train(folder: Path, plugin: str):
    (folder / "experiment.yaml").write_text(block("yaml", f"[{plugin}]"))
    for trial in fathomlab.run(folder / "experiment.yaml", workers=1, progress="off"):
        assert trial.status == "finished"
        if plugin == "my_probe.py":
            assert [snapshot.columns.keys() for snapshot in trial.probes["Confidence"]] == [{"norm", "confidence"}] * 3
        else:
            assert trial.curves["lr"] == [0.0005, 0.001]


def test_class_of_the_page_is_a_model(folder: Path):
    text = block("python", "model=Net").replace("fathomlab.run", "fathomlab.load")
    (folder / "script_of_the_page.py").write_text(text)
    assert len(importlib.import_module("script_of_the_page").results.trials) == 6
