"""What some pages need before their blocks run, and what must be true afterwards. Keys are names of files."""

import importlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from PIL import Image

import fathomlab
from fathomlab.analysis.study import study
from fathomlab.cli.new import KINDS
from fathomlab.engine.signals import LossInputs
from fathomlab.engine.snapshot import Snapshot
from fathomlab.export import Exporter
from fathomlab.losses.cross_entropy import cross_entropy
from fathomlab.store.reading import Store
from tests.documentation.runner import Session
from tests.helpers import small_training
from tests.helpers.stores import condition, write_experiment, write_trial


def make_photos(folder: Path) -> None:
    """A folder of images in two classes."""
    for number in range(50):
        path = folder / "photos" / "train" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 32)).save(path)


def check_own_parts(session: Session) -> None:
    """The example of the tutorial has an effect, and each experiment file has as many trials as it seems to have."""
    text = session.path.read_text(encoding="utf-8")
    templates = text[text.index("Other templates are") :].split(".")[0]
    assert {"model", *re.findall(r"`(\w+)`", templates)} == set(KINDS)
    assert session.planned == [6, 6, 6, 1, 2, 1, 3]
    names = vars(session.module)
    if "trial" in names:  # of slow blocks
        assert names["accuracy"] == names["trial"].metrics["test/accuracy"]
        assert [trial.config["model"]["type"] for trial in names["results"]] == ["Net"] * 6
    results = fathomlab.run("small_cnn.yaml", workers=1, progress="off", log="none")
    assert len(results) == 6
    (verdict,) = results.verdicts
    assert verdict.decision in ("supported", "undecided")  # three seeds; numbers differ between processors
    assert verdict.effect is not None
    assert verdict.effect.mean > 0.05
    check_parts_train(session)
    check_class_is_a_model(session)


def check_parts_train(session: Session) -> None:
    """The probe and the optimizer of the tutorial do what their names say."""
    for plugin in ("my_probe.py", "my_optimizer.py"):
        (text,) = [block.text for block in session.page_blocks if block.language == "yaml" and plugin in block.text]
        (session.folder / "experiment.yaml").write_text(text)
        for trial in fathomlab.run("experiment.yaml", workers=1, progress="off"):
            assert trial.status == "finished"
            if plugin == "my_probe.py":
                columns = [snapshot.columns.keys() for snapshot in trial.probes["Confidence"]]
                assert columns == [{"norm", "confidence"}] * 3
            else:
                assert trial.curves["lr"] == [0.0005, 0.001]


def check_class_is_a_model(session: Session) -> None:
    """A class in a script is planned as a model."""
    (text,) = [block.text for block in session.page_blocks if "model=Net" in block.text]
    (session.folder / "script_of_the_page.py").write_text(text.replace("fathomlab.run", "fathomlab.load"))
    assert len(importlib.import_module("script_of_the_page").results.trials) == 6


def check_python(session: Session) -> None:
    """Networks, figures, and stores give the same as the results."""
    names = vars(session.module)
    assert names["accuracy"] == names["trial"].metrics["test/accuracy"]
    assert len(names["first"]) == 6
    assert names["losses"].shape == (64,)
    assert bool(names["student"].grad.any(1).all())
    assert (session.folder / "curves.pdf").exists()
    assert len(names["results"]) == 6
    assert len(names["finished"]) == 12  # with the second order of the data
    assert list(names["earlier"]) == list(names["results"])


def check_extending(session: Session) -> None:
    """Each component computes what its text says."""
    names = vars(session.module)
    focal, probe, exporter = names["Focal"], names["Weights"], names["Summary"]()
    assert session.planned == [9]
    assert callable(names["section"])

    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inputs = LossInputs(logits, torch.zeros(2, 3, dtype=torch.int64))
    expected = cross_entropy(inputs.logits, inputs.labels)
    assert torch.equal(focal(gamma=0.0).terms(inputs)["focal"], expected)
    assert bool((focal(**focal.test_options).terms(inputs)["focal"] < expected).all())

    pack = small_training.make_trainer([small_training.recipe(small_training.mlp())])
    measured = probe(**probe.test_options).measure(Snapshot(pack))
    assert measured.keys() == {"layers", *probe.columns}
    assert measured["norm"].shape == (1, len(measured["layers"]))

    assert isinstance(exporter, Exporter)
    folder = session.folder / "exports"
    folder.mkdir()
    trials = [(seed, write_trial(folder, "x", {}, seed, 0.8 + seed / 10)) for seed in (0, 1)]
    write_experiment(folder, "x", "x", [condition("all", {}, None, trials)])
    store = Store(folder)
    (path,) = exporter.export(study(store, store.experiment("x")), folder / "x.json")
    assert json.loads(path.read_text()) == {"all": pytest.approx(0.85)}


PREPARATIONS: Mapping[str, Callable[[Path], None]] = {"your-own-parts.md": make_photos}
CHECKS: Mapping[str, Callable[[Session], None]] = {
    "your-own-parts.md": check_own_parts,
    "python.md": check_python,
    "extending.md": check_extending,
}
