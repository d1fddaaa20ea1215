"""Checkpoints of users' modules with shared parameters and buffers that are not persistent."""

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import fathomlab
from fathomlab.store.weights import load_checked

PLUGIN = """
    import torch
    from torch import nn

    class Shared(nn.Module):
        def __init__(self, draws: bool = False):
            super().__init__()
            self.stem = nn.Linear(784, 6)
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
            self.second.weight = self.first.weight
            self.register_buffer("steps", torch.zeros(6))
            self.register_buffer("scale", torch.arange(6.0), persistent=False)
            if draws:
                self.register_buffer("noise", torch.randn(6), persistent=False)
            self.head = nn.Linear(6, 10)

        def forward(self, images):
            if self.training:
                self.steps += 1
            hidden = self.stem(images.flatten(1)) * self.scale + self.steps
            if hasattr(self, "noise"):
                hidden = hidden + self.noise
            return self.head(self.second(self.first(hidden).relu()).relu())
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two teachers, with and without a random buffer, and their students."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "parts.py").write_text(dedent(PLUGIN), encoding="utf-8")
    model = {"type": "Shared"}
    training = {"epochs": 1, "lr": 0.01}
    conf = {
        "plugins": [str(folder / "parts.py")],
        "data": {"name": "mnist-sample", "limit": 200, "batch_size": 50},
        "roles": {
            "plain": {"model": model, "training": training},
            "noisy": {"model": {**model, "params": {"draws": True}}, "training": training},
            "student": {"model": model, "training": training, "parents": {"teacher": ["plain", "noisy"]}},
        },
    }
    return fathomlab.run(conf, "run.executor=inline", runs=folder / "runs")


def _trial(results: Any, role: str) -> Any:
    return next(trial for trial in results if trial.role == role)


@pytest.mark.parametrize("role", ["plain", "student"])
@pytest.mark.parametrize("which", ["last", "best"])
def test_class_of_the_user_loads_a_checkpoint(results: Any, role: str, which: Any):
    """Strictly, as torch's own checkpoints; with the numbers of `load_model`."""
    trial = _trial(results, role)
    model, name = trial.load_model(which), {"last": "checkpoint", "best": "best"}[which]
    fresh = type(model)()
    fresh.load_state_dict(load_file(trial.record.folder / f"{name}.safetensors"))
    images, labels = trial.test_data()
    logits = model(images)
    assert torch.equal(fresh.eval()(images), logits)
    accuracy = float((logits.argmax(1) == labels).double().mean())
    key = "test/accuracy" if which == "last" else "best/test/accuracy"
    assert accuracy == pytest.approx(trial.metrics[key], abs=1e-12)


def test_values_that_no_constructor_repeats_are_kept(results: Any):
    """Without the random buffer, it would be another network."""
    trial = _trial(results, "noisy")
    images, labels = trial.test_data()
    accuracy = float((trial.load_model()(images).argmax(1) == labels).double().mean())
    assert accuracy == pytest.approx(trial.metrics["test/accuracy"], abs=1e-12)
    saved = load_file(trial.record.folder / "checkpoint.safetensors")
    assert "noise" in saved
    assert torch.equal(saved["first.weight"], saved["second.weight"])
    assert "scale" not in saved


def test_teachers_have_their_outputs(results: Any):
    """The stored outputs of each teacher are those of its network."""
    for role in ("plain", "noisy"):
        trial = _trial(results, role)
        (path,) = Path(trial.record.folder).glob("logits-*.sealed")
        stored, _ = load_checked(path)
        images, _ = trial.train_data()
        expected = trial.load_model()(images).detach()
        # the outputs of the validation images are stored, too
        distances = (expected.unsqueeze(1) - stored["logits"][0]).abs().amax(2).amin(1)
        assert float(distances.max()) < 1e-4
