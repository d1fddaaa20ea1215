"""From a claim to an exit status: verify, run --max-seeds, plan --why, report --diff, on tiny trainings."""

import json
import re
from pathlib import Path

import pytest

from fathomlab.store.reading import Store
from tests.helpers.commands import Command

EXPERIMENT = """\
data: {name: mnist-sample, limit: 200, batch_size: 40}
model: {type: MLP, params: {layers_dim: 8, hidden_layers_num: 1}}
training: {epochs: 3, lr: 0.01}
experiment:
  factors: {training.lr: [0.01, 0.000001]}
  seeds: 3
claims:
  - {name: a rate that moves nothing learns less, factor: lr, levels: [0.01, 0.000001], expect: greater, matters: 0.05}
"""


RUN = ("run", "exp.yaml", "--workers", "1", "--progress", "off")


@pytest.fixture(autouse=True)
def _experiment(workspace: Path) -> None:
    Path("exp.yaml").write_text(EXPERIMENT)


@pytest.mark.usefixtures("no_charts")
def test_verify_returns_0_if_all_claims_are_supported(command: Command, workspace: Path):
    """Before the run it returns 2, with too few seeds or unfinished trials 1."""
    assert command("verify", "exp.yaml")[0] == 2
    assert command(*RUN, "experiment.seeds=1")[0] == 0
    status, out, _ = command("verify", "exp.yaml", "experiment.seeds=1")
    assert (status, out.startswith("undecided: ")) == (1, True)
    assert command(*RUN, "experiment.seeds=6")[0] == 0
    status, out, _ = command("verify", "exp.yaml", "experiment.seeds=6", "--json")
    answer = json.loads(out)
    assert (status, answer["unfinished"], [one["verdict"] for one in answer["verdicts"]]) == (0, 0, ["supported"])
    assert answer["verdicts"][0]["n"] == 6
    trial = next((workspace / "runs" / "trials").iterdir())
    (trial / "result.json").unlink()
    status, out, _ = command("verify", "exp.yaml", "experiment.seeds=6")
    assert (status, "not finished" in out) == (1, True)


def test_verify_suggests_a_command_that_works(command: Command, workspace: Path):
    """The bundled file, the quick form, and the results directory that were asked for."""
    Path("other").mkdir()
    status, _, err = command("verify", "1_2", "--quick", "--runs", "other")
    suggested = err.strip().rpartition("Run: fathomlab run ")[2].split()
    assert (status, suggested[1:]) == (2, ["--quick", "--runs", "other"])
    assert command("plan", *suggested)[0] == 0


def test_verify_rejects_files_without_claims(command: Command, workspace: Path):
    """With the name of the file."""
    (workspace / "none.yaml").write_text(EXPERIMENT.partition("claims")[0])
    status, _, err = command("verify", "none.yaml")
    assert (status, "none.yaml" in err, "claims" in err) == (2, True, True)
    status, _, err = command("run", "none.yaml", "--max-seeds", "9")
    assert (status, "--max-seeds" in err, "claim" in err) == (2, True, True)


@pytest.mark.usefixtures("no_charts")
def test_run_adds_seeds_until_claims_are_decided(command: Command, workspace: Path):
    """Finished trials are reused, each interim analysis spends error, and a later run uses the added seeds."""
    status, out, err = command(
        "run", "exp.yaml", "--max-seeds", "12", "--workers", "1", "--progress", "plain", "--json"
    )
    summary = json.loads(out)
    record = Store(workspace / "runs").experiment(summary["experiment"])
    sizes = [look["n"] for look in record.looks]
    assert status == 0
    assert sizes[0] == 3
    assert sizes == sorted(set(sizes))
    steps = re.findall(r"^note: (\d+) seeds: .*?( Adding \d+ seeds?\.)?$", err, re.MULTILINE)
    assert [(int(seeds), bool(adding)) for seeds, adding in steps] == [(n, n != sizes[-1]) for n in sizes]
    assert 3 < len(record.seeds) == sizes[-1] <= 12
    assert summary["trained"] == 2 * len(record.seeds)
    assert [look["spent"] for look in record.looks] == sorted(look["spent"] for look in record.looks)
    assert record.looks[-1]["spent"] <= 0.025
    again = json.loads(command(*RUN, "--json")[1])
    assert (again["trained"], again["trials"]) == (0, 2 * len(record.seeds))
    assert command("verify", "exp.yaml")[0] == 0


def test_run_rejects_max_seeds_below_the_file(command: Command, workspace: Path):
    """Before any training."""
    status, _, err = command("run", "exp.yaml", "--max-seeds", "2")
    assert (status, "--max-seeds" in err, "3" in err) == (2, True, True)
    assert not (workspace / "runs" / "trials").exists()


@pytest.mark.usefixtures("no_charts")
def test_plan_explains_why_a_trial_is_new(command: Command):
    """With an empty store, another learning rate, and the trial itself."""
    listed = json.loads(command("plan", "exp.yaml", "experiment.seeds=1", "--json")[1])["trial_list"]
    planned_trial = listed[0]["trial"]
    assert "is new" in command("plan", "exp.yaml", "experiment.seeds=1", "--why", planned_trial[:8])[1]
    words = ["exp.yaml", "experiment.seeds=1", "training.lr=0.02"]
    assert command("run", *words, "--workers", "1", "--progress", "off")[0] == 0
    status, out, _ = command("plan", "exp.yaml", "experiment.seeds=1", "--why", planned_trial[:8], "--json")
    why = json.loads(out)
    assert (status, why["cached"]) == (0, False)
    assert why["fields"] == [{"key": "training.lr", "stored": 0.02, "planned": 0.01}]
    (planned,) = json.loads(command("plan", *words, "--json")[1])["trial_list"]
    assert "is cached" in command("plan", *words, "--why", planned["trial"][:8])[1]
    status, _, err = command("plan", "exp.yaml", "--why", "zz")
    assert (status, "'zz'" in err) == (2, True)


def test_report_diff_lists_changed_values(command: Command, workspace: Path):
    """Reports are given as files or names. Equal numbers are only counted."""
    reports = []
    for seeds in ("1", "2"):
        words = ["exp.yaml", f"experiment.seeds={seeds}", "--workers", "1", "--progress", "off", "--json"]
        reports.append(json.loads(command("run", *words)[1])["report"])
    status, out, _ = command("report", "--diff", reports[0], reports[0])
    assert status == 0
    assert out.splitlines()[-1].split(" of ")[0] == out.splitlines()[-1].split(" of ")[1].split()[0]
    status, out, _ = command("report", "--diff", reports[0], Path(reports[1]).parent.name, "--json")
    rows = json.loads(out)
    changed = {(row["what"], row["metric"]) for row in rows if row["state"] == "changed"}
    assert ("lr=0.01", "trials finished") in changed
    assert ("lr=0.01", "test/accuracy") in changed
    (workspace / "other.html").write_text("<p>nothing</p>")
    status, _, err = command("report", "--diff", "other.html", reports[0])
    assert (status, "other.html" in err) == (2, True)
