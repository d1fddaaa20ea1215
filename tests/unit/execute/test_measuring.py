"""Users' probes: what they may return, what they can read, and that they change nothing."""

from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import numpy as np
import pytest
import torch

import fathomlab
from fathomlab.base.errors import ConfigError, UserError
from fathomlab.config.components import Components, with_plugins
from fathomlab.config.plugins import read_plugin
from fathomlab.engine.loop import train
from fathomlab.engine.snapshot import Snapshot
from fathomlab.engine.state import replica_state_dict
from fathomlab.engine.torch_model import TorchModel
from fathomlab.engine.training import PackTrainer
from fathomlab.execute.pack.measuring import measure_copy, measure_replicas, replica_row
from fathomlab.optim.adam import Adam
from fathomlab.optim.schedules import ReduceLROnPlateau
from fathomlab.probes import PROBES
from fathomlab.probes.updates import Updates
from tests.helpers import small_training

HEAD = "import random\nimport numpy as np\nimport torch\nfrom torch import nn\nfrom fathomlab import Column\n"
NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, images):
        return self.head(self.drop(self.norm(self.conv(images))).mean((2, 3)))
"""


def components(folder: Path, text: str) -> Components:
    """The components of a plugin with this text."""
    path = folder / "parts.py"
    path.write_text(HEAD + dedent(text), encoding="utf-8")
    return with_plugins([read_plugin(path)])


def probe_of(folder: Path, body: str, attributes: str = "", options: dict[str, object] | None = None) -> Any:
    """A probe whose `measure` has this body."""
    head = f"\nclass Sizes:\n{indent(dedent(attributes), '    ')}\n    def measure(self, snapshot):\n"
    text = head + indent(dedent(body), " " * 8) + "\n"
    table, problems = components(folder, text), []
    assert table.unsupported(table.probes, "Sizes") == ""
    probe = table.probes.make("Sizes", options or {}, "", problems)
    assert not problems
    return probe


@pytest.fixture
def pack() -> Any:
    """Two MLPs in training."""
    recipes = [small_training.recipe(small_training.mlp(), optimizer=Adam(), seed=seed) for seed in (1, 2)]
    trainer = small_training.make_trainer(recipes)
    assert next(snapshot.step for snapshot in train(trainer, frozenset({7})) if snapshot.step == 7)
    return trainer


def measured(probe: Any, pack: Any, slot: int = 0) -> dict[str, Any]:
    """The numbers of a replica."""
    return dict(replica_row(measure_copy(probe, pack, slot), 0))


@pytest.mark.parametrize(
    ("value", "expected", "axis"),
    [
        ("2", 2.0, "replica"),
        ("True", 1.0, "replica"),
        ("np.float32(0.5)", 0.5, "replica"),
        ("torch.tensor([3.0])", 3.0, "replica"),
        ("torch.arange(5)", [0.0, 1.0, 2.0, 3.0, 4.0], "layer"),
        ("[weight.detach().shape[0] * 0 + 1 for weight in snapshot.weights()]", [1.0] * 5, "layer"),
        ("torch.ones(1, 3, dtype=torch.float16)", [1.0] * 3, "class"),
        ("np.arange(2)", [0.0, 1.0], "entry"),
        ("[torch.tensor(1), torch.tensor(2)]", [1.0, 2.0], "entry"),
    ],
)
def test_columns_are_inferred(tmp_path: Path, pack: Any, value: str, expected: Any, axis: str):
    probe = probe_of(tmp_path, f"return {{'mean_size': {value}}}")
    row = measured(probe, pack)
    assert row["mean_size"] == expected
    description = probe.describe(row)
    column = description.columns["mean_size"]
    assert (column.axis, column.label) == (axis, "Mean size")
    assert column.figure == ("lines" if axis == "replica" else "profile")
    assert description.title == "Sizes"
    if axis == "layer":
        assert row["layers"] == list(Snapshot(pack).layers)


def test_named_entries_decide_the_axis(tmp_path: Path, pack: Any):
    probe = probe_of(tmp_path, "return {'cells': ['a', 'b', 'c'], 'size': [1, 2, 3]}")
    row = measured(probe, pack)
    assert row["cells"] == ["a", "b", "c"]
    assert probe.describe(row).columns["size"].axis == "cell"
    probe = probe_of(tmp_path, "return {'cells': ['a', 'b'], 'points': ['c', 'd'], 'size': [1, 2]}")
    assert probe.describe(measured(probe, pack)).columns["size"].axis == "cell"  # the first of this length


def test_declared_columns_and_options(tmp_path: Path, pack: Any):
    attributes = """
        title, note = "Sizes of all", "Small is good."
        size, mean = Column("Size", "px", axis="layer", figure="heatmap", log=True), Column("Mean", may_be_nan=True)
        columns = {"size": size, "mean": mean}
        def __init__(self, power: float = 2):
            self.power = power
    """
    body = "return {'size': [self.power] * len(snapshot.layers), 'mean': float('nan')}"
    probe = probe_of(tmp_path, body, attributes, {"power": 3})
    row = measured(probe, pack)
    assert row["size"] == [3.0] * 5
    assert np.isnan(row["mean"])
    description = probe.describe(row)
    assert (description.title, description.note) == ("Sizes of all", "Small is good.")
    assert description.columns["size"].figure == "heatmap"


COLUMNS = 'columns = {"a": Column("A", axis="layer", figure="profile"), "b": Column("B")}'


@pytest.mark.parametrize(
    ("attributes", "body", "word"),
    [
        ("", "return 3", "dictionary"),
        ("", "return None", "dictionary"),
        ("", "return {}", "at least one"),
        ("", "return {'a': torch.ones(2, 5)}", "shape (2, 5)"),
        ("", "return {'a': torch.ones(1, 2, 2)}", "shape (1, 2, 2)"),
        ("", "return {'a': []}", "shape"),
        ("", "return {'a': 'text'}", "numbers"),
        ("", "return {'a': 1j}", "numbers"),
        ("", "return {'a': [[1], [2, 3]]}", "numbers"),
        ("", "return {'a': float('nan')}", "finite"),
        ("", "return {'a': [1, float('inf')]}", "finite"),
        ("", "return {'a': snapshot.weights()[0].sum()}", "requires_grad"),
        ("", "return {'a': [weight.norm() for weight in snapshot.weights()]}", "requires_grad"),
        ("", "return {'a b': 1}", "letters"),
        ("", "return {'step': 1}", "reserved"),
        ("", "return {'a': 1, 'layers': 3}", "layers"),
        (COLUMNS, "return {'a': [1] * 5}", "missing: b"),
        (COLUMNS, "return {'a': [1] * 5, 'b': 1, 'c': 1}", "not declared: c"),
        (COLUMNS, "return {'a': [1] * 4, 'b': 1}", "one number per layer, 5"),
        (COLUMNS, "return {'a': [1] * 5, 'b': [1, 2]}", "one number"),
        ("", "next(iter(snapshot.params.values())).data.mul_(2)\nreturn {'a': 1}", "must not change"),
        ("", "with torch.no_grad():\n    snapshot.weights()[1].zero_()\nreturn {'a': 1}", "hidden.1.weight"),
    ],
)
def test_wrong_result_is_an_error_with_its_line(tmp_path: Path, pack: Any, attributes: str, body: str, word: str):
    probe = probe_of(tmp_path, body, attributes)
    before = {name: tensor.clone() for name, tensor in replica_state_dict(pack.state, 0).items()}
    with pytest.raises(UserError) as raised:
        measured(probe, pack)
    assert raised.value.code == "plugin-error"
    line = (tmp_path / "parts.py").read_text().splitlines().index("    def measure(self, snapshot):") + 1
    assert str(raised.value).startswith(f"parts.py:{line}: Sizes.measure ")
    assert word in str(raised.value)
    small_training.assert_identical(replica_state_dict(pack.state, 0), before)


def test_diverging_networks_may_have_numbers_that_are_not_finite(tmp_path: Path, pack: Any):
    probe = probe_of(tmp_path, "return {'a': snapshot.weights()[0].detach().sum()}")
    with torch.no_grad():
        pack.state.params["input.weight"][0].fill_(torch.inf)
    assert measured(probe, pack)["a"] == float("inf")
    assert np.isfinite(measured(probe, pack, 1)["a"])


ABUSE = """
    module = snapshot.module()
    module.train()
    images, labels = snapshot.images(snapshot.probe_batch(8))[0], snapshot.labels(snapshot.probe_batch(8))[0]
    loss = nn.functional.cross_entropy(module(images), labels)
    loss.backward()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.sub_(parameter.grad)
    images.zero_()
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(2)
    torch.set_grad_enabled(False)
    return {"loss": loss.detach(), "draw": torch.rand(2)}
"""


@pytest.mark.parametrize("network", ["mlp", "cnn", "module"])
def test_probe_changes_no_training(tmp_path: Path, network: str):
    """A probe that trains the module, seeds global generators, and changes settings: the trial has the same bits."""
    table = components(
        tmp_path, NET + "\nclass Abuse:\n    def measure(self, snapshot):\n" + indent(dedent(ABUSE), " " * 8)
    )
    probe: Any = table.probes.make("Abuse", {}, "", [])
    if network == "module":
        architecture = table.models.make("Net", {}, "", []).build((3, 16, 16))
    else:
        architecture = getattr(small_training, network)(**({"dropout": 0.2} if network == "mlp" else {}))
    recipe = small_training.recipe(architecture, optimizer=Adam(), epochs=2, precision="fp32")
    undisturbed, expected = small_training.run_training([recipe])
    trainer = small_training.make_trainer([recipe])
    draws, generators = [], (torch.get_rng_state(), random_states())
    progress = []
    for snapshot in train(trainer, frozenset({0, 3, 7})):
        draws.append(measured(probe, trainer)["draw"])
        progress += [snapshot] if snapshot.validation else []
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert random_states() == generators[1]
    assert (torch.get_default_dtype(), torch.is_grad_enabled()) == (torch.float32, True)
    small_training.assert_identical(
        small_training.replica_results(trainer, progress, 0), small_training.replica_results(undisturbed, expected, 0)
    )


def random_states() -> Any:
    """The states of the generators of NumPy and Python."""
    import random

    return random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002


def test_random_numbers_depend_on_seed_and_step_only(tmp_path: Path, pack: Any):
    """Not on the pack, its slot, or what was drawn before."""
    probe = probe_of(tmp_path, "return {'draw': torch.rand(2).tolist() + [random.random(), np.random.rand()]}")
    rows = measure_replicas(probe, pack, [0, 1])
    assert rows[0]["draw"] != rows[1]["draw"]
    torch.rand(5)
    assert measure_replicas(probe, pack, [1]) == {1: rows[1]}
    alone = small_training.make_trainer([pack.recipes[1]])
    assert next(snapshot.step for snapshot in train(alone, frozenset({7})) if snapshot.step == 7)
    assert measured(probe, alone) == rows[1]
    pack.state.step += 1
    assert measured(probe, pack, 1)["draw"] != rows[1]["draw"]


def test_snapshot_has_its_position_and_data(pack: Any):
    snapshot = Snapshot(pack)
    index = snapshot.probe_batch(4)
    assert (snapshot.step, snapshot.epoch, snapshot.classes) == (7, 1, 3)
    assert snapshot.images(index).shape == (2, 4, *small_training.FLAT)
    assert torch.equal(snapshot.labels(index), pack.data.labels[index])


@pytest.mark.parametrize("network", ["mlp", "cnn", "module"])
def test_module_is_the_network_of_a_replica(tmp_path: Path, network: str):
    """Equal logits in eval mode, with the weights and running statistics of this replica, which stay as they are."""
    if network == "module":
        architecture = components(tmp_path, NET).models.make("Net", {}, "", []).build((3, 16, 16))
        recipes = [small_training.recipe(architecture, epochs=1)]
    else:
        recipes = [small_training.recipe(getattr(small_training, network)(), seed=seed, epochs=1) for seed in (1, 2)]
    trainer, _ = small_training.run_training(recipes)
    state, slot = trainer.state, len(recipes) - 1
    snapshot = Snapshot(trainer)
    images = snapshot.images(snapshot.probe_batch(6))
    expected = trainer.predict(state.params, state.buffers, images)[slot]
    module = snapshot.module(slot)
    assert not module.training
    assert isinstance(module, TorchModel) == (network != "module")
    torch.testing.assert_close(module(images[slot]), expected, rtol=1e-10, atol=1e-12)
    before = {name: tensor.clone() for name, tensor in replica_state_dict(state, slot).items()}
    module.train()
    module(images[slot])
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    small_training.assert_identical(replica_state_dict(state, slot), before)


@pytest.mark.parametrize("name", small_training.PROBES_OF_ANY_NETWORK)
def test_replica_of_a_pack_is_measured_like_the_pack(name: str, pack: Any):
    """Also the next step of the optimizer, which depends on the step and the memory of the schedule."""
    probe = PROBES[name](**PROBES[name].test_options)
    together = probe.measure(Snapshot(pack))
    for slot in (0, 1):
        alone = probe.measure(Snapshot(pack.replica(slot)))
        for key, value in together.items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(alone[key][0], value[slot], rtol=1e-9, atol=1e-12, equal_nan=True)


def test_replicas_that_train_separately_are_measured_at_the_current_step():
    """The next step of the optimizer depends on the step, the epoch, and the memory of the schedule."""
    schedule = ReduceLROnPlateau(patience=0, threshold=0.9)
    recipes = [
        small_training.recipe(small_training.cnn(), seed=seed, optimizer=Adam(), schedule=schedule) for seed in (1, 2)
    ]
    together, data = small_training.make_trainer(recipes), small_training.make_dataset((3, 16, 16))
    separate = PackTrainer(
        recipes, data, together.train_index, together.validation_index, small_training.CPU, separate_replicas=True
    )
    measured = []
    for trainer in (together, separate):
        assert next(snapshot.step for snapshot in train(trainer, frozenset({12})) if snapshot.step == 12)
        measured.append(measure_replicas(Updates(examples=8), trainer, [0, 1]))
    for slot in (0, 1):
        expected, actual = (torch.tensor(rows[slot]["update"]) for rows in measured)
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("class Sizes:\n    def __init__(self, power):\n        pass\n", "power"),
        ("class Sizes:\n    def __init__(self, at: int = 1):\n        pass\n", "at"),
        ("class Sizes:\n    columns = {'a': 'b'}\n", "fathomlab.Column"),
        ("class Sizes:\n    columns = {'step': Column()}\n", "reserved"),
        ("class Sizes:\n    columns = {'a': Column(quotient=('b', 'c'))}\n", "quotient"),
        ("class Sizes:\n    title = 3\n", "title"),
        ("class Metrics:\n", "reserved"),
        ("class Gradients:\n", "reserved"),
    ],
)
def test_unusable_probe_is_reported_when_it_is_named(tmp_path: Path, text: str, word: str):
    table = components(tmp_path, text + "    def measure(self, snapshot):\n        return {'a': 1}\n")
    reason = table.unsupported(table.probes, text.split()[1].strip(":"))
    assert reason.startswith("parts.py:7: " if "__init__" in text else "parts.py: ")
    assert word in reason


PROBE = """
    class Sizes:
        def __init__(self, power: float = 2.0):
            self.power = power
        def measure(self, snapshot):
            BODY
"""


@pytest.mark.parametrize(
    ("body", "options", "expected"),
    [
        ("return {'a': 1}", {"power": 1}, None),
        ("return {'a': 1}", {"powr": 1}, ("unknown-key", "experiment.probes.Sizes.powr")),
        ("return {'a': float('nan')}", {}, ("plugin-error", "experiment.probes.Sizes")),
        ("return {'a': undefined}", {}, ("plugin-error", "experiment.probes.Sizes")),
        ("raise SystemExit(0)", {}, ("plugin-error", "experiment.probes.Sizes")),
        ("print('noise'); return {'a': 1}", {}, None),
    ],
)
@pytest.mark.parametrize("model", ["MLP", "CNN"])
def test_probe_is_rehearsed_before_training(
    tmp_path: Path,
    body: str,
    options: dict[str, object],
    expected: Any,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    (tmp_path / "parts.py").write_text(dedent(PROBE).replace("BODY", body))
    monkeypatch.chdir(tmp_path)
    params = {"layers_dim": 4} if model == "MLP" else {"layers": [1, 1, 1, 1]}
    config = {
        "plugins": ["parts.py"],
        "data": {"name": "mnist-sample" if model == "MLP" else "shapes"},
        "model": {"type": model, "params": params},
        "training": {"epochs": 1},
        "experiment": {"probes": {"Sizes": options}},
    }
    if expected is None:
        (trial,) = fathomlab.load(config).trials
        assert trial.content["plugins"].keys() == {"parts.py"}
        assert trial.content["probes"]["Sizes"]["power"] == options.get("power", 2.0)
        assert capsys.readouterr().out == ""
        return
    with pytest.raises(ConfigError) as raised:
        fathomlab.load(config)
    (problem,) = raised.value.problems
    assert (problem.code, problem.path) == expected
    if problem.code == "plugin-error":
        assert problem.message.startswith("parts.py:")
