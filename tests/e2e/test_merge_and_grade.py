"""`store merge` and `store grade` on trained, copied, damaged, and hostile results."""

import csv
import errno
import json
import os
import shutil
import sys
import time
import zipfile
from pathlib import Path

import pytest

from fathomlab.api.grading import grade_stores
from fathomlab.base.errors import UserError
from fathomlab.store.lock import store_lock
from fathomlab.store.reading import Store
from tests.helpers import stores
from tests.helpers.commands import EXPERIMENT, TRIALS, Command
from tests.helpers.hostile_text import ALL, CONTROL

pytestmark = pytest.mark.usefixtures("no_charts")


def change_times(root: Path, seconds: float) -> Path:
    """Results as another training of the same trials gives them: equal but for the measured times."""
    for path in root.glob("trials/*/result.json"):
        stores.change(path, seconds=json.loads(path.read_text())["seconds"] + seconds)
    return root


@pytest.fixture
def hand_ins(store: Path) -> Path:
    """Ada trained, Bob trained the same, Cy copied Ada, Dan handed in Bob's results as a damaged copy."""
    folder = store.parent / "in"
    for name in ("ada", "bob", "cy"):
        shutil.copytree(store, folder / name)
    change_times(folder / "bob", 1e-6)
    shutil.copytree(folder / "bob", folder / "dan")
    next((folder / "dan").glob("trials/*/metrics.jsonl")).write_text("{\n{\n")
    return folder


def table(command: Command, *args: str) -> dict[str, dict[str, object]]:
    """The rows by store."""
    output = command("store", "grade", *args, "--json")
    assert output.status == 0, output
    return {row["store"]: row for row in json.loads(output.out)["rows"]}


def test_copies_are_listed_and_equal_results_are_not(hand_ins: Path, command: Command):
    rows = table(command, str(hand_ins))
    copies = {name: (row["copies_of"], row["copied_trials"]) for name, row in rows.items()}
    damaged = TRIALS - 1
    expected = {"ada": (["cy"], 4), "bob": (["dan"], damaged), "cy": (["ada"], 4), "dan": (["bob"], damaged)}
    assert copies == expected
    assert {row["same_seeds"] for row in rows.values()} == {3}
    assert [len(rows[name]["damaged"]) for name in ("ada", "dan")] == [0, 1]  # type: ignore[arg-type]
    assert rows["dan"]["missing"] == 1


def test_shared_results_are_no_copies(hand_ins: Path, store: Path, command: Command):
    rows = table(command, str(hand_ins), "--shared", str(store))
    assert {name: row["shared_trials"] for name, row in rows.items()} == {
        "ada": TRIALS,
        "bob": 0,
        "cy": TRIALS,
        "dan": 0,
    }
    assert {name: row["copies_of"] for name, row in rows.items()} == {
        "ada": [],
        "bob": ["dan"],
        "cy": [],
        "dan": ["bob"],
    }


def test_edits_are_compared_with_the_reference(hand_ins: Path, command: Command):
    """With the file of the teacher, and without one with the majority."""
    Path("tiny.yaml").write_text(
        EXPERIMENT.replace("matters: 0.02", "matters: 0.03").replace("epochs: 2", "epochs: 3", 1)
    )
    for name, row in table(command, str(hand_ins), "--reference", "tiny.yaml").items():
        assert (row["claims_changed"], row["changed_options"]) == (True, ["training.epochs: 2 (reference: 3)"]), name
    record = next((hand_ins / "bob").glob("experiments/*/experiment.json"))
    stores.change(record, claims=[])
    rows = table(command, str(hand_ins))
    assert {name: row["claims_changed"] for name, row in rows.items()} == {
        "ada": False,
        "bob": True,
        "cy": False,
        "dan": False,
    }


def test_plugin_of_the_reference_does_not_run(hand_ins: Path, command: Command):
    Path("mine.py").write_text("raise SystemExit(7)\n")
    Path("lab.yaml").write_text(EXPERIMENT + "plugins: [mine.py]\n")
    with pytest.raises(UserError) as caught:
        grade_stores([hand_ins], "lab.yaml")
    assert caught.value.code == "plugins-in-reference"


def test_bundles_and_pages_are_rows(store: Path, command: Command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()  # real pages
    monkeypatch.chdir(store.parent)
    Path("in").mkdir()
    assert command("report", "tiny", "--combine", "in/ada.html", "--runs", "runs").status == 0
    assert command("export", "bundle", "tiny", "--to", "in/ada.zip", "--runs", "runs").status == 0
    Path("in/other.html").write_text("<html></html>")
    Path("in/broken.zip").write_bytes(b"PK")
    with zipfile.ZipFile("in/evil.zip", "w") as file:
        file.writestr("../outside.txt", "x")
    rows = table(command, "in", "runs")
    first = rows["runs"]
    for name in ("in/ada.html", "in/ada.zip"):
        assert [rows[name][key] for key in ("claims", "finished", "seeds")] == [
            first[key] for key in ("claims", "finished", "seeds")
        ]
    for name in ("in/other.html", "in/broken.zip", "in/evil.zip"):
        assert rows[name]["experiment"] == ""
        assert rows[name]["problem"]
    assert not Path("outside.txt").exists()


def test_table_is_text_whatever_stores_contain(store: Path, command: Command):
    """On the terminal without control characters, and in a spreadsheet without formulas."""
    for index, text in enumerate((*ALL, "=HYPERLINK(1)", "+1", "-1", "@x", "\t=1")):
        record = next(store.glob("experiments/*/experiment.json"))
        claims = json.loads(record.read_text())["claims"]
        stores.change(record, title=text, claims=[{**claim, "name": text} for claim in claims], overrides=[text])
        output = command("store", "grade", str(store), "--to", "grades.csv", "--overwrite")
        assert output.status == 0, (index, output)
        assert not CONTROL & set(output.text), ascii(text)
        with open("grades.csv", encoding="utf-8", newline="") as file:
            (row,) = csv.DictReader(file)
        for key in ("title", "overrides", "claim_1"):
            assert not row.get(key, "").lstrip().startswith(("=", "+", "-", "@")), ascii(text)


def test_effects_in_the_file_are_numbers(store: Path, command: Command):
    command("store", "grade", str(store), "--to", "grades.csv")
    with open("grades.csv", encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    (claim,) = table(command, str(store))["runs"]["claims"]  # type: ignore[misc]
    assert float(row["effect_1"]) == claim["effect"]
    assert command("store", "grade", str(store), "--to", "grades.csv").status == 2  # it exists


def test_grading_changes_nothing_and_imports_no_torch(hand_ins: Path):
    from tests.helpers.commands import run_python

    before = {path: path.stat().st_mtime_ns for path in hand_ins.rglob("*")}
    code = (
        "import sys; from fathomlab.api.grading import grade_stores; from pathlib import Path\n"
        "from fathomlab.api.merging import merge_stores\n"
        "grade_stores([Path('in')]); merge_stores([Path('in')], Path('all'), dry_run=True)\n"
        "sys.stdout.write(str('torch' in sys.modules)); sys.stdout.flush()\n"
        "import os; os._exit(0)\n"
    )
    assert run_python("-c", code, cwd=hand_ins.parent).stdout == "False"
    assert {path: path.stat().st_mtime_ns for path in hand_ins.rglob("*")} == before


def test_merge_gives_a_store_that_trains_nothing_again(hand_ins: Path, command: Command):
    output = command("store", "merge", str(hand_ins / "ada"), str(hand_ins / "dan"), "--runs", "all", "--json")
    document = json.loads(output.out)
    assert (output.status, len(document["copied"]), document["equal"]) == (1, TRIALS, TRIALS - 1)
    assert [conflict["code"] for conflict in document["conflicts"]] == ["damaged"]
    assert Path(document["reports"][-1]).exists()
    assert command("store", "check", "--runs", "all").status == 0
    summary = json.loads(command("run", "tiny.yaml", "--runs", "all", "--json", "--workers", "1").out)
    assert (summary["cached"], summary["trained"]) == (TRIALS, 0)


def test_merge_holds_the_lock_of_its_target(hand_ins: Path, store: Path, command: Command):
    with store_lock(store, False, lambda _: None):
        output = command("store", "merge", str(hand_ins / "bob"))
    assert (output.status, "in use" in output.err) == (2, True)
    assert "--wait" not in output.err  # an option of run only


@pytest.mark.parametrize("source", ["runs", "."])
def test_merge_into_itself_is_refused(store: Path, command: Command, source: str):
    assert command("store", "merge", source, "--runs", "runs").status == 2
    assert len(Store(store).trials()) == TRIALS


@pytest.mark.parametrize(
    ("source", "runs"), [("in", "in/ada/all"), ("in/ada", "in/ada/all"), ("in", "in"), ("in/bob", "in")]
)
def test_merge_never_nests_results(hand_ins: Path, command: Command, source: str, runs: str):
    """A results directory hides those inside of it from `store grade`."""
    (hand_ins.parent / runs / "trials").mkdir(parents=True, exist_ok=True)
    shutil.rmtree(hand_ins.parent / runs / "trials") if runs == "in" else None
    output = command("store", "merge", source, "--runs", runs, "--json")
    assert output.status == 2
    assert json.loads(output.out)["problems"][0]["code"] == "same-store"
    assert set(table(command, "in")) == {"ada", "bob", "cy", "dan"}


def test_merge_into_a_folder_of_hand_ins_continues(hand_ins: Path, command: Command):
    """The target lies next to the sources, so that a second search finds it, too."""
    shutil.rmtree(hand_ins / "dan")
    for trained in (TRIALS, 0):
        output = command("store", "merge", "in", "--runs", "in/all", "--json")
        document = json.loads(output.out)
        assert (output.status, len(document["copied"]), len(document["sources"])) == (0, trained, 3)


def test_unsafe_bundle_does_not_stop_a_merge(hand_ins: Path, command: Command):
    with zipfile.ZipFile(hand_ins / "evil.zip", "w") as file:
        file.writestr("../outside.txt", "x")
    document = json.loads(command("store", "merge", str(hand_ins), "--runs", "all", "--json").out)
    assert {conflict["code"] for conflict in document["conflicts"]} == {"unsafe-archive", "damaged"}
    assert len(document["copied"]) == TRIALS


def test_table_has_the_name_of_a_csv_file(store: Path, command: Command):
    """A spreadsheet refuses a CSV file that is called grades.xlsx."""
    output = command("store", "grade", str(store), "--to", "grades.xlsx")
    assert (output.status, output.out, "csv" in output.err) == (2, "", True)
    assert not Path("grades.xlsx").exists()


@pytest.mark.parametrize("name", ["e.zip", "in/e.zip"])
def test_conflicts_name_an_archive_once(store: Path, command: Command, name: str):
    path = store.parent / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")
    output = command("store", "merge", str(path), "--runs", "all")
    assert (output.status, output.out.count("e.zip")) == (1, 1)


@pytest.mark.parametrize("folder", ["ada", "ada/trials", "ada/experiments"])
def test_unreadable_hand_in_does_not_stop_the_table(
    hand_ins: Path, folder: str, command: Command, monkeypatch: pytest.MonkeyPatch
):
    """Simulated, because permissions do not bind an administrator."""
    denied, listdir = hand_ins / folder, os.listdir

    def deny(path: str | Path = ".") -> list[str]:
        if Path(path).absolute() == denied.absolute():
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr("os.listdir", deny)
    rows = table(command, str(hand_ins))
    assert [name for name, row in rows.items() if row["problem"]] == ["ada"]
    assert len(rows) == 4
    document = json.loads(command("store", "merge", str(hand_ins), "--runs", "all", "--json").out)
    assert {conflict["code"] for conflict in document["conflicts"]} == {"unreadable-store", "damaged"}


@pytest.mark.slow
def test_thirty_stores_of_sixty_trials_are_graded_in_ten_seconds(tmp_path: Path, workspace: Path):
    """Of processor time, because other processes may run."""
    for number in range(30):
        stores.write_widths(workspace / "in" / f"student-{number:02d}", seeds=7, epochs=10)
    start = time.process_time()
    grades = grade_stores([workspace / "in"])
    assert len(grades.rows) == 30
    assert sum(row.finished for row in grades.rows) == 30 * 63
    assert time.process_time() - start < 10, sys.platform
