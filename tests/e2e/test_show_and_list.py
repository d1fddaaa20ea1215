"""What `list` and `show` print, and the command that repeats a trial."""

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

import fathomlab
from fathomlab.api.commands import run_command
from fathomlab.base.identity import content_hash
from fathomlab.store.directory import TrialFolder, write_experiment
from fathomlab.store.reading import Store
from fathomlab.store.records import ConditionRecord, ExperimentRecord, SeedTrial
from tests.helpers.commands import Command

OLD = ("old-00000001", "2026-01-02T03:04:05+00:00", ("lab", "first"))
NEW = ("new-00000002", "2026-03-02T03:04:05+00:00", ("lab",))


def trial_of(command: Command, **levels: object) -> str:
    """The hash of the trial with these options."""
    rows = json.loads(command("list", "--json").out)
    return next(row["trial"] for row in rows if all(row["config"][key] == value for key, value in levels.items()))


@pytest.fixture
def three(store: Path) -> Path:
    """The store with two further experiments of the same trials, older and without a trial of their own."""
    first = Store(store).experiments()[0].conditions[0]
    for (name, created, tags), condition in zip((NEW, OLD), (first, ConditionRecord()), strict=True):
        record = ExperimentRecord(
            name, store, created=created, tags=tags, quick=name == NEW[0], conditions=(condition,)
        )
        write_experiment(store, record)
    return store


def test_list_shows_experiments_by_date(command: Command, three: Path):
    """The newest last, with trials by status, quick mark, and tags."""
    lines = [re.split(r"\s{2,}", line.strip()) for line in command("list").out.splitlines()[:4]]
    assert lines[0] == ["experiment", "first run", "trials", "quick", "tags"]
    assert lines[1] == ["old-00000001", "2026-01-02", "none", "lab, first"]
    assert lines[2] == ["new-00000002", "2026-03-02", "2 finished", "quick", "lab"]
    assert (lines[3][0][:5], lines[3][2]) == ("tiny-", "4 finished")


def test_list_counts_trials_by_status(command: Command, store: Path):
    (store / "trials" / trial_of(command, seed=3) / "result.json").unlink()
    assert "3 finished, 1 interrupted" in command("list").out


def test_list_repeats_the_results_directory(command: Command, store: Path):
    """The command that `list` suggests lists the same store."""
    suggested = command("list", "--runs", "runs").out.splitlines()[-1].split(": fathomlab ")[1].split()
    assert suggested[-2:] == ["--runs", "runs"]
    assert command(*suggested).out.count("finished") == 4
    assert "--runs" not in command("list").out


def test_list_selects_by_tag(command: Command, three: Path):
    """Experiments, or their trials."""
    assert [line.split()[0] for line in command("list", "--tag", "lab").out.splitlines()[1:3]] == [OLD[0], NEW[0]]
    assert command("list", "--tag", "none").out == "No experiments with this tag.\n"
    rows = json.loads(command("list", "--tag", "lab", "--json").out)
    assert [(row["seed"], row["config"]["model.params.residual"]) for row in rows] == [(3, False), (4, False)]
    assert {row["experiment"] for row in rows} == {NEW[0]}
    assert len(rows[0]["experiments"]) == 2
    assert json.loads(command("list", "--tag", "first", "--json").out) == []


def test_list_of_trials_is_a_table_per_experiment(command: Command, store: Path):
    """With its name, unless it was named."""
    heading = ["trial", "status", "test", "(%)", "seed", "condition"]
    assert command("list", "tiny").out.splitlines()[0].split() == heading
    lines = command("list", "--trials").out.splitlines()
    assert (lines[1][:5], lines[2].split(), len(lines)) == ("tiny-", heading, 7)


def test_list_mentions_trials_without_experiment(command: Command, store: Path):
    next(store.glob("experiments/*/experiment.json")).write_text("{")
    output = command("list").out
    assert "  damaged" in output
    assert "4 trials of no readable experiment" in output


def test_show_prints_result_plots_tables_and_command(command: Command, store: Path):
    trial = trial_of(command, seed=4, **{"model.params.residual": True})
    text = command("show", trial[:8]).out
    order = ["trial  ", "result  ", "Loss  ", "Accuracy  ", "Gradient norm", "\nMetrics", "\nCurves", "\nOptions"]
    positions = [text.index(word) for word in [*order, "\nProvenance", "\nTrain it again"]]
    assert positions == sorted(positions)
    assert "condition   residual=true, seed 4\n" in text
    assert max(map(len, text[: text.index("\nMetrics")].splitlines())) <= 80
    assert re.search(r"pack\.members +([0-9a-f]{12}, ){3}and 1 more\n", text)


def test_show_prints_integers_in_full(command: Command, tmp_path: Path):
    content = {"seed": 1}
    folder = TrialFolder(tmp_path, content_hash(content))
    folder.create(content)
    folder.append("metrics.jsonl", {"epoch": 1, "step": 1_234_567, "lr": 2.0e6, "train/loss": 1.0e30})
    text = command("show", folder.trial[:8], "--runs", str(tmp_path)).out
    assert re.search(r"\n +1 +1234567 +2000000 +1e\+30\n", text[text.index("\nCurves") :])


def test_show_json_has_gradients_once(command: Command, store: Path):
    document = json.loads(command("show", trial_of(command, seed=3), "--json").out)
    assert ([item["step"] for item in document["gradients"]], document["probes"]) == ([0, 1, 4, 8], {})
    assert document["command"].startswith("fathomlab run tiny.yaml ")


def planned(command: str) -> list[str]:
    """The hashes that a printed command plans."""
    program, verb, file, *words = shlex.split(command)
    assert (program, verb, words[-2:]) == ("fathomlab", "run", ["--runs", "repeat"])
    overrides = [word for word in words[:-2] if word != "--quick"]
    return [trial.hash for trial in fathomlab.load(file, overrides, quick="--quick" in words).trials]


@pytest.mark.parametrize(
    ("overrides", "options"),
    [
        (("experiment.factors={}",), ("--quick",)),
        (("model.params.activation=Tanh,ReLU", "seed=7,9"), ()),
        (("experiment.depths=1,2", "training.optimizer_params.betas=[0.8,0.9],[0.9,0.99]"), ()),
        (("model.params.dropout=0,0.5", "experiment.seeds=1"), ()),
    ],
    ids=["quick", "seeds", "lists", "numbers"],
)
def test_show_prints_the_command_of_one_trial(
    command: Command, workspace: Path, overrides: Sequence[str], options: Sequence[str]
):
    """It plans this trial alone."""
    plan = fathomlab.load("tiny.yaml", overrides, quick="--quick" in options)
    record = ExperimentRecord(
        *("tiny", workspace),
        source=plan.loaded.document.source,
        yaml=plan.loaded.text,
        overrides=tuple(overrides),
        quick=plan.loaded.quick,
        seeds=plan.seeds,
    )
    for condition in plan.conditions:
        for seed, trial in zip(plan.seeds, condition.trials, strict=True):
            member = ConditionRecord(factors=condition.factors, trials=(SeedTrial(seed, trial.hash),))
            again = run_command(trial.hash, record, member)
            assert (planned(again.command), again.note) == ([trial.hash], "")


@pytest.mark.parametrize(
    "section",
    ["plugins: [parts.py]", "roles: {a: {data: {name: folder, params: {path: x}}}}"],
)
def test_run_command_runs_no_plugins_and_reads_no_images(workspace: Path, section: str):
    """The command is printed without being checked."""
    Path("parts.py").write_text("raise SystemExit(9)")
    text = f"{Path('tiny.yaml').read_text()}{section}\n"
    Path("tiny.yaml").write_text(text)
    record = ExperimentRecord("tiny", workspace, source="tiny.yaml", yaml=text, overrides=("seed=1",))
    again = run_command("0" * 64, record, ConditionRecord(trials=(SeedTrial(5, "0" * 64),)))
    assert again.command == "fathomlab run tiny.yaml seed=5 experiment.seeds=1 --runs repeat"
    assert again.note.startswith("Not checked")


def test_run_command_of_mappings_and_bundled_files(workspace: Path):
    mapping = run_command("0" * 64, ExperimentRecord("x", workspace, overrides=("seed=1",)), ConditionRecord())
    assert (mapping.command, "fathomlab.run(MAPPING, 'seed=1')" in mapping.note) == ("", True)
    plan = fathomlab.load("2_2", ["experiment.seeds=2"], quick=True)
    condition = plan.conditions[-1]
    record = ExperimentRecord(
        *("x", workspace),
        source="config_exp2_2.yaml",
        yaml=plan.loaded.text,
        overrides=("experiment.seeds=2",),
        quick=True,
    )
    trial = condition.trials[1].hash
    member = ConditionRecord(factors=condition.factors, trials=(SeedTrial(plan.seeds[1], trial),))
    again = run_command(trial, record, member)
    assert again.command.startswith("fathomlab run 2_2 --quick ")
    assert trial in planned(again.command)


def test_show_says_why_it_knows_no_command(command: Command, store: Path):
    """The file has changed, is gone, or was a mapping; no experiment contains the trial."""
    trial = trial_of(command, seed=3)
    file = Path("tiny.yaml")
    text = file.read_text()
    file.write_text(text.replace("epochs: 2", "epochs: 3"))
    document = command("show", trial)
    assert "Train it again" not in document.out
    assert "tiny.yaml has changed" in document.out
    file.unlink()
    assert "tiny.yaml is not here" in command("show", trial).out
    record = next(store.glob("experiments/*/experiment.json"))
    record.unlink()
    assert "No readable experiment" in command("show", trial).out
    assert json.loads(command("show", trial, "--json").out)["command"] is None


def test_unknown_metrics_suggest_the_nearest(store: Path):
    """An error that is a KeyError, too."""
    trial = fathomlab.open_store(store).trials()[0]
    for values, name, near in (
        (trial.metrics, "test/acc", "test/accuracy"),
        (trial.curves, "val/los", "val/loss"),
        (trial.probes, "gradient", "gradients"),
    ):
        with pytest.raises(fathomlab.UserError, match=near) as error:
            values[name]
        assert isinstance(error.value, KeyError)
        assert error.value.code == "unknown-name"
    assert (trial.metrics.get("nothing"), "nothing" in trial.curves) == (None, False)
    assert trial.metrics == trial.record.metrics
