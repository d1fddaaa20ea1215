"""`fathomlab new`: every template is a working experiment with tests that pass, and nothing is overwritten."""

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import fathomlab
from fathomlab.cli import main
from fathomlab.cli.new import KINDS, TEMPLATES

TRIALS = {"model": 4, "dataset": 4, "loss": 4, "probe": 4, "optimizer": 4, "experiment": 6}
USABLE = [kind for kind in KINDS if kind != "dataset" or hasattr(fathomlab, "Arrays")]


def new(*arguments: str) -> int:
    """The exit status of `fathomlab new ARGUMENTS`."""
    with pytest.raises(SystemExit) as ended:
        main(["new", *arguments])
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder per kind with its template."""
    root = tmp_path_factory.mktemp("new")
    for kind in USABLE:
        assert new(kind, f"tiny_{kind}", "--to", str(root / kind)) == 0
    return root


def test_every_template_is_written(folders: Path):
    assert sorted(TRIALS) == sorted(KINDS)
    for kind in USABLE:
        component = [] if kind == "experiment" else [f"tiny_{kind}.py"]
        expected = [*component, f"test_tiny_{kind}.py", f"tiny_{kind}.yaml", "experiment.schema.json"]
        assert sorted(path.name for path in (folders / kind).iterdir()) == sorted(expected)
        texts = [path.read_text() for path in (folders / kind).iterdir() if path.suffix != ".json"]
        assert (
            "".join(texts).count("$")
            == "".join(texts).count("# yaml-language-server: $schema=experiment.schema.json\n")
            == 1
        )
    assert len(list(TEMPLATES.iterdir())) == 3 * len(KINDS) - 1


@pytest.mark.parametrize("kind", USABLE)
def test_experiment_of_a_template_is_planned(folders: Path, kind: str):
    plan = fathomlab.load(folders / kind / f"tiny_{kind}.yaml")
    assert (len(plan.trials), plan.notices) == (TRIALS[kind], ())


def test_claim_of_the_template_expects_what_its_name_says(folders: Path):
    (claim,) = fathomlab.load(folders / "experiment" / "tiny_experiment.yaml").claims
    assert (claim["name"], claim["levels"], claim["expect"]) == ("residual helps", [True, False], "greater")


@pytest.mark.slow
def test_tests_of_every_template_pass(folders: Path):
    """In one process, as `python -m pytest` of a user would run them."""
    environment = ["-q", "-p", "no:cacheprovider", "-W", "error", "--rootdir", str(folders)]
    command = [sys.executable, "-m", "pytest", *environment, *(str(folders / kind) for kind in USABLE)]
    completed = subprocess.run(command, capture_output=True, text=True, cwd=folders, check=False)
    assert completed.returncode == 0, completed.stdout
    assert f"{sum(2 + (kind not in ('probe', 'experiment')) for kind in USABLE)} passed" in completed.stdout


@pytest.mark.parametrize("kind", USABLE)
def test_closed_forms_of_a_template_hold(folders: Path, kind: str, monkeypatch: pytest.MonkeyPatch):
    """The tests that train nothing, in this process."""
    monkeypatch.syspath_prepend(str(folders / kind))
    module = importlib.import_module(f"test_tiny_{kind}")
    tests = [value for name, value in vars(module).items() if name.startswith("test_") and inspect.isfunction(value)]
    quick = [test for test in tests if not inspect.signature(test).parameters]
    assert quick
    for test in quick:
        test()


@pytest.mark.parametrize("kind", USABLE)
def test_template_is_clean(folders: Path, kind: str):
    for command in (["check"], ["format", "--check"]):
        completed = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", "--no-cache", "."],
            cwd=folders / kind,
            capture_output=True,
            text=True,
            check=False,
        )
        assert completed.returncode == 0, completed.stdout


def test_class_names_may_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert new("probe", "DeadUnits", "--to", str(tmp_path / "inner"), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["name"], document["class_name"]) == ("dead_units", "DeadUnits")
    names = ["dead_units.py", "dead_units.yaml", "test_dead_units.py", "experiment.schema.json"]
    assert [Path(file).name for file in document["files"]] == names
    assert "class DeadUnits:" in (tmp_path / "inner" / "dead_units.py").read_text()


def test_schema_is_written_once(tmp_path: Path):
    """A schema that exists stays, whatever its content."""
    assert new("model", "first", "--to", str(tmp_path)) == 0
    written = (tmp_path / "experiment.schema.json").read_text()
    assert written == (Path(__file__).parents[2] / "configs" / "experiment.schema.json").read_text()
    (tmp_path / "experiment.schema.json").write_text("mine")
    assert new("model", "second", "--to", str(tmp_path)) == 0
    assert (tmp_path / "experiment.schema.json").read_text() == "mine"


@pytest.mark.parametrize("existing", ["small.py", "small.yaml", "test_small.py"])
def test_nothing_is_overwritten(tmp_path: Path, existing: str, capsys: pytest.CaptureFixture[str]):
    (tmp_path / existing).write_text("mine")
    assert new("model", "small", "--to", str(tmp_path), "--json") == 2
    assert json.loads(capsys.readouterr().out)["problems"][0]["code"] == "file-exists"
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "mine"


@pytest.mark.parametrize(
    ("kind", "name", "code"),
    [
        ("network", "small", "unknown-name"),
        ("model", "2fast", "invalid-name"),
        ("model", "a-b", "invalid-name"),
        ("model", "../up", "invalid-name"),
        ("model", "", "invalid-name"),
        ("model", "größe", "invalid-name"),
        ("model", "a" * 61, "invalid-name"),
        ("model", "class", "invalid-name"),
        ("loss", "random", "invalid-name"),
        ("loss", "numpy", "invalid-name"),
        ("model", "mlp", "duplicate-name"),
        ("probe", "gradients", "duplicate-name"),
        ("probe", "Metrics", "duplicate-name"),
        ("optimizer", "adam", "duplicate-name"),
        ("dataset", "shapes", "duplicate-name"),
    ],
)
def test_unusable_names_are_rejected(
    tmp_path: Path, kind: str, name: str, code: str, capsys: pytest.CaptureFixture[str]
):
    assert new(kind, name, "--to", str(tmp_path), "--json") == 2
    assert json.loads(capsys.readouterr().out)["problems"][0]["code"] == code
    assert list(tmp_path.iterdir()) == []


def test_directory_that_is_a_file_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").touch()
    assert new("model", "small", "--to", str(tmp_path / "file"), "--json") == 2
    assert json.loads(capsys.readouterr().out)["problems"][0]["code"] == "unwritable"
