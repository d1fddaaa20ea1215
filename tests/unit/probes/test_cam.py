"""Class activation maps equal loops over channels, and their means are the logits of the module."""

from typing import Any

import pytest
import torch

from fathomlab.engine.loop import train
from fathomlab.engine.snapshot import Snapshot
from fathomlab.models.mlp import MLP
from fathomlab.models.resnet import CNN
from fathomlab.probes.cam import Cam
from tests.helpers import reference_models

NETWORKS = [
    CNN(layers=(1, 1, 1, 1), num_classes=3, width=2, stem="plain"),
    CNN(layers=(1, 1, 1, 1), num_classes=3, width=2, residual=False, block_type="bottleneck"),
    CNN(layers=(1, 1, 1, 1), num_classes=3, width=2, pre_activation=True),
]


def trained(packs: Any, options: CNN, **changes: Any) -> Snapshot:
    """A pack of two replicas after eight steps, whose running statistics have changed."""
    pack = packs(options, **changes)
    next(snapshot for snapshot in train(pack, frozenset({8})) if snapshot.step == 8)
    return Snapshot(pack)


@pytest.mark.parametrize("options", NETWORKS, ids=str)
def test_means_of_maps_plus_bias_equal_logits(options: CNN, packs: Any) -> None:
    snapshot = trained(packs, options)
    columns = Cam(5).measure(snapshot)
    index = snapshot.probe_images(5)
    for slot in range(2):
        logits = snapshot.module(slot)(snapshot.images(index)[slot]).detach()
        bias = snapshot.params["output.bias"][slot].detach()
        predicted, labels = logits.argmax(1), snapshot.labels(index)[slot]
        assert columns["predicted"][slot].tolist() == predicted.tolist()
        assert columns["label"][slot].tolist() == labels.tolist()
        torch.testing.assert_close(columns["probability"][slot], logits.softmax(1).amax(1), rtol=1e-12, atol=0)
        for name, classes in (("predicted_map", predicted), ("label_map", labels)):
            means = columns[name][slot].view(5, -1).mean(1) + bias[classes]
            expected = logits[torch.arange(5), classes]
            torch.testing.assert_close(means, expected, rtol=1e-11, atol=1e-12)


def test_maps_equal_loops_over_channels(packs: Any) -> None:
    """The features before the pooling are the last point of the reference network in eval mode."""
    options = NETWORKS[0]
    snapshot = trained(packs, options)
    columns = Cam(2).measure(snapshot)
    index = snapshot.probe_images(2)
    reference = reference_models.reference_model(options, snapshot.params, 1).eval()
    statistics = reference_models.tensors(reference)
    for name, module in snapshot.module(1).named_buffers():
        statistics[name].copy_(module)
    with torch.no_grad():
        reference(snapshot.images(index)[1])
    features, weight = reference.points[-1], snapshot.params["output.weight"][1].detach()
    height, width = features.shape[2:]
    assert columns["cells"] == [f"{n}/{y}/{x}" for n in ("1", "2") for y in range(height) for x in range(width)]
    expected = [
        sum(
            float(weight[int(columns["label"][1, n]), k]) * float(features[n, k, y, x])
            for k in range(features.shape[1])
        )
        for n in range(2)
        for y in range(height)
        for x in range(width)
    ]
    assert columns["label_map"][1].tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_maps_of_frozen_output_layer_are_measured(packs: Any) -> None:
    options = NETWORKS[0]
    frozen, plain = (packs(options, frozen=names) for names in (("output.",), ()))
    columns, expected = (Cam(3).measure(Snapshot(pack)) for pack in (frozen, plain))
    assert torch.equal(columns["label_map"], expected["label_map"])


def test_map_shape_needs_pooling_and_one_linear_layer() -> None:
    assert NETWORKS[0].build((3, 32, 32)).map_shape == (16, 4, 4)
    assert CNN().build((3, 32, 32)).map_shape == (512, 2, 2)
    assert MLP().build((1, 28, 28)).map_shape is None
