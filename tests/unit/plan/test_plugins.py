"""Plans with plugins and with losses chosen by name: content, identity, factors, and problems."""

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml

import fathomlab
from fathomlab.base.codec import from_plain, to_plain
from fathomlab.base.errors import ConfigError, UserError
from fathomlab.engine.adapters import initial_adapters
from fathomlab.losses.cross_entropy import CrossEntropy
from fathomlab.losses.distillation import Distillation
from fathomlab.plan import Plan, decode_trial, encode_trial, read_trial
from fathomlab.prepare.jobs import Job

PLUGIN = """
    import random
    from dataclasses import dataclass
    import numpy as np
    import torch
    import torch.nn.functional as F
    from torch import nn
    from fathomlab.models.parameters import Parameter

    class Net(nn.Module):
        def __init__(self, depth: int = 1, classes: int = 10):
            super().__init__()
            self.layers = nn.Sequential(*(nn.Linear(784, 784) for _ in range(depth)), nn.Linear(784, classes))

        def forward(self, images):
            return self.layers(images.flatten(1))

    def focal(logits, labels, *, gamma: float = 2.0):
        cross_entropy = F.cross_entropy(logits, labels, reduction="none")
        return (1 - (-cross_entropy).exp()) ** gamma * cross_entropy

    def averaged(logits, labels):
        return F.cross_entropy(logits, labels)

    def constant(logits, labels):
        return labels.double()

    def nothing(logits, labels):
        return None

    def noisy(logits, labels):
        return F.cross_entropy(logits + torch.rand_like(logits), labels, reduction="none")

    def smeared(logits, labels):
        return np.random.rand() * F.cross_entropy(logits, labels, reduction="none")

    @dataclass(frozen=True)
    class Averaged:
        def terms(self, signals):
            return {"averaged": F.cross_entropy(signals.logits[0], signals.labels[0])}

    @dataclass(frozen=True)
    class Weighted:
        weight: float = 1.0

        def terms(self, signals):
            losses = F.cross_entropy(signals.logits.flatten(0, 1), signals.labels.flatten(), reduction="none")
            return {"weighted": random.random() * losses.view(signals.labels.shape)}

    class Normed(Net):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(10)

        def forward(self, images):
            return self.norm(super().forward(images))

    class Squeezed(Net):
        def forward(self, images):
            return super().forward(images).squeeze()

    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.matrix = nn.Parameter(torch.ones(784, 10))

        def forward(self, images):
            return images.flatten(1) @ self.matrix

    class Leaving(nn.Module):
        def forward(self, images):
            raise SystemExit(0)

    def matching(logits, labels, teacher_logits, *, weight: float = 1.0):
        return weight * (logits - teacher_logits).square().mean(1)

    def doubled(logits, label_losses):
        return 2 * label_losses

    @dataclass(frozen=True)
    class Hint:
        layer: str = "hidden.1"
        needs = frozenset({"features", "teacher.features"})

        def parameters(self, student, teacher):
            return (Parameter("matrix", (teacher[self.layer][0], student[self.layer][0]), "weight", "weight"),)

        def terms(self, signals):
            mapped = signals.features[self.layer] @ signals.parameters["matrix"].transpose(1, 2)
            hint = (mapped - signals.teacher_features[self.layer]).square().mean(-1)
            return {"labels": signals.label_losses, "hint": hint}

    @dataclass(frozen=True)
    class Sparse:
        needs = frozenset({"features"})

        def terms(self, signals):
            return {"sparse": sum(values.abs().mean(-1) for values in signals.features.values())}
"""
MLP = {"type": "MLP", "params": {"layers_dim": 4}}
SAMPLE = {"name": "mnist-sample", "limit": 200}
PLAIN: dict[str, Any] = {"data": SAMPLE, "model": MLP, "training": {"epochs": 1}}
DISTILLED: dict[str, Any] = {
    "data": SAMPLE,
    "teacher_model": {"type": "Net"},
    "student_model": MLP,
    "training_teacher": {"epochs": 1},
    "training_student": {"epochs": 1},
    "distillation": {},
    "plugins": ["parts.py"],
}
OWN: dict[str, Any] = {**PLAIN, "model": {"type": "Net"}, "plugins": ["parts.py"]}
NORMED: dict[str, Any] = {**OWN, "model": {"type": "Normed"}}
BARE: dict[str, Any] = {**OWN, "model": {"type": "Bare"}, "experiment": {}}


@pytest.fixture(autouse=True)
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The plugin, in the working directory."""
    path = tmp_path / "parts.py"
    path.write_text(dedent(PLUGIN), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return path


def plan(config: dict[str, Any], *overrides: str) -> Plan:
    """The plan of a mapping."""
    return fathomlab.load(config, overrides)


def hashes(config: dict[str, Any], *overrides: str) -> list[str]:
    """The hashes of a plan's trials."""
    return [trial.hash for trial in plan(config, *overrides).trials]


def problems(config: dict[str, Any], *overrides: str) -> list[tuple[str, str]]:
    """Codes and keys of a plan's problems."""
    with pytest.raises(ConfigError) as raised:
        plan(config, *overrides)
    return [(problem.code, problem.path) for problem in raised.value.problems]


def test_plugin_that_no_trial_uses_changes_no_identity():
    assert hashes({**PLAIN, "plugins": ["parts.py"]}) == hashes(PLAIN)


def test_content_names_only_the_plugins_of_the_trial(plugin: Path):
    other = plugin.with_name("other.py")
    other.write_text("def unused(logits, labels):\n    return logits[:, 0]\n")
    (trial,) = plan({**OWN, "plugins": ["parts.py", "other.py"]}).trials
    assert trial.content["plugins"] == {"parts.py": trial.plugins[0].sha256}
    assert hashes(OWN) == [trial.hash]
    other.write_text("raise RuntimeError\n")
    assert hashes(OWN) == [trial.hash]


def test_changed_plugin_is_a_new_trial(plugin: Path):
    before = hashes(OWN)
    plugin.write_text(plugin.read_text() + "# a comment\n")
    assert hashes(OWN) != before


def test_plugins_are_relative_to_the_experiment_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "exp.yaml").write_text(json.dumps(OWN))
    expected = hashes(OWN)
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    assert [trial.hash for trial in fathomlab.load("../exp.yaml").trials] == expected


def test_depths_vary_the_depth_of_a_module():
    conditions = plan({**OWN, "experiment": {"depths": [1, 2]}}).conditions
    assert [condition.depth for condition in conditions] == [1, 2]
    assert [trial.recipe.architecture.num_params for condition in conditions for trial in condition.trials] == [
        785 * 784 + 7850,
        2 * 785 * 784 + 7850,
    ]


def test_widths_of_a_module_without_width_are_rejected():
    assert problems({**OWN, "experiment": {"widths": [1, 2]}}) == [("conflict", "experiment.widths")]


def test_loss_of_a_plugin_replaces_the_criterion():
    config = {**PLAIN, "plugins": ["parts.py"], "training": {"epochs": 1, "loss": {"type": "focal"}}}
    config["experiment"] = {"factors": {"training.loss.params.gamma": [1, 2]}}
    first, second = plan(config).trials
    assert first.content["training"]["loss"] == {"type": "focal", "params": {"gamma": 1.0}}
    assert "criterion" not in first.content["training"]
    assert (type(second.recipe.loss).__name__, second.recipe.loss) != ("focal", first.recipe.loss)
    assert [condition.label for condition in plan(config).conditions] == ["gamma=1", "gamma=2"]


def test_built_in_losses_by_name_are_the_same_trials():
    smooth = {"epochs": 1, "loss": {"type": "CrossEntropy", "params": {"label_smoothing": 0.1}}}
    assert hashes({**PLAIN, "training": smooth}) == hashes(PLAIN, "training.label_smoothing=0.1")
    named = {**DISTILLED, "distillation": {"loss": {"type": "Distillation", "params": {"alpha": 0.4}}}}
    assert hashes(named) == hashes(DISTILLED, "distillation.alpha=0.4")


def test_loss_of_the_student_is_inside_its_distillation():
    *_, student = plan(DISTILLED, "training_student.loss.type=focal").trials
    assert student.recipe.loss == Distillation()
    assert type(student.recipe.label_loss).__name__ == "focal"
    *_, student = plan(DISTILLED).trials
    assert (student.recipe.loss, student.recipe.label_loss) == (Distillation(), CrossEntropy())


def test_distillation_loss_of_a_plugin_reads_the_teacher():
    *_, student = plan(DISTILLED, "distillation.loss.type=matching").trials
    assert student.content["distillation"] == {"loss": {"type": "matching", "params": {"weight": 1.0}}}
    assert student.recipe.loss.needs == frozenset({"teacher.logits"})


def test_only_losses_of_students_read_the_loss_on_the_labels():
    *_, student = plan(DISTILLED, "distillation.loss.type=doubled").trials
    assert type(student.recipe.loss).__name__ == "doubled"
    assert problems(OWN, "training.loss.type=doubled") == [("plugin-error", "training.loss")]


def test_losses_of_plugins_read_features():
    """Those of networks that fathomlab builds; each is run once with features of their shapes."""
    students = {**DISTILLED, "teacher_model": {"type": "MLP", "params": {"layers_dim": 9}}}
    *_, student = plan(students, "distillation.loss.type=Hint").trials
    assert list(initial_adapters(student.recipe)) == ["adapter:matrix"]
    assert problems(DISTILLED, "distillation.loss.type=Hint") == [("data-mismatch", "distillation.loss.type")]
    assert problems(students, "distillation.loss={type: Hint, params: {layer: x}}") == [
        ("plugin-error", "distillation.loss")
    ]
    assert plan({**PLAIN, "plugins": ["parts.py"]}, "training.loss.type=Sparse").trials[0].recipe.needs_features
    assert problems(OWN, "training.loss.type=Sparse") == [("data-mismatch", "training.loss.type")]
    assert ("conflict", "training_student.loss.type") in problems(students, "training_student.loss.type=Sparse")
    assert problems(OWN, "training.loss.type=Hint") == [("conflict", "training.loss.type")]


@pytest.mark.parametrize(
    ("config", "override", "expected"),
    [
        (OWN, "training={epochs: 1, label_smoothing: 0.1, loss: {type: focal}}", ("conflict", "training.loss")),
        (OWN, "training={epochs: 1, criterion: CrossEntropyLoss, loss: {type: focal}}", ("conflict", "training.loss")),
        (OWN, "training.loss.type=matching", ("conflict", "training.loss.type")),
        (OWN, "training.loss.type=Distillation", ("conflict", "training.loss.type")),
        (OWN, "training.loss.type=focl", ("unknown-name", "training.loss.type")),
        (
            OWN,
            "training={epochs: 1, loss: {type: focal, params: {gama: 1}}}",
            ("unknown-key", "training.loss.params.gama"),
        ),
        (DISTILLED, "distillation={alpha: 0.5, loss: {type: matching}}", ("conflict", "distillation.loss")),
        (
            DISTILLED,
            "distillation={loss: {type: Distillation, params: {hard: 1}}}",
            ("unknown-key", "distillation.loss.params.hard"),
        ),
        (OWN, "model.params.depht=2", ("unknown-key", "model.params.depht")),
        (OWN, "model.params.classes=7", ("data-mismatch", "model.params")),
        (OWN, "model.params.classes=-1", ("plugin-error", "model.params")),
        (NORMED, "data.batch_size=53", ("batch-too-small", "data.batch_size")),
        (NORMED, "data.batch_size=1", ("batch-too-small", "data.batch_size")),
        (BARE, "experiment.analyze_gradients=true", ("data-mismatch", "model")),
        (BARE, "experiment.probes=[representation]", ("data-mismatch", "model")),
        (OWN, "training.loss.type=averaged", ("plugin-error", "training.loss")),
        (OWN, "training.loss.type=constant", ("plugin-error", "training.loss")),
        (OWN, "training.loss.type=nothing", ("plugin-error", "training.loss")),
        (OWN, "training.loss.type=noisy", ("plugin-error", "training.loss")),
        (OWN, "training.loss.type=smeared", ("plugin-error", "training.loss")),
        (OWN, "training.loss.type=Averaged", ("plugin-error", "training.loss")),
        (OWN, "training.loss.type=Weighted", ("plugin-error", "training.loss")),
        (OWN, "model.type=Leaving", ("plugin-error", "model.params")),
        (DISTILLED, "distillation.loss.type=averaged", ("plugin-error", "distillation.loss")),
        (OWN, "model.type=Nett", ("unknown-name", "model.type")),
        (OWN, "plugins=[absent.py]", ("unreadable-file", "plugins[0]")),
        (OWN, "plugins=[parts.py, parts.py]", ("duplicate-name", "plugins[1]")),
        (OWN, "plugins='parts.py'", ("wrong-type", "plugins")),
    ],
    ids=str,
)
def test_invalid_plugins_and_losses_are_reported(config: dict[str, Any], override: str, expected: tuple[str, str]):
    key, _, text = override.partition("=")
    if "." in key:
        assert problems(config, override) == [expected]
    else:
        assert problems({**config, key: yaml.safe_load(text)}) == [expected]


def test_batches_of_one_image_are_possible_for_other_modules():
    """Without batch normalization, without the last batch, or with more images in it."""
    assert plan(OWN, "data.batch_size=53").trials
    assert plan(NORMED, "data.batch_size=53", "data.drop_last=true").trials
    assert plan(NORMED, "data.batch_size=52").trials
    assert problems(OWN, "model.type=Squeezed", "data.batch_size=53") == [("batch-too-small", "data.batch_size")]
    assert plan(OWN, "model.type=Squeezed", "data.batch_size=52").trials
    assert plan(BARE).trials


def test_plugin_error_reports_lines_of_both_files(tmp_path: Path, plugin: Path):
    plugin.write_text("x = 1\nimport no_such_module\n")
    (tmp_path / "exp.yaml").write_text("seed: 0\nplugins:\n  - parts.py\nmodel: {type: MLP}\ntraining: {epochs: 1}\n")
    with pytest.raises(ConfigError) as raised:
        fathomlab.load(tmp_path / "exp.yaml")
    (problem,) = raised.value.problems
    assert (problem.code, problem.location) == ("plugin-error", "exp.yaml:3")
    assert problem.message.startswith("parts.py:2: ModuleNotFoundError")


def test_trials_are_read_back_with_their_plugins_only():
    planned = plan(OWN)
    (trial,) = planned.trials
    again = read_trial(trial.content, components=planned.loaded.components)
    assert (again, again.recipe, again.plugins) == (trial, trial.recipe, trial.plugins)
    with pytest.raises(ValueError):  # noqa: PT011
        read_trial(trial.content)


def test_job_carries_the_source_of_its_plugins(tmp_path: Path, plugin: Path):
    planned = plan(DISTILLED, "distillation.loss.type=matching")
    job = Job(planned.trials, tmp_path)
    plugin.unlink()
    again = from_plain(Job, to_plain(job))
    assert [trial.recipe for trial in again.trials] == [trial.recipe for trial in job.trials]
    assert [each.name for each in again.plugins] == ["parts.py"]
    assert job.plugins == again.plugins


def test_job_rejects_another_source():
    (trial,) = plan(OWN).trials
    data = encode_trial(trial)
    data["plugins"][0]["source"] += "# changed on the way\n"
    data["plugins"][0]["sha256"] = "1" * 64
    with pytest.raises(UserError) as raised:
        decode_trial(data)
    assert raised.value.code == "plugin-changed"


def test_losses_as_levels_have_short_labels():
    levels = [{"type": "focal", "params": {"gamma": 1.5}}, {"type": "CrossEntropy"}]
    conf = {**PLAIN, "plugins": ["parts.py"], "experiment": {"factors": {"training.loss": levels}}}
    labels = [condition.label for condition in plan(conf).conditions]
    assert labels == ["loss=focal(gamma=1.5)", "loss=CrossEntropy"]
