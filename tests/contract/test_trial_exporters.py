"""Every exporter of one trial: the network is that of the trial, with and without fathomlab, or nothing is written."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import fathomlab
from fathomlab.api.exporting import export_trial
from fathomlab.api.trials import StoredTrial
from fathomlab.base.errors import ConfigError, UserError
from fathomlab.export import EXPORTERS, TrialExporter, hub, onnx, parity
from tests.helpers.commands import Command, command_in_process
from tests.helpers.hostile_text import ALL
from tests.helpers.shared import build_once

EXPERIMENTS = {
    "mlp": """
        data: {name: mnist-sample, limit: 100, batch_size: 40}
        roles:
          teacher:
            model: {type: MLP, params: {layers_dim: 12, hidden_layers_num: 1}}
            training: {epochs: 1}
          student:
            model: {type: MLP, params: {layers_dim: 6, hidden_layers_num: 2, batch_norm: true, residual: true}}
            training: {epochs: 2}
            distillation: {alpha: 0.5, temperature: 3}
            parents: {teacher: teacher}
        experiment: {title: "Students", seeds: 2}
    """,
    "cnn": """
        data: {name: shapes, limit: 100, batch_size: 50}
        model: {type: CNN, params: {width: 2, layers: [2, 1, 1, 1]}}
        training: {epochs: 1, precision: fp64}
    """,
}
PLUGIN = """
    from torch import nn

    class Small(nn.Module):
        def __init__(self, fixed: bool = False):
            super().__init__()
            self.fixed, self.output = fixed, nn.Linear(784, 10)

        def forward(self, images):
            if self.fixed:
                return self.output(images.flatten(1)) * float(images.sum() > 1e9 or 1)
            return self.output(images.flatten(1)).relu()
"""
WITH_PLUGIN = """
    plugins: [small.py]
    data: {name: mnist-sample, limit: 50, batch_size: 40}
    model: {type: Small}
    training: {epochs: 1}
    experiment: {factors: {model.params.fixed: [false, true]}}
"""
BLOCKED = "import sys; sys.modules['fathomlab'] = None; sys.path[:] = [p for p in sys.path if 'fathomlab' not in p]; "
LOAD_HUB = BLOCKED + (
    "sys.path.insert(0, sys.argv[1]); import torch; torch.set_num_threads(1); from model import load_model, normalize; "
    "from safetensors.torch import load_file, save_file; data = load_file(sys.argv[2]); torch.set_grad_enabled(False); "
    "save_file({'logits': load_model()(normalize(data['pixels']))}, sys.argv[3])"
)
LOAD_ONNX = BLOCKED + (
    "import numpy as np, onnxruntime; from safetensors.numpy import load_file, save_file; data = load_file(sys.argv[2]); "
    "session = onnxruntime.InferenceSession(sys.argv[1]); parts = np.split(data['pixels'], [1, 4]); "
    "logits = [session.run(['logits'], {'images': part})[0] for part in parts]; "
    "save_file({'logits': np.concatenate(logits)}, sys.argv[3])"
)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results directory with a student, its teacher, a CNN in fp64, and networks of a plugin."""

    def train(folder: Path) -> None:
        (folder / "small.py").write_text(dedent(PLUGIN))
        for name, text in {**EXPERIMENTS, "plugin": WITH_PLUGIN}.items():
            (folder / f"{name}.yaml").write_text(dedent(text))
            fathomlab.run(folder / f"{name}.yaml", runs=folder / "runs", workers=1, progress="off")

    return build_once(tmp_path_factory, "trials-to-export", train)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def the_trial(trained: Path, name: str, **levels: Any) -> StoredTrial:
    """One trial of an experiment; the student of `mlp`."""
    results = fathomlab.open_store(trained / "runs").experiment(name)
    return results.filter(role="student")[0] if name == "mlp" else results.filter(**levels)[0]


def without_fathomlab(code: str, source: Path, pixels: torch.Tensor, folder: Path) -> torch.Tensor:
    """The logits that another process computes, which cannot import fathomlab."""
    from safetensors.torch import save_file

    save_file({"pixels": pixels}, folder / "pixels.safetensors")
    result = folder / "logits.safetensors"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    files = [str(source), str(folder / "pixels.safetensors"), str(result)]
    subprocess.run([sys.executable, "-I", "-W", "error", "-c", code, *files], check=True, cwd=folder, env=environment)
    return load_file(result)["logits"]


def pixels_of(trial: StoredTrial) -> torch.Tensor:
    from fathomlab.api import tensors

    return tensors.test_set(trial.record).pixels


def test_every_exporter_of_a_trial_is_a_component():
    names = [name for name, exporter in EXPORTERS.items() if exporter.subject == "trial"]
    assert names == ["onnx", "hub"]
    assert all(isinstance(EXPORTERS[name](), TrialExporter) for name in names)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_hub_directory_loads_without_fathomlab(trained: Path, name: str, tmp_path: Path):
    trial = the_trial(trained, name)
    exported = trial.export("hub", "out")
    assert [path.name for path in exported.paths] == ["model.safetensors", "config.json", "model.py", "README.md"]
    assert exported.size == sum(path.stat().st_size for path in exported.paths)
    actual = without_fathomlab(LOAD_HUB, tmp_path / "out", pixels_of(trial)[:100], tmp_path)
    images, labels = trial.test_data()
    with torch.no_grad():
        expected = trial.load_model()(images)
    assert actual.dtype == expected.dtype
    assert expected.std(0).max() > 0.01  # a dead network would only compare the last bias
    assert (actual - expected[:100]).abs().max() < 1e-6
    config = json.loads(Path("out/config.json").read_text())
    assert (config["trial"], config["metrics"]) == (trial.hash, dict(trial.metrics))
    assert config["metrics"]["test/accuracy"] == pytest.approx(float((expected.argmax(1) == labels).double().mean()))
    assert config["parameters"] == trial.record.parameters
    assert len(config["classes"]) == 10
    front = yaml.safe_load(Path("out/README.md").read_text().split("---\n")[1])
    assert "license" not in front
    (result,) = front["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == trial.metrics["test/accuracy"]


def test_weights_of_a_student_are_only_its_own(trained: Path):
    """Also with a teacher: its tensors are those of its checkpoint."""
    trial = the_trial(trained, "mlp")
    trial.export("hub", "out")
    tensors = load_file("out/model.safetensors")
    assert tensors.keys() == load_file(trial.record.folder / "checkpoint.safetensors").keys()
    assert sum(tensor.numel() for name, tensor in tensors.items() if "running" not in name) == trial.record.parameters
    assert tensors["hidden.1.weight"].shape == (6, 6)
    assert "2 seeds" in Path("out/README.md").read_text()


def test_best_weights_are_exported(trained: Path):
    trial = the_trial(trained, "mlp")
    trial.export("hub", "out", which="best")
    best, exported = load_file(trial.record.folder / "best.safetensors"), load_file("out/model.safetensors")
    assert all(torch.equal(exported[name], best[name]) for name in best)
    front = yaml.safe_load(Path("out/README.md").read_text().split("---\n")[1])
    metrics = front["model-index"][0]["results"][0]["metrics"]
    assert metrics[0]["value"] == trial.metrics["best/test/accuracy"]


@pytest.mark.parametrize("preprocess", [False, True])
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_onnx_computes_the_trial_without_fathomlab(trained: Path, name: str, preprocess: bool, tmp_path: Path):
    onnx_library = needs_onnx()
    trial = the_trial(trained, name)
    exported = trial.export("onnx", "x.onnx", preprocess=preprocess)
    assert exported.paths == (Path("x.onnx"),)
    assert exported.size == Path("x.onnx").stat().st_size
    assert exported.differences.keys() == {"batch 1", "batch 7", "batch 256"}
    assert 0 < max(exported.differences.values()) < 1e-4
    images, _ = trial.test_data()
    with torch.no_grad():
        expected = trial.load_model()(images)
    assert expected.std(0).max() > 0.01
    inputs = pixels_of(trial) if preprocess else images.float()
    assert inputs.dtype == (torch.uint8 if preprocess else torch.float32)
    actual = without_fathomlab(LOAD_ONNX, tmp_path / "x.onnx", inputs[:504], tmp_path)
    assert (actual - expected[:504]).abs().max() < 1e-4
    model = onnx_library.load("x.onnx")
    onnx_library.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == 18
    shape = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in shape] == ["batch", *images.shape[1:]]
    values = {item.key: item.value for item in model.metadata_props}
    assert (values["trial"], values["dataset"]) == (trial.hash, trial.config["data"]["name"])
    assert len(json.loads(values["classes"])) == 10
    assert json.loads(values["test_accuracy"]) == trial.metrics["test/accuracy"]
    assert b".py" not in Path("x.onnx").read_bytes()


def needs_onnx() -> Any:
    """The library; skips a test without the extra."""
    for name in ("onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="the extra onnx is not installed (make setup-extras)")
    return pytest.importorskip("onnx", reason="the extra onnx is not installed (make setup-extras)")


def test_command_prints_what_was_measured(trained: Path, capfd: pytest.CaptureFixture[str]):
    """Nothing else is printed: torch's exporter is silent."""
    needs_onnx()
    trial = the_trial(trained, "mlp")
    script = "from fathomlab.cli import main; main()"
    command = [
        sys.executable,
        "-c",
        script,
        "export",
        "onnx",
        trial.hash[:8],
        "--to",
        "x.onnx",
        "--runs",
        str(trained / "runs"),
    ]
    assert subprocess.run(command, check=True).returncode == 0
    captured = capfd.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    assert (lines[0], len(lines)) == ("x.onnx", 4)
    assert f"{Path('x.onnx').stat().st_size:,} bytes" in lines[2]
    assert "all 1,000 test images" in lines[3]


@pytest.mark.parametrize("fault", ["weight", "order"])
def test_onnx_mismatch_writes_nothing(trained: Path, monkeypatch: pytest.MonkeyPatch, fault: str):
    """A small change of a logit, and exchanged classes."""
    needs_onnx()
    original = parity.logits_of

    def changed(session: Any, inputs: Any) -> Any:
        logits = original(session, inputs)
        return logits + 2e-4 if fault == "weight" else logits.flip(1)

    monkeypatch.setattr(parity, "logits_of", changed)
    with pytest.raises(UserError) as caught:
        the_trial(trained, "mlp").export("onnx", "new/x.onnx")
    assert caught.value.code == "export-mismatch"
    largest = re.search(r"difference ([\d.e+-]+) ", str(caught.value))
    assert largest
    assert (float(largest[1]) == pytest.approx(2e-4, rel=0.05)) == (fault == "weight")
    changes = re.search(r"predictions for ([\d,]+) of 1,000", str(caught.value))
    assert changes
    assert (changes[1] == "0") == (fault == "weight")
    assert list(Path().iterdir()) == []
    if fault == "weight":
        the_trial(trained, "mlp").export("onnx", "x.onnx", tolerance=1e-3)


def test_hub_mismatch_writes_nothing(trained: Path, monkeypatch: pytest.MonkeyPatch):
    from fathomlab.export import trial as trials

    source = trials.network_source
    monkeypatch.setattr(trials, "network_source", lambda net: source(net).replace("F.relu", "F.gelu"))
    with pytest.raises(UserError) as caught:
        the_trial(trained, "mlp").export("hub", "out")
    assert caught.value.code == "export-mismatch"
    assert list(Path().iterdir()) == []


def test_existing_files_stay(trained: Path):
    """Files that the exporter does not write stay even with overwrite."""
    trial = the_trial(trained, "mlp")
    Path("out").mkdir()
    Path("out/README.md").write_text("mine")
    Path("out/LICENSE").write_text("mine")
    Path("x.onnx").write_text("mine")
    for name, target in (("hub", "out"), *((("onnx", "x.onnx"),) if _has_onnx() else ())):
        with pytest.raises(UserError) as caught:
            trial.export(name, target)
        assert caught.value.code == "target-exists"
    assert sorted(path.name for path in Path("out").iterdir()) == ["LICENSE", "README.md"]
    assert {path.read_text() for path in (Path("x.onnx"), *Path("out").iterdir())} == {"mine"}
    trial.export("hub", "out", overwrite=True)
    assert Path("out/README.md").read_text() != "mine"
    assert Path("out/LICENSE").read_text() == "mine"


def _has_onnx() -> bool:
    from importlib.util import find_spec

    return all(find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))


@pytest.mark.parametrize("module", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_extra_names_the_command(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, module: str
):
    command: Command = command_in_process(capsys)
    monkeypatch.setitem(sys.modules, module, None)
    trial = the_trial(trained, "mlp").hash[:10]
    output = command("export", "onnx", trial, "--to", "x.onnx", "--runs", str(trained / "runs"), "--json")
    assert (output.status, json.loads(output.out)["problems"][0]["code"]) == (2, "missing-extra")
    assert 'pip install "fathomlab[onnx]"' in output.err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("exporter", "options", "code"),
    [
        ("csv", {}, "wrong-subject"),
        ("onx", {}, "unknown-exporter"),
        ("hub", {"which": "first"}, "unknown-name"),
        ("onnx", {"opset": 3}, "out-of-range"),
        ("hub", {"preprocess": True}, "unknown-key"),
    ],
)
def test_mistakes_have_codes(trained: Path, exporter: str, options: dict[str, Any], code: str):
    with pytest.raises(UserError) as caught:
        the_trial(trained, "mlp").export(exporter, "out", **options)
    issue = caught.value.problems[0] if isinstance(caught.value, ConfigError) else caught.value
    assert issue.code == code
    with pytest.raises(UserError) as caught:
        fathomlab.api.export_experiment("hub", "mlp", runs=trained / "runs")
    assert caught.value.code == "wrong-subject"


def test_trials_without_a_network_are_refused(trained: Path, tmp_path: Path):
    from tests.helpers.stores import write_trial

    for status in ("failed", "diverged"):
        trial = write_trial(tmp_path / "runs", "x", {}, 0, 0.5, status=status, cause="loss is nan")
        for exporter in ("hub", "onnx"):
            with pytest.raises(UserError) as caught:
                export_trial(exporter, trial, "out", tmp_path / "runs")
            assert caught.value.code in ("not-finished", "missing-extra")
    assert not Path("out").exists()


def test_module_of_a_plugin_is_exported_as_onnx_only(trained: Path, tmp_path: Path):
    """Its plugin runs only if it is named; a module that reads values cannot be exported."""
    trial = the_trial(trained, "plugin", fixed=False)
    with pytest.raises(UserError) as caught:
        trial.export("hub", "out")
    assert caught.value.code == "not-exportable"
    needs_onnx()
    trial.export("onnx", "x.onnx")
    images, _ = trial.test_data()
    actual = without_fathomlab(LOAD_ONNX, tmp_path / "x.onnx", images[:9], tmp_path)
    with torch.no_grad():
        np.testing.assert_allclose(actual, trial.load_model()(images[:9]), atol=1e-5)
    with pytest.raises(UserError) as caught:
        the_trial(trained, "plugin", fixed=True).export("onnx", "y.onnx")
    assert caught.value.code == "not-exportable"
    assert not Path("y.onnx").exists()


def test_hostile_texts_stay_texts(trained: Path):
    """Titles, conditions, and names of classes are shown as they are, and cannot end the header or a table."""
    from dataclasses import replace

    from fathomlab.api import tensors
    from fathomlab.export.trial import LoadedTrial

    trial = the_trial(trained, "mlp")
    assert trial.record.dataset is not None
    architecture, module = tensors.architecture(trial.record, ()), trial.load_model()
    for index, text in enumerate([*ALL, "---\nlicense: mit\n---", "```\n# x"]):
        names = (text, *trial.record.dataset.class_names[1:])
        info = replace(trial.record.dataset, title=text, name=text, source=text, license=text, class_names=names)
        loaded = LoadedTrial(
            replace(trial.record, dataset=info),
            architecture,
            lambda _: module,
            lambda: tensors.test_set(trial.record),
            text,
            text,
            text,
        )
        folder = Path(str(index))
        hub.Hub().export(loaded, folder)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        card = (folder / "README.md").read_text(encoding="utf-8")
        _, header, body = re.split(r"^---$", card, maxsplit=2, flags=re.MULTILINE)
        front = yaml.safe_load(header)
        assert front.keys() >= {"library_name", "tags", "model-index"}
        assert "license" not in front
        if text.isprintable():
            assert front["model-index"][0]["results"][0]["dataset"]["name"] == config["classes"][0] == text
        rows = [line for line in body.splitlines() if line.startswith("|")]
        assert all(len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) == 3 for row in rows)
        assert not re.search(r"(?<!\\)<", body)
        assert [line for line in body.splitlines() if line.startswith("#")][1:] == [
            "## How to load it",
            "## Training",
            "## Results on the test set",
            "## Limitations",
        ]
        assert body.count("```") == 2
        compile((folder / "model.py").read_text(), "model.py", "exec")


def test_file_is_too_large_for_onnx(trained: Path, monkeypatch: pytest.MonkeyPatch):
    needs_onnx()
    monkeypatch.setattr(onnx, "MAX_BYTES", 100)
    with pytest.raises(UserError) as caught:
        the_trial(trained, "mlp").export("onnx", "x.onnx")
    assert caught.value.code == "too-large"
