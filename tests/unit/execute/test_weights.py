"""The weights of a trial load into the torch module of the same options."""

from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import fathomlab
from fathomlab.base.identity import content_hash
from fathomlab.execute.experiment import RunOptions, run_experiment
from fathomlab.execute.pack.inputs import load_dataset_of
from fathomlab.execute.signals import StopRequest
from fathomlab.store.reading import Store
from fathomlab.store.records import TrialRecord

MODELS: dict[str, dict[str, Any]] = {
    "mlp": {
        "type": "MLP",
        "params": {"input_size": 3072, "layers_dim": 4, "hidden_layers_num": 3, "batch_norm": True, "residual": True},
    },
    "cnn": {"type": "CNN", "params": {"width": 2, "layers": [1, 2, 1, 1]}},
}
NAMES = {
    "mlp": {"input.weight", "hidden.3.weight"},
    "cnn": {"stage1.1.conv1.weight", "stage2.1.norm1.running_mean"},
}


@pytest.fixture(scope="module", params=list(MODELS))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, TrialRecord]:
    """A trial of one epoch."""
    config = {
        "data": {"name": "shapes", "limit": 64, "batch_size": 16},
        "model": MODELS[request.param],
        "training": {"epochs": 1, "lr": 0.01},
    }
    root = tmp_path_factory.mktemp("runs")
    plan = fathomlab.load(config)
    run_experiment(plan, root, RunOptions("cpu", 1), lambda event: None, StopRequest())
    return request.param, Store(root).trial(plan.trials[0].hash)


@pytest.mark.parametrize("file", ["checkpoint.safetensors", "best.safetensors"])
def test_weights_load_strictly_into_a_module(trained: tuple[str, TrialRecord], file: str):
    name, record = trained
    tensors = load_file(record.folder / file)
    model = fathomlab.build_model(MODELS[name], seed=7)
    assert set(tensors) == set(model.state_dict())
    assert NAMES[name] <= set(tensors)
    model.load_state_dict(tensors, strict=True)
    assert all(torch.equal(value, tensors[key]) for key, value in model.state_dict().items())
    if file == "checkpoint.safetensors":
        _, images = load_dataset_of(record.content, record.folder.parents[1], "cpu", torch.float32)
        logits = model.eval()(images.normalize(images.test_images).reshape(-1, *model.architecture.shape))
        assert np.array_equal(logits.argmax(1).numpy(), record.predictions())
        accuracy = (logits.argmax(1) == images.test_labels).double().mean().item()
        assert accuracy == pytest.approx(record.metrics["test/accuracy"], abs=1e-12)
        correct = record.correct()
        assert correct is not None
        assert correct.mean() == pytest.approx(accuracy, abs=1e-12)
        assert record.labels is not None
        assert record.labels.data == content_hash({key: record.content["data"][key] for key in ("name", "params")})
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict({key: tensors[key] for key in list(tensors)[1:]}, strict=True)
