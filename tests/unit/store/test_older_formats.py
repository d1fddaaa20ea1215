"""Stores of formats 1 and 2: listed with a cause and a remedy, never reused, changed, or deleted."""

import json
import shutil
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

import fathomlab
from fathomlab import api
from fathomlab.base.errors import UserError
from fathomlab.base.identity import content_hash
from fathomlab.cli import main
from fathomlab.execute.experiment import RunOptions, run_experiment
from fathomlab.execute.signals import StopRequest
from fathomlab.store.directory import TrialFolder, create_store
from fathomlab.store.maintenance import check_store, repair_store
from fathomlab.store.pruning import Pruning, prune_store
from fathomlab.store.reading import Store

FORMAT_2 = Path(__file__).parents[2] / "golden" / "store-format-2"
FIRST = "ab" * 32


def contents(root: Path) -> dict[str, bytes]:
    """Every file of the older trials and experiments."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def older(tmp_path: Path) -> Iterator[Path]:
    """A store with a finished and an interrupted trial of format 2 and one of format 1; nothing of it may change."""
    root = tmp_path / "runs"
    shutil.copytree(FORMAT_2, root)
    folder = root / "trials" / FIRST
    folder.mkdir()
    (folder / "trial.json").write_text(json.dumps({"format": 1, "trial": FIRST, "content": {"seed": 42}}))
    (folder / "metrics.jsonl").write_text('{"epoch": 1}\n')
    (folder / "result.json").write_text(json.dumps({"format": 1, "trial": FIRST, "status": "finished"}))
    (folder / ".metrics.jsonl.999999.tmp").write_text("")
    first = root / "experiments" / "first"
    first.mkdir()
    (first / "experiment.json").write_text(json.dumps({"format": 1, "name": "first", "conditions": []}))
    (first / "report.html").write_text("the page of an earlier version")
    before = contents(root)
    yield root
    assert before.items() <= contents(root).items()


def output(*args: str) -> str:
    """What a command prints to standard output; it exits with 0."""
    code: object = 0
    with redirect_stdout(StringIO()) as text:
        try:
            main(list(args))
        except SystemExit as end:
            code = end.code
    assert not code
    return text.getvalue()


def test_store_lists_older_trials_with_a_cause(older: Path):
    records = [Store(older).trial(trial) for trial in Store(older).trials()]
    assert [record.status for record in records] == ["outdated"] * 3
    assert {record.content["seed"] for record in records} == {0, 42}
    for record in records:
        assert f"store format {1 if record.trial == FIRST else 2}; this version reads format 3" in str(record.cause)
        assert "Run the experiment again" in str(record.cause)
        assert (record.metrics, record.curves, record.files) == ({}, {}, {})


def test_store_lists_older_experiments_with_a_cause(older: Path):
    records = Store(older).experiments()
    assert [(record.outdated, record.conditions) for record in records] == [(True, ())] * 3
    assert all("this version reads format 3" in str(record.cause) for record in records)


@pytest.mark.parametrize("format_", [1, 2, 0, -1, None, True, "3"])
def test_changed_format_is_corruption(tmp_path: Path, format_: object):
    """A flipped bit does not make an intact document an older one."""
    content = {"seed": 1}
    folder = TrialFolder(tmp_path, content_hash(content))
    folder.create(content)
    path = folder.path / "trial.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": format_}))
    assert Store(tmp_path).trial(folder.trial).status == "damaged"


def test_list_shows_older_trials(older: Path):
    text = output("list", "--trials", "--runs", str(older))
    assert text.count("  outdated  ") == 3
    assert "None" not in text
    assert "3 trials of an older store format" in text
    assert output("list", "--runs", str(older)).count("  outdated") == 3
    assert {row["status"] for row in json.loads(output("list", "--json", "--runs", str(older)))} == {"outdated"}
    assert "store format 1" in json.loads(output("show", FIRST, "--json", "--runs", str(older)))["cause"]


def test_report_keeps_older_pages_and_lists_them(older: Path):
    output("report", "--runs", str(older))
    index = (older / "index.html").read_text()
    assert index.count("this version reads format 3") == 3
    assert "corrupted" not in index
    with pytest.raises(UserError, match="store format 1") as error:
        api.write_reports(older, ["first"])
    assert error.value.code == "outdated-record"


def test_older_experiments_cannot_be_compared(older: Path):
    with pytest.raises(UserError) as error:
        api.compare(older, "first", "first")
    assert error.value.code == "outdated-record"


def test_maintenance_keeps_older_trials(older: Path):
    check = check_store(older)
    assert (check.trials, check.files, check.problems, check.outdated) == (0, 0, (), 3)
    assert repair_store(older) == []
    assert prune_store(older, Pruning(unfinished=True, orphans=True, damaged=True)) == []


def test_run_trains_next_to_older_trials(older: Path):
    """The experiment whose trials the store contains in format 2."""
    yaml = json.loads((older / "experiments" / "old-c936035c" / "experiment.json").read_text())["yaml"]
    source = older.parent / "old.yaml"
    source.write_text(yaml)
    plan = fathomlab.load(source)
    summary = run_experiment(plan, create_store(older), RunOptions("cpu", 1), lambda event: None, StopRequest())
    assert (summary.trained, summary.cached) == (1, 0)
    assert summary.experiment != "old-c936035c"
    statuses = [Store(older).trial(trial).status for trial in Store(older).trials()]
    assert sorted(statuses) == ["finished", *["outdated"] * 3]
