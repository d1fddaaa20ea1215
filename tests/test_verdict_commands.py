"""From a claim to an exit status: verify, run --max-seeds, plan --why, report --diff, on tiny trainings."""

import json
from pathlib import Path
from typing import Any

import pytest

from fathomlab.cli import main
from fathomlab.store.reading import Store

TINY = """\
data: {name: mnist-sample, limit: 200, batch_size: 40}
model: {type: MLP, params: {layers_dim: 8, hidden_layers_num: 1}}
training: {epochs: 3, lr: 0.01}
experiment:
  factors: {training.lr: [0.01, 0.000001]}
  seeds: 3
claims:
  - {name: a rate that moves nothing learns less, factor: lr, levels: [0.01, 0.000001], expect: greater, matters: 0.05}
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command in a folder with an experiment file and an empty store; status, stdout, stderr."""
    (tmp_path / "exp.yaml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FATHOMLAB_RUNS", str(tmp_path / "runs"))

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as leaving:
            main(list(words))
        assert isinstance(leaving.value.code, int)
        return leaving.value.code, *capsys.readouterr()

    return run


def test_verify_is_0_only_where_every_claim_is_supported(command: Any, tmp_path: Path):
    """Before the run 2, with too few seeds 1, supported 0, refuted 1; unfinished trials are counted."""
    assert command("verify", "exp.yaml")[0] == 2
    assert command("run", "exp.yaml", "--workers", "1", "--progress", "off", "experiment.seeds=1")[0] == 0
    status, out, _ = command("verify", "exp.yaml", "experiment.seeds=1")
    assert (status, out.startswith("undecided: ")) == (1, True)
    assert command("run", "exp.yaml", "--workers", "1", "--progress", "off", "experiment.seeds=6")[0] == 0
    status, out, _ = command("verify", "exp.yaml", "experiment.seeds=6", "--json")
    answer = json.loads(out)
    assert (status, answer["unfinished"], [one["verdict"] for one in answer["verdicts"]]) == (0, 0, ["supported"])
    assert answer["verdicts"][0]["n"] == 6
    trial = next((tmp_path / "runs" / "trials").iterdir())
    (trial / "result.json").unlink()
    status, out, _ = command("verify", "exp.yaml", "experiment.seeds=6")
    assert (status, "not finished" in out) == (1, True)


def test_a_file_without_claims_cannot_be_verified(command: Any, tmp_path: Path):
    """A mistake of the user's, with the file's name."""
    (tmp_path / "none.yaml").write_text(TINY.partition("claims")[0])
    status, _, err = command("verify", "none.yaml")
    assert (status, "none.yaml" in err, "claims" in err) == (2, True, True)
    status, _, err = command("run", "none.yaml", "--max-seeds", "9")
    assert (status, "--max-seeds" in err, "claim" in err) == (2, True, True)


def test_extend_adds_seeds_until_the_claim_is_decided(command: Any, tmp_path: Path):
    """The finished trials are reused, each look spends error, and a later plain run keeps the seeds that were added."""
    status, out, _ = command("run", "exp.yaml", "--max-seeds", "12", "--workers", "1", "--progress", "off", "--json")
    summary = json.loads(out)
    record = Store(tmp_path / "runs").experiment(summary["experiment"])
    sizes = [look["n"] for look in record.looks]
    assert status == 0
    assert sizes[0] == 3
    assert sizes == sorted(set(sizes))
    assert 3 < len(record.seeds) == sizes[-1] <= 12
    assert summary["trained"] == 2 * len(record.seeds)
    assert [look["spent"] for look in record.looks] == sorted(look["spent"] for look in record.looks)
    assert record.looks[-1]["spent"] <= 0.025
    again = json.loads(command("run", "exp.yaml", "--workers", "1", "--progress", "off", "--json")[1])
    assert (again["trained"], again["trials"]) == (0, 2 * len(record.seeds))
    assert command("verify", "exp.yaml")[0] == 0


def test_a_budget_below_the_seeds_of_the_file_is_refused(command: Any, tmp_path: Path):
    """Before any training."""
    status, _, err = command("run", "exp.yaml", "--max-seeds", "2")
    assert (status, "--max-seeds" in err, "3" in err) == (2, True, True)
    assert not (tmp_path / "runs" / "trials").exists()


def test_why_names_the_fields_that_make_a_trial_new(command: Any):
    """Nothing in the store, one other learning rate, itself."""
    listed = json.loads(command("plan", "exp.yaml", "experiment.seeds=1", "--json")[1])["trial_list"]
    wanted = listed[0]["trial"]
    assert "is new" in command("plan", "exp.yaml", "experiment.seeds=1", "--why", wanted[:8])[1]
    words = ["exp.yaml", "experiment.seeds=1", "training.lr=0.02"]
    assert command("run", *words, "--workers", "1", "--progress", "off")[0] == 0
    status, out, _ = command("plan", "exp.yaml", "experiment.seeds=1", "--why", wanted[:8], "--json")
    why = json.loads(out)
    assert (status, why["cached"]) == (0, False)
    assert why["fields"] == [{"key": "training.lr", "stored": 0.02, "planned": 0.01}]
    (planned,) = json.loads(command("plan", *words, "--json")[1])["trial_list"]
    assert "is cached" in command("plan", *words, "--why", planned["trial"][:8])[1]
    status, _, err = command("plan", "exp.yaml", "--why", "zz")
    assert (status, "'zz'" in err) == (2, True)


def test_diff_says_what_differs_between_two_reports(command: Any, tmp_path: Path):
    """Files or names; equal numbers are only counted."""
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
    (tmp_path / "other.html").write_text("<p>nothing</p>")
    status, _, err = command("report", "--diff", "other.html", reports[0])
    assert (status, "other.html" in err) == (2, True)
