"""The commands in this process: exit status, one JSON document on stdout, messages on stderr."""

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import pytest

import fathomlab
from fathomlab.cli import laboratory
from tests.helpers.commands import RUN, TRIALS, Command

pytestmark = pytest.mark.usefixtures("no_charts")

CONFIGS = Path(__file__).parents[2] / "configs"
MORE = "experiment.seeds=3"
ONE = ("experiment.seeds=1", "model.params.residual=true")


def test_plan_prints_json(command: Command, workspace: Path):
    """Nothing is written."""
    output = command("plan", "tiny.yaml", "experiment.depths=1,2", "seed=0..2", "--json")
    assert (output.status, output.err) == (0, "")
    document = json.loads(output.out)
    counts = [document[key] for key in ("trials", "cached", "conditions", "seeds")]
    assert counts == [12, 0, 4, 3]
    assert document["factors"] == {"model.params.hidden_layers_num": [1, 2], "model.params.residual": [False, True]}
    assert document["estimate"]["seconds"] >= 0
    assert document["estimate"]["flops"] > 0
    assert document["claims"] == ["Shortcuts help"]
    assert not (workspace / "runs").exists()


def test_plan_uses_the_device(command: Command, workspace: Path):
    """Packs of a GPU are larger, and one GPU has one worker, whatever this computer has."""
    sweep = ("plan", "tiny.yaml", "experiment.seeds=40", "--json")
    packs = {name: json.loads(command(*sweep, "--device", name).out)["packs"] for name in ("cpu", "cuda:1")}
    assert packs["cuda:1"] < packs["cpu"]
    workers = json.loads(command(*sweep, "run.pack=1", "--device", "cuda:1").out)["estimate"]["workers"]
    assert workers == 1


def test_plan_uses_the_number_of_workers(command: Command, workspace: Path):
    """For packs and the estimate, never more than there are packs."""
    sweep = ("plan", "tiny.yaml", "run.pack=1", "experiment.seeds=2", "--json")
    estimates = [json.loads(command(*sweep, "--workers", text).out)["estimate"] for text in ("1", "3", "99")]
    assert [estimate["workers"] for estimate in estimates] == [1, 3, 4]
    output = command("plan", "tiny.yaml", "--workers", "0")
    assert (output.status, output.out, "--workers" in output.err) == (2, "", True)


def test_plan_prints_counts_and_conditions(command: Command, workspace: Path):
    first, *rest = command("plan", "tiny.yaml", "experiment.seeds=1").out.splitlines()
    assert first.startswith("2 trials (2 conditions x 1 seed): 0 cached, 2 to train in 1 pack")
    assert [line.split(":")[0].strip() for line in rest[:2]] == ["residual=false", "residual=true"]
    assert [line for line in rest if line.startswith("note: ") and "seed" in line]


def test_plan_finds_bundled_files(command: Command, workspace: Path):
    """By number, from any working directory."""
    assert json.loads(command("plan", "1_2", "--json").out)["trials"] == 56
    assert json.loads(command("plan", "1_2", "seed=0..2", "--quick", "--json").out)["trials"] == 24


@pytest.mark.parametrize(("name", "suggestion"), [("1_9", True), ("config_exp1_2.yml", False)])
def test_plan_lists_bundled_files(command: Command, workspace: Path, name: str, suggestion: bool):
    """With a suggestion if a name is similar."""
    output = command("plan", name)
    assert (output.status, output.out) == (2, "")
    names = sorted(path.stem.removeprefix("config_exp") for path in CONFIGS.glob("*.yaml"))
    assert len(names) >= 6
    assert f"Bundled experiments: {', '.join(names)}." in output.err
    assert ("Did you mean '" in output.err) == suggestion


def test_run_trains_missing_trials(command: Command, store: Path):
    """One more seed: two new trials, and the documented keys on stdout."""
    output = command(*RUN[:2], MORE, "--workers", "1", "--json")
    assert output.status == 0
    summary = json.loads(output.out)
    keys = {"experiment", "trials", "trained", "cached", "failed", "diverged", "report", "seconds"}
    assert summary.keys() - {"notices"} == keys  # a notice says that there is no compiler
    assert [summary[key] for key in ("trials", "trained", "cached", "failed")] == [TRIALS + 2, 2, TRIALS, 0]
    assert "Shortcuts &amp; depth" in Path(summary["report"]).read_text(encoding="utf-8")
    assert (store / "index.html").exists()
    assert "[2/2]" in output.err
    planned = json.loads(command("plan", "tiny.yaml", MORE, "--json").out)
    assert (planned["cached"], planned["experiment"]) == (TRIALS + 2, summary["experiment"])


def test_run_prints_the_mean_of_each_condition(command: Command, store: Path, monkeypatch: pytest.MonkeyPatch):
    """Of its finished seeds, with the number of those without an accuracy."""
    rows = json.loads(command("list", "--json").out)
    means = [100 * mean(row["metrics"]["test/accuracy"] for row in rows[start : start + 2]) for start in (0, 2)]
    lines = command(*RUN).out.splitlines()
    assert [line.split()[0] for line in lines[2:4]] == [f"{value:.2f}" for value in means]
    assert [line.split()[-2:] for line in lines[2:4]] == [["2", "plain"], ["2", "residual"]]
    lines = command(
        *RUN, "training.optimizer=SGD", "training.lr=0.1,1e12", "model.params.residual=true"
    ).out.splitlines()
    assert "all 2 seeds diverged" in lines[3]
    assert lines[3].split()[:3] == ["-", "-", "0"]
    assert not [text for text in ("nan", "diverged") if text in lines[2]]
    monkeypatch.setattr("fathomlab.cli.means.MOST", 1)
    shown = command(*RUN).out.splitlines()[1:4]
    assert [line.split()[-1] for line in shown[:2]] == ["condition", "plain"]
    assert "1 other condition" in shown[2]


def test_list_prints_a_row_per_trial(command: Command, store: Path):
    (experiment,) = (path.name for path in (store / "experiments").iterdir())
    output = command("list", "--runs", "runs", "--json")
    rows = json.loads(output.out)
    assert (output.status, output.err, len(rows)) == (0, "", TRIALS)
    metrics = {f"{part}/{name}" for part in ("train", "val", "test") for name in ("loss", "accuracy")}
    for row in rows:
        assert {"trial", "experiment", "status", "seed", "config", "parameters", "metrics"} <= row.keys()
        assert (row["experiment"], row["status"]) == (experiment, "finished")
        assert (row["config"]["training.epochs"], row["config"]["model.params.layers_dim"]) == (2, 6)
        assert metrics <= row["metrics"].keys()
    assert command("list", experiment).out.count("finished") == TRIALS


def test_list_includes_trials_that_wait(command: Command, store: Path):
    """Such as those after a kill."""
    row = json.loads(command("list", "--json").out)[0]
    shutil.rmtree(store / "trials" / row["trial"])
    rows = json.loads(command("list", "tiny", "--json").out)
    assert [(item["trial"], item["seed"], item["condition"]) for item in rows if item["status"] == "waiting"] == [
        (row["trial"], row["seed"], row["condition"])
    ]
    assert len(rows) == TRIALS
    assert len(json.loads(command("list", "tiny", "--status", "waiting", "--json").out)) == 1
    assert "--runs runs" in command("verify", "tiny.yaml", "--runs", "runs").out


def test_show_prints_a_trial(command: Command, store: Path):
    row = json.loads(command("list", "--json").out)[0]
    trial = json.loads(command("show", row["trial"][:12], "--json").out)
    assert trial.items() >= row.items()
    assert trial["curves"]["epoch"] == [1, 2]
    assert len(trial["curves"]["val/accuracy"]) == 2
    assert [record["step"] for record in trial["gradients"]] == [0, 1, 4, 8]
    assert re.search(r"^\s*training\.epochs\s+2$", command("show", row["trial"]).out, re.MULTILINE)


def test_report_writes_pages_again(command: Command, store: Path):
    page = next(store.glob("experiments/*/report.html"))
    page.unlink()
    assert json.loads(command("report", "--json").out) == {"reports": [str(page)], "index": str(store / "index.html")}
    assert page.exists()


def test_report_combines_experiments(command: Command, store: Path):
    """The page instead of the reports; names need `--combine`."""
    options = ("tiny", "--combine", "hand-in.html", "--author", "Ada", "--author", "Bob", "--course", "Networks")
    document = json.loads(command("report", *options, "--json").out)
    assert document == {"reports": [], "combined": "hand-in.html"}
    assert "Ada, Bob" in Path("hand-in.html").read_text(encoding="utf-8")
    output = command("report", "tiny", "--author", "Ada", "--json")
    assert (output.status, json.loads(output.out)["problems"][0]["code"]) == (2, "invalid-option")


def test_run_applies_quick_and_runs(command: Command, workspace: Path):
    """`--quick` applies the section of the file, `--runs` names another store. Progress is JSON lines on request."""
    output = command(*RUN[:2], *ONE, "--quick", "--runs", "other", "--workers", "1", "--progress", "json", "--json")
    assert output.status == 0
    events = [json.loads(line)["event"] for line in output.err.splitlines()]
    assert [event for event in events if event != "note"] == ["planned", "started", "epoch", "finished"]
    assert not (workspace / "runs").exists()
    (row,) = json.loads(command("list", "--runs", "other", "--json").out)
    assert row["config"]["training.epochs"] == 1
    assert "-quick-" in row["experiment"]


def test_run_prints_progress_as_requested(command: Command, store: Path):
    """Stdout contains the answer only."""
    plain = command(*RUN[:2], "--progress", "plain", "--workers", "1")
    assert "4 trials" in plain.err
    first, _, _, _, *rest = plain.out.splitlines()  # a table of two conditions
    assert [line.partition(":")[0] for line in (first, *rest)] == ["4 trials", "undecided", "1 claim", "report"]
    assert plain.out.splitlines()[-1] == f"report: {next(store.glob('*/*/report.html')).as_uri()}"
    assert command(*RUN).err == ""


def test_run_counts_diverged_trials_as_results(command: Command, workspace: Path):
    """Exit status 0; neither failed nor missing in the report."""
    rates = ("training.lr=0.001,1e20", "training.optimizer=SGD", "--workers", "1", "--json")
    output = command(*RUN[:2], *ONE, *rates)
    assert output.status == 0
    summary = json.loads(output.out)
    assert [summary[key] for key in ("trials", "trained", "failed", "diverged")] == [2, 2, 0, 1]
    assert "diverged" in Path(summary["report"]).read_text(encoding="utf-8")
    assert "diverged" in output.err
    assert sorted(row["status"] for row in json.loads(command("list", "--json").out)) == ["diverged", "finished"]


def test_data_list_prints_state_and_remedy(command: Command, workspace: Path):
    rows = {row["name"]: row for row in json.loads(command("data", "list", "--json").out)}
    assert list(rows) == ["mnist", "fashion-mnist", "cifar-10", "cifar-100", "mnist-sample", "shapes"]
    assert rows["shapes"]["present"]
    assert rows["mnist-sample"]["state"] == "built in"
    assert not rows["mnist"]["present"]
    assert rows["mnist"]["remedy"] == "fathomlab data download mnist, or fathomlab data import FOLDER"
    assert "fathomlab data download cifar-10" in command("data", "list").out


MISTAKES: dict[Sequence[str], Sequence[str]] = {
    ("plan", "tiny.yaml", "training.epoch=3"): ("tiny.yaml", "override 1", "training.epoch", "'epochs'"),
    ("run", "tiny.yaml", "seed=x"): ("tiny.yaml", "override 1", "seed", "'x'"),
    ("run", "tiny.yaml", "--workers", "no"): ("--workers", "auto", "'no'"),
    ("run", "tiny.yaml", "--device", "tpu"): ("--device", "auto, cpu, cuda, or cuda:N", "'tpu'"),
    ("plan", "tiny.yaml", "--device", "cuda:x"): ("--device", "cuda:N", "'cuda:x'"),
    ("run", "tiny.yaml", "--progress", "loud"): ("--progress", "auto, rich, plain, json, off", "'loud'"),
    ("report",): ("{runs}", "fathomlab run 1_2 --quick"),
    ("report", "none"): ("'none'", "{runs}"),
    ("show", "ab"): ("'ab'",),
    ("show", "abcd"): ("'abcd'", "{runs}"),
    ("plan",): (),
    ("nothing",): (),
    ("plan", "tiny.yaml", "--nothing"): (),
    ("run", "tiny.yaml", "--workers"): (),
}


@pytest.mark.parametrize("args", MISTAKES, ids=" ".join)
def test_mistakes_are_messages_with_status_2(command: Command, workspace: Path, args: Sequence[str]):
    """On stderr, with the value and what to change; nothing is trained."""
    output = command(*args)
    assert (output.status, output.out) == (2, "")
    assert output.err.strip()
    assert [part for part in MISTAKES[args] if part.replace("{runs}", str(workspace / "runs")) not in output.err] == []
    assert "Traceback" not in output.err
    assert not (workspace / "runs" / "trials").exists()


def test_mistakes_are_problems_in_json(command: Command, workspace: Path):
    """With code, file, line, and key."""
    text = Path("tiny.yaml").read_text().replace("epochs: 2", "epochs: none")
    Path("bad.yaml").write_text(text)
    output = command("plan", "bad.yaml", "--json")
    (problem,) = json.loads(output.out)["problems"]
    assert (output.status, problem["code"]) == (2, "wrong-type")
    assert (problem["file"], problem["line"], problem["key"]) == ("bad.yaml", 7, "training.epochs")
    assert output.err
    for args, code in (("show", "abcd"), "no-such-trial"), (("plan", "--nonsense"), "usage"):
        output = command(*args, "--json")
        assert (output.status, json.loads(output.out)["problems"][0]["code"]) == (2, code)


def test_starter_command_runs_the_same_trials(
    command: Command, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`main.py --experiment NAME` accepts the same overrides and options."""
    args = ["training.epochs=1", *ONE, "--workers", "1"]
    capsys.readouterr()
    assert laboratory(["--device", "cpu", "--experiment", "tiny.yaml", *args]) == 0
    out = capsys.readouterr().out
    assert out.startswith("1 trial: 1 trained, 0 cached ")
    assert "\nreport: " in out
    assert laboratory(["--experiment=tiny.yaml", *args, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cached"] == 1
    assert json.loads(command("run", "tiny.yaml", *args, "--json").out)["cached"] == 1
    (row,) = json.loads(command("list", "--json").out)
    (trial,) = fathomlab.load("tiny.yaml", args[:3]).trials
    assert row["trial"] == trial.hash


def test_starter_command_names_what_is_missing(workspace: Path, capsys: pytest.CaptureFixture[str]):
    assert laboratory(["seed=3"]) == 2
    out, err = capsys.readouterr()
    assert (out, "--experiment" in err, "python main.py --experiment 1_1" in err) == ("", True, True)
    assert laboratory(["--experiment"]) == 2
    assert laboratory(["--experiment", "9_9"]) == 2
    assert "9_9" in capsys.readouterr().err
    assert laboratory(["--help"]) == 0
    assert "--experiment 1_1" in capsys.readouterr().out


def test_unknown_commands_list_the_known_ones(command: Command, workspace: Path):
    output = command("train", "exp.yaml")
    assert (output.status, output.out) == (2, "")
    assert "Commands: plan, run, verify," in output.err
    assert "Commands:" not in command("plan", "--no-such-option").err


def test_json_progress_is_json_lines_only(command: Command, store: Path):
    """Errors and usage messages, too."""
    cached = command("run", "tiny.yaml", "--progress", "json")
    assert [json.loads(line)["event"] for line in cached.err.splitlines()] == ["planned"]
    for arguments in (("lr=1",), ("--nonsense",), ("--minutes", "0")):
        wrong = command("run", "tiny.yaml", "--progress=json", *arguments, "--json")
        assert {json.loads(line)["event"] for line in wrong.err.splitlines()} == {"message"}, arguments
        assert (wrong.status, len(json.loads(wrong.out)["problems"])) == (2, 1)


def test_report_link_is_percent_encoded(command: Command, store: Path):
    store.rename("my runs#1")
    output = command(*RUN, "--runs", "my runs#1")
    assert output.out.splitlines()[-1].startswith(f"report: {Path.cwd().as_uri()}/my%20runs%231/experiments/")
    path = json.loads(command(*RUN, "--runs", "my runs#1", "--json").out)["report"]
    assert "my runs#1" in path
