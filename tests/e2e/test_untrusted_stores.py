"""Stores and names from other people: text stays text, paths stay inside, links are not followed."""

import json
import re
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

import fathomlab
from fathomlab.execute.experiment import experiment_name
from fathomlab.store.reading import Store
from tests.helpers.commands import EXPERIMENT, RUN, TRIALS, Command
from tests.helpers.hostile_text import ALL, CONTROL, INVALID, NAMES, VALID

pytestmark = pytest.mark.usefixtures("no_charts")

SECRET = "the-secret-of-another-folder"
FOREIGN = (".ipynb_checkpoints", "@eaDir", "lost+found", "my notes", "__MACOSX", ".Trash-1000", "backup-2026")


def experiment_folder(store: Path) -> Path:
    """The folder of the only experiment."""
    (folder,) = (store / "experiments").glob("tiny-*")
    return folder


def corrupt(store: Path, text: str) -> str:
    """Write a text into the records of the first trial and of its experiment; return the trial's hash."""
    trial = Store(store).trials()[0]
    for path in (*store.glob("experiments/*/experiment.json"), *(store / "trials" / trial).glob("*.json")):
        record = json.loads(path.read_text())
        record.pop("seal", None)
        record |= {"title": text, "cause": text} | ({"status": "failed"} if path.name == "result.json" else {})
        record |= {"content": record["content"] | {"data": {"name": text, text: text}}} if "content" in record else {}
        for condition in record.get("conditions", ()):
            condition["label"] = text
        path.write_text(json.dumps(record))
    return trial


def test_commands_print_records_as_text(store: Path, command: Command):
    """For people, one line per trial; as JSON, a valid document; never a control character."""
    for text in ALL:
        trial = corrupt(store, text)
        for args in (["list"], ["show", trial], ["list", "--json"], ["show", trial, "--json"]):
            output = command(*args)
            assert output.status == 0, (text, args)
            assert not CONTROL & set(output.text), (text, args)
            if "--json" in args:
                json.loads(output.out)
            elif args == ["list"]:
                assert output.out.count("\n") == TRIALS, text


@pytest.mark.parametrize("name", ["\x1b]0;owned\x07\n[x]", "caf\udce9 \u202e"], ids=ascii)
def test_commands_print_folder_names_as_text(store: Path, command: Command, name: str):
    """The name of an experiment's folder, and that of the store."""
    experiment_folder(store).rename(store / "experiments" / name)
    other = store.rename(store.with_name(f"runs {name}"))
    for args, status in ((["list"], 0), (["report", "none"], 2), (["report", name], 0)):
        output = command(*args, "--runs", str(other))
        assert output.status == status, args
        assert not set("\x1b\x07") & set(output.text), args
        output.text.encode()


def test_any_valid_text_names_an_experiment(store: Path, command: Command, workspace: Path):
    """Trials do not depend on it, the folder's name is ours, and record and page contain it as text."""
    data = yaml.safe_load(EXPERIMENT)
    claims = [data["claims"][0] | {"name": name} for name in VALID]
    plain = fathomlab.load("tiny.yaml")
    for name in VALID:
        data["experiment"]["title"] = data["experiment"]["question"] = name
        data["logging"] = {"project_name": name}
        plan = fathomlab.load(data)
        assert plan.trials == plain.trials
        assert plan.loaded.file.experiment.title == name
        assert re.fullmatch(r"[a-z0-9_-]{1,60}", experiment_name(plan, []))
    title = "../../outside <b>x</b> {{ 7 * 7 }}"
    data["experiment"]["title"] = title
    (workspace / "named.yaml").write_text(json.dumps(data | {"claims": claims}))
    output = command("run", "named.yaml", "--json", "--workers", "1")
    summary = json.loads(output.out)
    assert (output.status, summary["cached"]) == (0, TRIALS)
    folder = store / "experiments" / summary["experiment"]
    assert json.loads((folder / "experiment.json").read_text())["title"] == title
    assert "<b>x</b>" not in (folder / "report.html").read_text(encoding="utf-8")
    assert Path(summary["report"]).resolve().is_relative_to(store.resolve())


def test_invalid_text_is_rejected_in_every_field(workspace: Path):
    """In a mapping, and in a file by the escapes of YAML. The message itself can be printed."""
    base = yaml.safe_load(EXPERIMENT)
    for name in INVALID:
        changes = (
            {"experiment": {"title": name}},
            {"experiment": {"question": name}},
            {"experiment": {"factors": {"data.name": [name]}}},
            {"claims": [base["claims"][0] | {"name": name}]},
            {"logging": {"project_name": name}},
            {"training": {"epochs": 1, name: 1}},
            {"quick": {"experiment": {"title": name}}},
        )
        for change in changes:
            data = dict(base) | change
            Path("exp.yaml").write_text(json.dumps(data))
            for source in (data, "exp.yaml"):
                with pytest.raises(fathomlab.ConfigError) as caught:
                    fathomlab.load(source)
                assert str(caught.value).replace("\n", "").isprintable(), (name, change)


def test_files_of_any_name_are_read(workspace: Path):
    """If the file system accepts the name; messages contain it, with control characters escaped."""
    read = 0
    for name in (*NAMES, *INVALID):
        if Path(name).is_absolute() or ".." in Path(name).parts:  # outside of the workspace: nothing is written there
            continue
        try:
            Path(name).write_text(EXPERIMENT)
        except (OSError, ValueError):
            with pytest.raises(fathomlab.UserError):
                fathomlab.load(name)
            continue
        read += 1
        plan = fathomlab.load(name)
        source = plan.loaded.document.source
        source.encode()
        assert source.isprintable() or any(unicodedata.category(letter) in ("Cf", "Zl", "Zp") for letter in source)
        assert re.fullmatch(r"[a-z0-9_-]{1,60}", experiment_name(plan, []))
        Path(name).write_text("seed: x\n")
        with pytest.raises(fathomlab.ConfigError) as caught:
            fathomlab.load(name)
        assert str(caught.value).count("\n") == len(caught.value.problems)
        assert "\x1b" not in str(caught.value)
        Path(name).unlink()
    assert read > 10


ARGUMENTS = (
    *("..", "../outside", "/etc/passwd", "a/../../outside", "a\\b", ".", "", "~", "line\nbreak", "x" * 300, "*"),
    *("$(touch outside)", "%2e%2e", "trials", "\udcff", "a\0b", "\x1b]0;x\x07", "[/x]", "0" * 64, "ABCD/.."),
)
COMMANDS = (
    ["report", "{}"],
    ["show", "{}"],
    ["plan", "{}"],
    ["run", "{}"],
    ["list", "--runs", "{}"],
    ["report", "--runs", "{}"],
    ["data", "download", "{}"],
    ["data", "import", "{}"],
)


@pytest.fixture
def outside(tmp_path: Path, store: Path) -> Iterator[Path]:
    """A copy of the store next to the workspace, with a secret in every document; it must not change."""
    folder = Path(shutil.copytree(store, tmp_path / "outside"))
    for path in folder.rglob("*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "title": SECRET, "cause": SECRET, "seal": SECRET}))
    (folder / "mine.html").write_text("mine")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    yield folder
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not any(SECRET in page.read_text() for page in store.rglob("*.html") if not page.is_symlink())


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_arguments_do_not_lead_outside(store: Path, tmp_path: Path, command: Command, args: Sequence[str]):
    """Rejected with status 2, or nothing to do. Only pages in the store may change."""
    outside = Path(shutil.copytree(store / "trials", tmp_path / "outside" / "trials")).parent
    (outside / "experiment.json").write_text("{}")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    for name in ARGUMENTS:
        output = command(*(name if word == "{}" else word for word in args))
        assert output.status in ((0, 2) if args[0] in ("list", "report") else (2,)), (name, output)
        assert "\x1b" not in output.text, (name, output)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    changed = {path for path in after if before.get(path) != after[path]}
    assert {path.name for path in changed} <= {"report.html", "index.html"}
    assert not list(outside.rglob("*.html"))
    assert not (store.parent / "outside").exists()


@pytest.mark.parametrize("what", ["trial", "experiment", "experiment.json", "trial.json", "result.json"])
def test_links_are_not_followed(store: Path, outside: Path, command: Command, what: str):
    """The commands work without the linked file; its target is neither changed nor shown."""
    trial, experiment = Store(store).trials()[0], experiment_folder(store).name
    folder = f"experiments/{experiment}" if what.startswith("experiment") else f"trials/{trial}"
    relative = f"{folder}/{what}" if what.endswith(".json") else folder
    path = store / relative
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(outside / relative)
    for args in (["list", "--json"], ["show", trial[:12]], ["plan", "tiny.yaml"], [*RUN], ["list"], ["report"]):
        output = command(*args)
        assert output.status in (0, 1, 2), (args, output)
        assert SECRET not in output.text, args


def test_linked_pages_and_folders_are_not_written(store: Path, outside: Path, command: Command):
    """A linked page is replaced; a linked experiment is ignored."""
    pages = [next(store.rglob(name)) for name in ("report.html", "index.html")]
    for page in pages:
        page.unlink()
        page.symlink_to(outside / "mine.html")
    (store / "experiments" / "linked-01234567").symlink_to(outside / "experiments" / pages[0].parent.name)
    assert command("report").status == 0
    for page in pages:
        assert not page.is_symlink()
        assert "<html" in page.read_text()


@pytest.mark.parametrize("trial", ["../../../outside/trials", "/etc", "", "x" * 300, "a\0b", "\ud800", "0" * 63 + "\n"])
def test_paths_are_not_trial_hashes(store: Path, outside: Path, command: Command, trial: str):
    """A record may contain anything; only 64 hexadecimal digits are a trial."""
    file = experiment_folder(store) / "experiment.json"
    record = json.loads(file.read_text())
    record.pop("seal", None)
    record["name"] = trial
    for condition in record["conditions"]:
        for pair in condition["trials"]:
            pair["trial"] = trial
    file.write_text(json.dumps(record))
    assert command("list").status == 0
    assert Store(store).trial(trial).status == "damaged"


def test_foreign_folders_are_ignored(store: Path, command: Command):
    """Folders of other programs are neither reported nor changed, by any command."""
    folders = [store / parent / name for parent in ("experiments", "trials", ".") for name in FOREIGN]
    for folder in folders:
        folder.mkdir()
        (folder / "mine.txt").write_text("mine")
    (store / "trials" / ".DS_Store").write_bytes(b"x")
    for args in (["store", "check"], ["report"], ["list"], ["store", "prune"], ["store", "prune", "--orphans"]):
        output = command(*args)
        assert output.status == 0, (args, output)
        assert "my notes" not in output.out
    assert [[path.name for path in folder.iterdir()] for folder in folders] == [["mine.txt"]] * len(folders)


def test_experiment_without_its_record_is_corrupted(store: Path, command: Command):
    """Its name shows that it was an experiment."""
    (experiment_folder(store) / "experiment.json").unlink()
    assert command("store", "check").status == 1
