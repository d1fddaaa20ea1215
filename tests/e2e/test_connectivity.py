"""Linear mode connectivity of trained networks: pairs, ends, averaged weights, and errors."""

from pathlib import Path
from statistics import stdev
from typing import Any

import pytest
import torch

import fathomlab
from fathomlab import UserError
from fathomlab.api.trials import StoredTrial


def experiment(**training: Any) -> dict[str, Any]:
    """Plain networks with and without batch norm in two orders, two seeds."""
    return {
        "data": {"name": "mnist-sample", "limit": 300, "batch_size": 20},
        "model": {"type": "MLP", "params": {"layers_dim": 8, "hidden_layers_num": 2}},
        "training": {"epochs": 1, "lr": 0.01, **training},
        "experiment": {
            "factors": {"data.order_stream": [0, 1], "model.params.batch_norm": [False, True]},
            "seeds": 2,
        },
    }


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> fathomlab.Results:
    return fathomlab.run(experiment(), runs=tmp_path_factory.mktemp("runs"), progress="off", workers=1)


def test_ends_of_lines_are_the_trained_networks(results: fathomlab.Results):
    """Without batch norm, the ends have the recorded metrics; with it, statistics are computed again."""
    connectivity = results.connectivity(points=5)
    assert [(line.condition, line.seed) for line in connectivity.lines] == [
        (f"batch_norm={norm}", seed) for norm in ("false", "true") for seed in (0, 1)
    ]
    assert connectivity.left_out == 0
    for line in connectivity.lines:
        assert line.alphas == (0, 0.25, 0.5, 0.75, 1)
        assert line.streams == (0, 1)
        for metric in line.values:
            assert line.barrier(metric) >= 0
        normed = line.factors["model.params.batch_norm"]
        pair = results.filter(batch_norm=normed, seed=line.seed)
        recorded = [trial.metrics["test/loss"] for trial in pair]
        exact = [line.values["test/loss"][0], line.values["test/loss"][-1]]
        assert exact == pytest.approx(recorded, rel=0.2 if normed else 1e-5)
        if not normed:
            accuracies = [trial.metrics["test/accuracy"] for trial in pair]
            assert [line.values["test/accuracy"][0], line.values["test/accuracy"][-1]] == pytest.approx(accuracies)
    assert len(connectivity.table()["alpha"]) == 4 * 5
    assert connectivity.barriers()["seeds"] == [2] * 8


def test_middle_of_a_line_is_the_network_of_averaged_weights(results: fathomlab.Results):
    pair = results.filter(batch_norm=False, seed=1)
    (line,) = pair.connectivity(points=3).lines
    models = [trial.load_model() for trial in pair]
    with torch.no_grad():
        for mine, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
            assert not torch.equal(mine, other)
            mine.copy_((mine + other) / 2)
        images, labels = pair[0].test_data()
        logits = models[0](images)
    assert line.values["test/loss"][1] == pytest.approx(
        float(torch.nn.functional.cross_entropy(logits, labels)), rel=1e-5
    )
    assert results.connectivity(points=3).lines[1] == line  # again, and with other pairs before it


def test_pairs_with_an_end_that_diverged_are_left_out(results: fathomlab.Results, monkeypatch: pytest.MonkeyPatch):
    diverged = results[0].hash
    status = StoredTrial.status.fget  # type: ignore[attr-defined]
    changed = property(lambda trial: "diverged" if trial.hash == diverged else status(trial))
    monkeypatch.setattr(StoredTrial, "status", changed)
    connectivity = results.connectivity(points=3)
    assert (len(connectivity.lines), connectivity.left_out) == (3, 1)


def test_trials_without_a_partner_are_an_error(results: fathomlab.Results):
    for trials, points, code in ((results.filter(order_stream=0), 5, "no-trials"), (results, 2, "invalid-option")):
        with pytest.raises(UserError) as raised:
            trials.connectivity(points=points)
        assert raised.value.code == code


def test_dropout_of_the_statistics_is_repeatable(tmp_path: Path):
    source = experiment()
    source["model"]["params"] |= {"batch_norm": True, "dropout": 0.3}
    source["experiment"] = {"factors": {"data.order_stream": [0, 1]}}
    ran = fathomlab.run(source, runs=tmp_path, progress="off", workers=1)
    torch.manual_seed(1)
    first = ran.connectivity(points=3)
    torch.manual_seed(2)
    assert ran.connectivity(points=3) == first


def test_seed_spread_has_a_row_per_condition(results: fathomlab.Results):
    """From the stored predictions; the standard deviation is that of the recorded accuracies."""
    spreads = results.seed_spread()
    assert [spread.seeds for spread in spreads] == [2] * 4
    for spread in spreads:
        accuracies = [trial.metrics["test/accuracy"] for trial in results if trial.condition == spread.condition]
        assert spread.observed == pytest.approx(stdev(value for value in accuracies if value is not None))
    assert results.filter(seed=0).seed_spread() == ()  # one seed has no spread
