"""`fathomlab export` and `fathomlab list` as users call them."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest

import fathomlab
from fathomlab import api
from fathomlab.base.errors import UserError
from fathomlab.store.reading import Store
from tests.helpers.commands import RUN, TRIALS, Command

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


def test_unpacked_bundle_checks_clean(command: Command, store: Path, workspace: Path):
    """Weights are left out on purpose, and reported as such; what is missing besides them is a problem."""
    command("export", "bundle", "tiny", "--to", "mine.zip")
    with zipfile.ZipFile("mine.zip") as archive:
        archive.extractall()
    (root,) = (path.parent for path in Path().glob("*/left-out.txt"))
    before, after = (json.loads(command("store", "check", "--json", "--runs", str(path)).out) for path in (store, root))
    assert (before["faults"], after["faults"], before["left_out"], after["left_out"]) == ([], [], 0, 2 * TRIALS)
    assert before["files"] == after["files"] + after["left_out"]
    output = command("store", "check", "--runs", str(root))
    assert (output.status, output.out.count("note:")) == (0, 1)
    trial = fathomlab.open_store(root).trials()[0]
    with pytest.raises(UserError) as caught:
        trial.load_model()
    assert caught.value.code == "left-out"
    assert len(trial.test_data()[0]) == 1000
    lost = trial.record.folder / "predictions.bin"
    lost.unlink()
    weights = trial.record.folder / "best.safetensors"
    weights.write_bytes(b"other")
    faults = json.loads(command("store", "check", "--json", "--runs", str(root)).out)["faults"]
    assert [Path(item["path"]) for item in faults] == [weights, lost]
    (root / "left-out.txt").unlink()
    assert command("store", "check", "--runs", str(root)).status == 1


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("cvs", "tiny"), "unknown-exporter"),
        (("csv", "nothing"), "no-such-experiment"),
        (("csv", "tiny", "overwrite=maybe"), "wrong-type"),
        (("csv", "tiny", "overwrit=true"), "unknown-key"),
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


@pytest.mark.parametrize("option", ["=x", " =x", "gradients", "to=x"])
def test_options_without_a_name_are_refused(command: Command, store: Path, option: str):
    output = command("export", "csv", "tiny", option, "--json")
    assert (output.status, json.loads(output.out)["problems"][0]["code"]) == (2, "invalid-option")


def test_damaged_experiment_is_refused(command: Command, store: Path):
    path = next(store.glob("experiments/*/experiment.json"))
    path.write_text(path.read_text().replace("Shortcuts", "Shortcut"))
    assert json.loads(command("export", "csv", "tiny", "--json").out)["problems"][0]["code"] == "damaged-record"


def test_python_exports_too(store: Path, tmp_path: Path):
    assert [path.name for path in api.export_experiment("csv", "tiny", to="x", runs=store)] == TABLES
    with pytest.raises(UserError):
        api.export_experiment("csv", "tiny", to="x", runs=store)
    api.export_experiment("csv", "tiny", to="x", runs=store, overwrite=True)
    results = fathomlab.open_store(store).experiment("tiny").filter(residual=True)
    results.export("csv", "y")
    assert all((Path("x") / name).read_bytes() == (Path("y") / name).read_bytes() for name in TABLES)
    with pytest.raises(UserError):
        results.export("csv", "y")


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


def tensorboard_points(root: Path, experiment: str) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """The first digits of each trial to the points of each scalar, as TensorBoard's own reader finds them."""
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="tensorboard is not installed (make setup-extras)",
    )
    scalars = {}
    for run in (root / experiment).iterdir():
        events = reader.EventAccumulator(str(run)).Reload()
        tags = events.Tags()["scalars"]
        scalars[run.name[-8:]] = {tag: [(item.step, item.value) for item in events.Scalars(tag)] for tag in tags}
    return scalars


def stored_points(store: Path, experiment: str, gradients: bool) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """The same from the store."""
    scalars = {}
    for trial in {pair.trial for item in Store(store).experiment(experiment).conditions for pair in item.trials}:
        record = Store(store).trial(trial)
        names = ["lr", *(name for name in record.curves if "/" in name)]
        points = {name: list(zip(record.curves["epoch"], record.curves[name], strict=True)) for name in names}
        for name, value in record.metrics.items():
            points |= {name: [(2, value)]} if "test/" in name else {}
        for snapshot in record.probes["gradients"] if gradients else ():
            for layer, norm in zip(snapshot.names["layer"], snapshot.columns["weight"], strict=True):
                if snapshot.step in (0, *record.curves["step"]):
                    points.setdefault(f"gradients/{layer}", []).append((snapshot.epoch, norm))
        scalars[trial[:8]] = {
            name: [(step, pytest.approx(value, rel=1e-6)) for step, value in values if value is not None]
            for name, values in points.items()
        }
    return scalars


def test_tensorboard_export_equals_the_store(command: Command, store: Path):
    """Also the second time, in another directory, and with gradients."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (make setup-extras)")
    (name,) = (path.name for path in (store / "experiments").iterdir())
    for options, root, gradients in (
        ([], store.absolute() / "tensorboard", False),
        ([], store.absolute() / "tensorboard", False),
        (["--to", "tb", "gradients=true"], Path("tb"), True),
    ):
        output = command("export", "tensorboard", "tiny", *options, "--json")
        assert (output.status, json.loads(output.out)["paths"]) == (0, [str(root / name)])
        assert tensorboard_points(root, name) == stored_points(store, name, gradients)


def test_tensorboard_follows_a_run(command: Command, workspace: Path):
    """Cached trials are written if they were not before, here after one file was removed; others are left alone."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (make setup-extras)")
    run = (*RUN, "--log", "tensorboard", "logging.log_gradients=true")
    assert command(*run).status == 0
    runs = Path("runs")
    (name,) = (path.name for path in (runs / "experiments").iterdir())
    assert tensorboard_points(runs / "tensorboard", name) == stored_points(runs, name, True)
    first, *others = sorted((runs / "tensorboard").rglob("events.*"))
    before = {path: path.stat().st_mtime_ns for path in others}
    shutil.rmtree(first.parent)
    assert command(*run).status == 0
    assert tensorboard_points(runs / "tensorboard", name) == stored_points(runs, name, True)
    assert {path: path.stat().st_mtime_ns for path in others} == before
