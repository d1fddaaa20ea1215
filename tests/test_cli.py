"""The commands as a shell sees them: exit statuses, one JSON document on stdout, errors on stderr without a traceback."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import fathomlab
from fathomlab.base.identity import content_hash
from fathomlab.cli import laboratory, main
from fathomlab.store.checksums import seal

ROOT = Path(__file__).parents[1]
TINY = """\
data: {name: mnist-sample, limit: 200, batch_size: 40}
model:
  type: MLP
  params: {layers_dim: 6, hidden_layers_num: 1}
training:
  epochs: 2
experiment:
  title: A tiny experiment
  analyze_gradients: true
  factors: {model.params.residual: [false, true]}
quick:
  training: {epochs: 1}
claims:
  - {name: shortcuts help, factor: residual, levels: [true, false], expect: greater}
"""


PLAIN = "model.params.residual=false"


class Said(NamedTuple):
    """What a command left."""

    status: int
    out: str
    err: str


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an experiment file and an empty store."""
    (tmp_path / "exp.yaml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FATHOMLAB_RUNS", str(tmp_path / "runs"))
    return tmp_path


@pytest.fixture
def command(folder: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command in this process."""

    def run(*words: str) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as leaving:
            main(list(words))
        assert isinstance(leaving.value.code, int)
        return Said(leaving.value.code, *capsys.readouterr())

    return run


def shell(words: Sequence[str], folder: Path, **options: Any) -> Said:
    """Runs a command in a process of its own."""
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True, timeout=120, check=False, **options
    )
    return Said(done.returncode, done.stdout, done.stderr)


def test_plan_says_what_an_experiment_needs(command: Any, folder: Path):
    """Trials, cached, conditions, seeds, factors and an estimate; nothing is written."""
    said = command("plan", "exp.yaml", "experiment.depths=1,2", "seed=0..2", "--json")
    assert (said.status, said.err) == (0, "")
    document = json.loads(said.out)
    assert document["trials"] == 12
    assert document["cached"] == 0
    assert document["conditions"] == 4
    assert document["seeds"] == 3
    assert document["factors"] == {
        "model.params.hidden_layers_num": [1, 2],
        "model.params.residual": [False, True],
    }
    assert document["estimate"]["seconds"] >= 0
    assert document["estimate"]["flops"] > 0
    assert document["claims"] == ["shortcuts help"]
    assert not (folder / "runs").exists()


def test_plan_for_people(command: Any):
    """A line of numbers, then the conditions."""
    said = command("plan", "exp.yaml", "model.params.residual=false,true")
    first, *rest = said.out.splitlines()
    assert first.startswith("2 trials (2 conditions x 1 seed): 0 cached, 2 to train in 1 pack, about ")
    assert [line.split(":")[0].strip() for line in rest[:2]] == ["residual=false", "residual=true"]
    assert [line for line in rest if line.startswith("note: ") and "seed" in line]


def test_run_list_show_report(command: Any, folder: Path):
    """The whole way, each command with one JSON document on stdout and the keys that are promised."""
    ran = command("run", "exp.yaml", "model.params.residual=false,true", "--workers", "1", "--json")
    assert ran.status == 0
    summary = json.loads(ran.out)
    assert summary.keys() == {"experiment", "trials", "trained", "cached", "failed", "diverged", "report", "seconds"}
    assert (summary["trials"], summary["trained"], summary["cached"], summary["failed"]) == (2, 2, 0, 0)
    assert Path(summary["report"]).read_text().count("A tiny experiment") >= 1
    assert (folder / "runs" / "index.html").exists()
    assert "[2/2]" in ran.err

    again = json.loads(command("run", "exp.yaml", "model.params.residual=false,true", "--json").out)
    assert (again["trained"], again["cached"]) == (0, 2)
    planned = json.loads(command("plan", "exp.yaml", "model.params.residual=false,true", "--json").out)
    assert planned["cached"] == 2
    assert planned["experiment"] == summary["experiment"]

    listed = command("list", "--runs", "runs", "--json")
    rows = json.loads(listed.out)
    assert (listed.status, listed.err) == (0, "")
    assert len(rows) == 2
    for row in rows:
        assert {"trial", "experiment", "status", "seed", "config", "parameters", "metrics"} <= row.keys()
        assert row["experiment"] == summary["experiment"]
        assert row["status"] == "finished"
        assert row["config"]["training.epochs"] == 2
        assert row["config"]["model.params.layers_dim"] == 6
        parts = {f"{name}/{what}" for name in ("train", "val", "test") for what in ("loss", "accuracy")}
        assert parts <= row["metrics"].keys()

    shown = command("show", rows[0]["trial"][:12], "--json")
    trial = json.loads(shown.out)
    assert trial["provenance"]["backend"]["name"] == "reference"
    assert trial.items() >= rows[0].items()
    assert trial["curves"]["epoch"] == [1, 2]
    assert len(trial["curves"]["val/accuracy"]) == 2
    assert [record["step"] for record in trial["gradients"]] == [0, 1, 4, 8]
    assert re.search(r"^\s*training\.epochs\s+2$", command("show", rows[0]["trial"]).out, re.M)

    Path(summary["report"]).unlink()
    reported = command("report", "--json")
    assert json.loads(reported.out) == {"reports": [summary["report"]], "index": str(folder / "runs" / "index.html")}
    assert Path(summary["report"]).exists()
    assert command("list").out.count("finished") == 2


def test_quick_and_runs_are_options(command: Any, folder: Path):
    """--quick lays the section over the file, --runs names another store."""
    ran = command("run", "exp.yaml", PLAIN, "--quick", "--runs", str(folder / "other"), "--workers", "1", "--json")
    assert ran.status == 0
    assert not (folder / "runs").exists()
    rows = json.loads(command("list", "--runs", "other", "--json").out)
    assert [row["config"]["training.epochs"] for row in rows] == [1]
    assert "-quick-" in rows[0]["experiment"]


def test_data_list(command: Any, monkeypatch: pytest.MonkeyPatch, folder: Path):
    """A row a dataset: what is here, where, and how to get what is not."""
    monkeypatch.setenv("FATHOMLAB_DATA", str(folder / "data"))
    said = command("data", "list", "--json")
    rows = {row["name"]: row for row in json.loads(said.out)}
    assert list(rows) == ["mnist", "fashion-mnist", "cifar-10", "cifar-100", "mnist-sample", "shapes"]
    assert rows["shapes"]["present"]
    assert rows["mnist-sample"]["state"] == "built in"
    assert not rows["mnist"]["present"]
    assert rows["mnist"]["remedy"] == "fathomlab data download mnist, or fathomlab data import FOLDER"
    assert "fathomlab data download cifar-10" in command("data", "list").out


def test_a_diverged_trial_is_a_result(command: Any):
    """Status 0, counted on its own, and in the report."""
    ran = command(
        "run", "exp.yaml", PLAIN, "training.lr=0.001,1e20", "training.optimizer=SGD", "--workers", "1", "--json"
    )
    assert ran.status == 0
    summary = json.loads(ran.out)
    assert (summary["trials"], summary["failed"], summary["diverged"]) == (2, 0, 1)
    assert Path(summary["report"]).exists()
    assert "diverged" in ran.err
    assert sorted(row["status"] for row in json.loads(command("list", "--json").out)) == ["diverged", "finished"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["plan", "exp.yaml", "training.epoch=3"], ["exp.yaml", "override 1", "training.epoch", "'epochs'"]),
        (["run", "exp.yaml", "seed=x"], ["exp.yaml", "override 1", "seed", "'x'"]),
        (["run", "exp.yaml", "--workers", "no"], ["--workers", "auto", "'no'"]),
        (["run", "exp.yaml", "--device", "tpu"], ["--device", "auto, cpu, or cuda", "'tpu'"]),
        (["run", "exp.yaml", "--progress", "loud"], ["--progress", "auto, rich, plain, json, off", "'loud'"]),
        (["report"], ["{runs}", "fathomlab run 1_2 --quick"]),
        (["report", "none"], ["'none'", "{runs}"]),
        (["show", "ab"], ["'ab'"]),
        (["show", "abcd"], ["'abcd'", "{runs}"]),
    ],
)
def test_a_user_s_mistake_is_one_message_and_status_2(command: Any, folder: Path, words: list[str], parts: list[str]):
    """On stderr, with what to change and the value, with nothing on stdout, and nothing trained."""
    done = command(*words)
    assert (done.status, done.out) == (2, "")
    assert [part for part in parts if part.replace("{runs}", str(folder / "runs")) not in done.err] == []
    assert "Traceback" not in done.err
    assert not (folder / "runs" / "trials").exists()


@pytest.mark.parametrize(
    "words", [["plan"], ["nothing"], ["plan", "exp.yaml", "--nothing"], ["run", "exp.yaml", "--workers"]]
)
def test_a_wrong_command_line_is_status_2(command: Any, words: list[str]):
    """A missing word, an unknown command, an unknown option: usage on stderr."""
    done = command(*words)
    assert done.status == 2
    assert done.out == ""
    assert done.err.strip()
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("name", "near"),
    [("1_9", "1_1"), ("config_exp1_2.yml", ""), ("2_3", "2_2")],
)
def test_an_unknown_experiment_names_those_that_are(command: Any, name: str, near: str):
    """With the nearest, where one is near."""
    done = command("plan", name)
    assert (done.status, done.out) == (2, "")
    assert f"{name}: no such file." in done.err
    assert "experiments: 1_1, 1_2, 1_3, 2_2, batchnorm_depth, depth_init." in done.err
    assert ("Did you mean '" in done.err) == bool(near)


def test_a_number_means_a_file_of_the_laboratory(command: Any):
    """From any working folder."""
    assert json.loads(command("plan", "1_2", "--json").out)["trials"] == 56
    assert json.loads(command("plan", "1_2", "seed=0..2", "--quick", "--json").out)["trials"] == 24


def test_the_seed_s_command_is_the_same_run(command: Any, folder: Path, capsys: pytest.CaptureFixture[str]):
    """--experiment NAME with overrides and options makes the trials that `fathomlab run NAME` finds done."""
    words = ["training.epochs=1", "model.params.residual=true", "--workers", "1"]
    capsys.readouterr()
    assert laboratory(["--device", "cpu", "--experiment", "exp.yaml", *words]) == 0
    out = capsys.readouterr().out
    assert out.startswith("1 trial: 1 trained, 0 cached ")
    assert "\nreport: " in out
    assert laboratory(["--experiment=exp.yaml", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cached"] == 1
    assert json.loads(command("run", "exp.yaml", *words, "--json").out)["cached"] == 1
    (row,) = json.loads(command("list", "--json").out)
    (trial,) = fathomlab.load("exp.yaml", words[:2]).trials
    assert row["trial"] == trial.hash


def test_the_seed_s_command_without_a_name(folder: Path, capsys: pytest.CaptureFixture[str]):
    """Says what is missing, with an example."""
    assert laboratory(["seed=3"]) == 2
    out, err = capsys.readouterr()
    assert (out, "--experiment is missing" in err, "python main.py --experiment 1_1" in err) == ("", True, True)
    assert laboratory(["--experiment"]) == 2
    assert laboratory(["--experiment", "9_9"]) == 2
    assert "9_9: no such file." in capsys.readouterr().err
    assert laboratory(["--help"]) == 0
    assert "--experiment 1_1" in capsys.readouterr().out


def test_progress_goes_to_stderr_as_asked(command: Any):
    """Plain lines, JSON lines, or nothing; stdout holds the answer alone."""
    plain = command("run", "exp.yaml", PLAIN, "seed=1", "--workers", "1", "--progress", "plain")
    assert "1 trial" in plain.err
    assert [line.partition(":")[0] for line in plain.out.splitlines()] == ["1 trial", "undecided", "report"]
    lines = command("run", "exp.yaml", PLAIN, "seed=2", "--workers", "1", "--progress", "json", "--json")
    events = [json.loads(line) for line in lines.err.splitlines()]
    assert [event["event"] for event in events] == ["note", "planned", "started", "epoch", "epoch", "finished"]
    assert json.loads(lines.out)["trained"] == 1
    assert command("run", "exp.yaml", PLAIN, "seed=3", "--workers", "1", "--progress", "off").err == ""


def test_an_error_in_a_process_of_its_own(folder: Path):
    """main.py and -m fathomlab: status 2, one message, no traceback."""
    for words in (
        ["-m", "fathomlab", "run", "exp.yaml", "lr=1"],
        [str(ROOT / "main.py"), "--experiment", "exp.yaml", "lr=1"],
    ):
        said = shell(words, folder)
        assert said.status == 2
        assert said.out == ""
        assert said.err.startswith("exp.yaml: 1 problem\n  override 1  lr: ")


def _training(folder: Path) -> "subprocess.Popen[str]":
    """A run in a group of its own whose first trial is finished and whose second trains for ever."""
    words = [str(ROOT / "main.py"), "--experiment", "exp.yaml", PLAIN, "training.epochs=1,20000", "run.pack=1"]
    process = subprocess.Popen(
        [sys.executable, *words, "--workers", "2", "--progress", "json"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if '"finished"' in line:
            break
    return process


def test_ctrl_c_is_status_130_and_keeps_what_is_finished(folder: Path):
    """The signal of Ctrl-C to the whole group, as a terminal sends it, while the second trial trains."""
    process = _training(folder)
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "same command" in err.splitlines()[-1]
    assert "Traceback" not in err
    statuses = {record.content["training"]["epochs"]: record.status for record in fathomlab.open_store(folder / "runs")}
    assert statuses == {1: "finished", 20000: "interrupted"}


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel which processes are left")
def test_workers_end_with_a_run_that_is_killed_and_record_nothing(folder: Path):
    """SIGKILL to the coordinator alone: no worker goes on, and no trial is called failed by a worker's last breath."""
    process = _training(folder)
    process.kill()
    process.communicate(timeout=60)
    ended = time.monotonic() + 10
    while _group(process.pid) and time.monotonic() < ended:
        time.sleep(0.05)
    assert _group(process.pid) == []
    statuses = {record.content["training"]["epochs"]: record.status for record in fathomlab.open_store(folder / "runs")}
    assert statuses.pop(1) == "finished"
    assert set(statuses.values()) <= {"interrupted"}


def _group(leader: int) -> list[int]:
    """Processes of a group that are alive."""
    alive = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split() if entry.name.isdigit() else []
        except OSError:
            continue
        if fields and int(fields[2]) == leader and fields[0] != "Z":
            alive.append(int(entry.name))
    return alive


LIGHT = """
import sys
from fathomlab.cli import main
try:
    main(sys.argv[1:])
except SystemExit as leaving:
    assert not leaving.code, leaving.code
heavy = {"torch", "numpy", "scipy", "matplotlib", "jinja2", "pandas", "polars"} & set(sys.modules)
if "--help" in sys.argv:
    heavy |= {"yaml", "fathomlab.config"} & set(sys.modules)  # typer itself loads pydantic for the help of a command
print("LOADED", sorted(heavy), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "words",
    [["--help"], ["run", "--help"], ["plan", "exp.yaml"], ["list"], ["show", "{trial}"], ["data", "list"], ["report"]],
)
def test_commands_that_train_nothing_load_no_torch(folder: Path, words: list[str]):
    """Start-up is quick because the large libraries are not there; drawing may load what draws."""
    trial = content_hash({"seed": 1})
    path = folder / "runs" / "trials" / trial
    path.mkdir(parents=True)
    (path / "trial.json").write_text(json.dumps(seal({"trial": trial, "content": {"seed": 1}})))
    if words == ["report"]:
        experiment = folder / "runs" / "experiments" / "e"
        experiment.mkdir(parents=True)
        (experiment / "experiment.json").write_text(json.dumps(seal({"name": "e", "title": "E"})))
    said = shell(["-c", LIGHT, *(word.replace("{trial}", trial) for word in words)], folder)
    assert said.status == 0
    loaded = said.err.splitlines()[-1]
    assert "torch" not in loaded
    if words != ["report"]:
        assert loaded == "LOADED []"


def test_importing_the_package_loads_nothing_large(folder: Path):
    """Planning in Python loads no torch either."""
    code = "import sys, fathomlab; fathomlab.load('exp.yaml'); assert 'torch' not in sys.modules"
    assert shell(["-c", code], folder) == Said(0, "", "")


def test_a_reader_that_has_gone_away_is_no_error(folder: Path):
    """`fathomlab plan | head -1` ends in silence."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "fathomlab", "plan", "exp.yaml", "seed=0..2"],
        cwd=folder,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writing)
    assert "Traceback" not in done.stderr
