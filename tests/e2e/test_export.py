"""`fathomlab export` and `fathomlab list` as users call them."""

import json
import zipfile
from pathlib import Path

import pytest

import fathomlab
from fathomlab import api
from fathomlab.base.errors import UserError
from tests.helpers.commands import TRIALS, Command

TABLES = ["trials.csv", "curves.csv", "gradients.csv", "verdicts.csv"]


def test_export_writes_tables(command: Command, store: Path):
    output = command("export", "csv", "tiny", "--to", "tables", "--json")
    assert (output.status, output.err) == (0, "")
    assert json.loads(output.out) == {"exporter": "csv", "paths": [str(Path("tables") / name) for name in TABLES]}
    assert len(Path("tables/trials.csv").read_text().splitlines()) == TRIALS + 1
    assert command("export", "csv", "tiny.yaml", "--to", "tables").status == 2
    again = command("export", "csv", "tiny.yaml", "overwrite=true", "--to", "tables", "--runs", "runs")
    assert (again.status, again.out.split()) == (0, [str(Path("tables") / name) for name in TABLES])


def test_default_target_is_named_after_the_experiment(command: Command, store: Path):
    (name,) = (path.name for path in (store / "experiments").iterdir())
    assert command("export", "bundle", "tiny").out.split() == [f"{name}.zip"]
    assert command("export", "csv", "tiny").out.split()[0] == str(Path(f"{name}-csv") / "trials.csv")


def test_unpacked_bundle_is_a_results_directory(command: Command, store: Path, workspace: Path):
    """The teacher sees the same trials and the same report; weights are not in the file."""
    assert command("export", "bundle", "tiny", "--to", "mine.zip").status == 0
    with zipfile.ZipFile("mine.zip") as archive:
        archive.extractall()
        assert not [name for name in archive.namelist() if name.endswith((".safetensors", ".sealed"))]
        assert sum(name.endswith("predictions.bin") for name in archive.namelist()) == TRIALS
    (name,) = (path.name for path in (store / "experiments").iterdir())
    for args in (["list", "--json"], ["list", "tiny"]):
        assert command(*args, "--runs", name).out == command(*args, "--runs", "runs").out
    assert command("report", "tiny", "--runs", name).status == 0
    page = Path(name, "report.html").read_bytes()
    assert page == Path(name, "experiments", name, "report.html").read_bytes()
    assert page == (store / "experiments" / name / "report.html").read_bytes()


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("cvs", "tiny"), "unknown-exporter"),
        (("csv", "nothing"), "no-such-experiment"),
        (("csv", "tiny", "overwrite=maybe"), "wrong-type"),
        (("csv", "tiny", "overwite=true"), "unknown-key"),
        (("csv", "tiny", "overwrite"), "invalid-option"),
        (("csv", "tiny", "to=x"), "invalid-option"),
        (("csv", "tiny", "--to", "tiny.yaml"), "unwritable"),
        (("bundle", "tiny", "--to", "."), "target-exists"),
    ],
)
def test_mistakes_have_codes(command: Command, store: Path, args: tuple[str, ...], code: str):
    before = sorted(Path.cwd().rglob("*"))
    output = command("export", *args, "--json")
    assert (output.status, json.loads(output.out)["problems"][0]["code"]) == (2, code)
    assert sorted(Path.cwd().rglob("*")) == before


def test_missing_extra_names_the_command(command: Command, store: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    output = command("export", "parquet", "tiny", "--json")
    assert (output.status, json.loads(output.out)["problems"][0]["code"]) == (2, "missing-extra")
    assert 'pip install "fathomlab[frames]"' in output.err


def test_damaged_experiment_is_refused(command: Command, store: Path):
    path = next(store.glob("experiments/*/experiment.json"))
    path.write_text(path.read_text().replace("Shortcuts", "Shortcut"))
    assert json.loads(command("export", "csv", "tiny", "--json").out)["problems"][0]["code"] == "damaged-record"


def test_python_exports_too(store: Path, tmp_path: Path):
    assert [path.name for path in api.export_experiment("csv", "tiny", to="x", runs=store)] == TABLES
    with pytest.raises(UserError):
        api.export_experiment("csv", "tiny", to="x", runs=store)
    api.export_experiment("csv", "tiny", to="x", runs=store, overwrite=True)


def test_list_is_sorted_and_filtered(command: Command, store: Path):
    """By experiment, condition in the order of the plan, and seed."""
    rows = json.loads(command("list", "--json").out)
    order = [(row["config"]["model.params.residual"], row["seed"]) for row in rows]
    assert order == [(False, 3), (False, 4), (True, 3), (True, 4)]
    folder = store / "trials" / rows[1]["trial"]
    (folder / "result.json").unlink()
    assert [row["seed"] for row in json.loads(command("list", "--status", "interrupted", "--json").out)] == [4]
    both = command("list", "tiny", "--status", "interrupted", "--status", "finished", "--json")
    assert [row["trial"] for row in json.loads(both.out)] == [row["trial"] for row in rows]
    assert command("list", "--status", "failed").out == "No such trials.\n"
    assert json.loads(command("list", "--status", "fine", "--json").out)["problems"][0]["code"] == "invalid-option"
    assert command("list", "nothing").status == 2


def test_list_shows_a_shared_trial_in_the_given_experiment(command: Command, store: Path, workspace: Path):
    """A trial of two experiments is listed with its condition in the one that was named."""
    again = {"seed": 3, "experiment": {"factors": {"training.epochs": [2, 1]}, "seeds": 1}}
    text = Path("tiny.yaml").read_text().split("experiment:")[0]
    Path("zzz.yaml").write_text(text + f"experiment: {json.dumps(again['experiment'])}\n")
    fathomlab.run("zzz.yaml", "experiment.analyze_gradients=true", runs=store, workers=1, progress="off")
    rows = json.loads(command("list", "zzz", "--json").out)
    assert [(row["condition"], row["experiment"][:3]) for row in rows] == [("epochs=2", "zzz"), ("epochs=1", "zzz")]
    assert len(rows[0]["experiments"]) + len(rows[1]["experiments"]) == 3
    assert len(json.loads(command("list", "--json").out)) == TRIALS + 1
