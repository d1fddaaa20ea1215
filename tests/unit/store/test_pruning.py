"""What is removed from a store, and what stays, by age."""

import os
import time
from pathlib import Path

import pytest

from fathomlab.base.errors import UserError
from fathomlab.base.identity import content_hash
from fathomlab.store.directory import TrialFolder, create_store, write_experiment
from fathomlab.store.provenance import Provenance
from fathomlab.store.pruning import Pruning, prune_store
from fathomlab.store.reading import Store
from fathomlab.store.records import ConditionRecord, ExperimentRecord, Result, SeedTrial
from tests.helpers.commands import Command, command_in_process

DAY = 86_400.0


def add_trial(root: Path, seed: int, finished: bool = True) -> str:
    content = {"seed": seed, "format": 3}
    folder = TrialFolder(root, content_hash(content))
    folder.create(content)
    folder.write_provenance(Provenance())
    if finished:
        folder.finish(Result("finished"))
    return folder.trial


def add_experiment(root: Path, name: str, *trials: str) -> None:
    members = tuple(SeedTrial(seed, trial) for seed, trial in enumerate(trials))
    write_experiment(root, ExperimentRecord(name, root, conditions=(ConditionRecord(trials=members),)))


def age(days: float, *paths: Path) -> None:
    written = time.time() - days * DAY
    for path in paths:
        for file in [path, *path.rglob("*")]:
            os.utime(file, (written, written))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Experiments of 40 and 2 days, which share a trial; a trial without result, an old orphan, and a new one."""
    root = create_store(tmp_path / "runs")
    old, shared, young, started, orphan, fresh = (add_trial(root, seed, finished=seed != 3) for seed in range(6))
    add_experiment(root, "old-00000001", old, shared, started)
    add_experiment(root, "young-00000002", shared, young)
    age(40, *(root / "trials" / name for name in (old, shared, started, orphan)), root / "experiments" / "old-00000001")
    age(2, *(root / "trials" / name for name in (young, fresh)), root / "experiments" / "young-00000002")
    return root


def seeds(root: Path) -> list[int]:
    store = Store(root)
    return sorted(int(str(store.trial(name).content["seed"])) for name in store.trials())


@pytest.mark.parametrize(
    ("options", "trials", "experiments"),
    [
        (Pruning(older_than=30 * DAY), [0, 1, 2, 3, 4, 5], 2),
        (Pruning(orphans=True), [0, 1, 2, 3], 2),
        (Pruning(orphans=True, older_than=30 * DAY), [0, 1, 2, 3, 5], 2),
        (Pruning(unfinished=True, older_than=30 * DAY), [0, 1, 2, 4, 5], 2),
        (Pruning(unfinished=True, orphans=True, older_than=50 * DAY), [0, 1, 2, 3, 4, 5], 2),
        (Pruning(experiments=True, older_than=30 * DAY), [1, 2, 4, 5], 1),
        (Pruning(experiments=True, orphans=True, older_than=30 * DAY), [1, 2, 5], 1),
        (Pruning(experiments=True, older_than=1 * DAY), [4, 5], 0),
        (Pruning(experiments=True, older_than=30 * DAY, dry_run=True), [0, 1, 2, 3, 4, 5], 2),
    ],
)
def test_prune_removes_by_age(root: Path, options: Pruning, trials: list[int], experiments: int):
    """A trial of a remaining experiment stays, however old it is. Age alone removes no trial."""
    changes = prune_store(root, options)
    assert (seeds(root), len(Store(root).experiment_names())) == (trials, experiments)
    assert len(changes) == (3 if options.dry_run else 8 - len(trials) - experiments)


def test_prune_keeps_young_temporary_files(root: Path):
    for name, days in (("old", 40), ("new", 1)):
        path = root / f".{name}.json.999999999.tmp"
        path.write_text("")
        age(days, path)
    assert [change.path.name for change in prune_store(root, Pruning(older_than=30 * DAY))] == [
        ".old.json.999999999.tmp"
    ]


def test_rewritten_reports_do_not_make_an_experiment_young(root: Path):
    (root / "experiments" / "old-00000001" / "report.html").write_text("today")
    prune_store(root, Pruning(experiments=True, older_than=30 * DAY))
    assert Store(root).experiment_names() == ["young-00000002"]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return command_in_process(capsys)


@pytest.mark.parametrize(("age_text", "left"), [("4w", 1), (" 30D ", 1), ("6w", 2)])
def test_prune_command_reads_ages(root: Path, command: Command, age_text: str, left: int):
    """And writes the index again."""
    output = command("store", "prune", "--older-than", age_text, "--experiments", "--runs", str(root), "--json")
    assert (output.status, len(Store(root).experiment_names())) == (0, left)
    assert ("old-00000001" in (root / "index.html").read_text()) == (left == 2)


def test_prune_command_says_that_finished_trials_stay(root: Path, command: Command):
    words = ("store", "prune", "--older-than", "4w", "--dry-run", "--runs", str(root))
    assert "--experiments" in command(*words).out
    assert "--experiments" not in command(*words, "--experiments").out


@pytest.mark.parametrize(
    "args", [("--older-than", "30"), ("--older-than", "0d"), ("--older-than", "1y"), ("--experiments",)]
)
def test_prune_command_refuses_other_ages(root: Path, command: Command, args: tuple[str, ...]):
    output = command("store", "prune", *args, "--runs", str(root), "--json")
    assert (output.status, '"code": "invalid-option"' in output.out, seeds(root)) == (2, True, [0, 1, 2, 3, 4, 5])


@pytest.mark.parametrize("options", [Pruning(orphans=True), Pruning(experiments=True, older_than=30 * DAY)])
def test_prune_keeps_all_of_a_corrupted_experiment(root: Path, options: Pruning):
    (root / "experiments" / "young-00000002" / "experiment.json").write_text("{")
    before = seeds(root)
    with pytest.raises(UserError) as caught:
        prune_store(root, options)
    assert caught.value.code == "corrupted-record"
    assert seeds(root) == before
    assert (root / "experiments" / "old-00000001").is_dir()
