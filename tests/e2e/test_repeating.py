"""verify PAGE.html#TRIAL: a trial of a report is trained again from the page alone."""

import json
import re
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import fathomlab
from fathomlab.api import write_combined_report
from fathomlab.api.pages import read_page
from fathomlab.base.identity import content_hash
from fathomlab.data.folder import Folder
from fathomlab.execute.signals import RunInterrupted
from tests.helpers.commands import Command
from tests.helpers.shared import build_once

STUDENT = """
    data: {name: mnist-sample, limit: 200, batch_size: 50}
    roles:
      teacher: {model: {type: MLP, params: {layers_dim: 8, batch_norm: true}}, training: {epochs: 2}}
      student: {model: {type: MLP, params: {layers_dim: 4}}, training: {epochs: 2}, parents: {teacher: teacher}}
    experiment: {title: Student, seeds: 3}
"""
WITH_PLUGIN = """
    plugins: [own.py]
    data: {name: blobs, batch_size: 20}
    model: {type: MLP, params: {input_size: 4, layers_dim: 4, class_num: 2}}
    training: {epochs: 1, loss: {type: squared}}
    experiment: {title: Own}
"""
PLUGIN = """
    import numpy as np
    import fathomlab

    def squared(logits, labels):
        return logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1).sub(1).square()

    def blobs() -> fathomlab.Arrays:
        images = np.random.default_rng(0).random((60, 1, 2, 2), dtype=np.float32)
        labels = np.arange(60) % 2
        return fathomlab.Arrays(images[:40], labels[:40], images[40:], labels[40:])
"""


@pytest.fixture(scope="session")
def handed_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `hand-in.html`, `student.html`, and `own.py`; the results directory is gone."""

    def train(folder: Path) -> None:
        files = {"student.yaml": STUDENT, "own.yaml": WITH_PLUGIN, "own.py": PLUGIN}
        for name, text in files.items():
            (folder / name).write_text(dedent(text))
        names = [
            fathomlab.run(folder / name, runs=folder / "runs", workers=1, progress="off").summary.experiment
            for name in ("student.yaml", "own.yaml")
        ]
        write_combined_report(folder / "runs", names, folder / "hand-in.html", ["A. Student"], "Networks")
        shutil.copy(folder / "runs" / "experiments" / names[0] / "report.html", folder / "student.html")
        shutil.rmtree(folder / "runs")

    return build_once(tmp_path_factory, "handed-in", train)


@pytest.fixture
def page(handed_in: Path, workspace: Path) -> Path:
    """`student.html` in the workspace."""
    return Path(shutil.copy(handed_in / "student.html", workspace / "student.html"))


def embedded(text: str) -> list[dict[str, Any]]:
    """The numbers of each experiment of a page."""
    return [
        json.loads(match) for match in re.findall(r'<script type="application/json" id="[^"]*">(.*?)</script>', text)
    ]


def trial_of(page: Path, condition: str) -> str:
    """The first trial of a condition."""
    for document in embedded(page.read_text()):
        labels = document["trials"]["facts"]["condition"]
        for row, trial in enumerate(document["trials"]["trials"]):
            if labels["values"][labels["rows"][row]] == condition:
                return trial
    raise AssertionError(condition)


def change(page: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Edit the numbers that a page of one experiment embeds. Rows of the table follow changed hashes."""
    text = page.read_text()
    (document,) = embedded(text)
    before = list(document["trials"]["trials"])
    edit(document)
    for old, new in zip(before, document["trials"]["trials"], strict=True):
        text = text.replace(f'<tr id="{old[:10]}">', f'<tr id="{new[:10]}">')
    changed = json.dumps(document, separators=(",", ":"))
    page.write_text(re.sub(r'(id="results">).*?(</script>)', lambda match: match[1] + changed + match[2], text))


def verify(command: Command, page: Path, trial: str, *options: str) -> tuple[int, dict[str, Any]]:
    """Exit status and JSON of the command."""
    output = command("verify", f"{page}#{trial}", "--progress", "off", "--json", *options)
    return output.status, json.loads(output.out)


def codes(result: tuple[int, dict[str, Any]]) -> tuple[int, list[str]]:
    """Exit status and error codes."""
    return result[0], [problem["code"] for problem in result[1]["problems"]]


def test_verify_repeats_a_student_bit_for_bit(command: Command, handed_in: Path, page: Path, tmp_path: Path):
    """From a page of two experiments, with its pack and its teachers; nothing stays on the disk."""
    combined = handed_in / "hand-in.html"
    trial = trial_of(page, "student")
    folders = set(Path(tempfile.gettempdir()).glob("fathomlab-verify-*"))
    output = command("verify", f"{combined}#{trial[:10]}", "--progress", "json", "--json")
    document = json.loads(output.out)
    assert (output.status, document["trial"], document["identical"], document["agrees"]) == (0, trial, True, True)
    assert (document["changes"], document["tolerance"], len(document["rows"])) == ([], 0, 13)
    assert all(row["page"] == row["repeated"] and row["difference"] == 0 for row in document["rows"])
    events = [json.loads(line) for line in output.err.splitlines()]
    (planned,) = (event for event in events if event["event"] == "planned")
    assert (planned["trials"], planned["packs"]) == (6, 2)
    assert {path.name for path in Path().iterdir()} == {"tiny.yaml", "student.html"}
    assert set(Path(tempfile.gettempdir()).glob("fathomlab-verify-*")) <= folders


def test_verify_in_another_environment_has_a_tolerance(command: Command, page: Path):
    """The trial and its teacher are trained alone, and what differs is listed."""

    def other_kernels(document: dict[str, Any]) -> None:
        document["trials"]["facts"]["environment"]["values"][0]["kernels"] = "ABACUS"

    change(page, other_kernels)
    status, document = verify(command, page, trial_of(page, "student"))
    assert (status, document["agrees"]) == (0, True)
    assert 0 < document["tolerance"] < 1
    assert any("ABACUS then" in text for text in document["changes"])
    assert sum("3 trials then, 1 now" in text for text in document["changes"]) == 2


def test_verify_returns_1_for_invented_numbers(command: Command, page: Path):
    """Consistent on the page, and not what training gives."""
    trial = trial_of(page, "teacher")

    def invent(document: dict[str, Any]) -> None:
        row = document["trials"]["trials"].index(trial)
        document["trials"]["metrics"]["best/test/loss"][row] += 0.3  # the table does not show it
        (condition,) = (item for item in document["conditions"] if item["label"] == "teacher")
        condition["metrics"]["best/test/loss"]["mean"] += 0.1

    change(page, invent)
    status, document = verify(command, page, trial)
    assert (status, document["identical"], document["agrees"]) == (1, False, False)
    (row,) = (row for row in document["rows"] if row["difference"])
    assert (row["metric"], row["difference"]) == ("best/test/loss", pytest.approx(-0.3))


def _learning_rate(document: dict[str, Any], row: int) -> None:
    training = document["trials"]["content"]["training"]
    training["values"][training["rows"][row]]["lr"] = 0.5


def _metric(document: dict[str, Any], row: int) -> None:
    document["trials"]["metrics"]["test/loss"][row] += 0.1


def _accuracy(document: dict[str, Any], row: int) -> None:
    """Without the table that a reader sees."""
    document["trials"]["metrics"]["test/accuracy"][row] += 0.3
    (condition,) = (item for item in document["conditions"] if item["label"] == "teacher")
    condition["metrics"]["test/accuracy"]["mean"] += 0.1


def _pack(document: dict[str, Any], row: int) -> None:
    document["trials"]["packs"]["values"] = [[0, 1, 2, 3, 4, 5]]
    document["trials"]["packs"]["rows"] = [0] * 6


def _circle(document: dict[str, Any], row: int) -> None:
    """A trial that starts from another one of its pack."""
    document["trials"]["content"]["parents"]["values"] = []
    document["trials"]["content"]["parents"]["rows"] = [None] * 6
    document["trials"]["content"]["distillation"]["rows"] = [None] * 6
    _replace_content(document, row, parents={"start": document["trials"]["trials"][row + 1]})


def _deep(document: dict[str, Any], row: int) -> None:
    _replace_content(document, row, probes=json.loads('{"a":' * 60 + "1" + "}" * 60))


def _label(document: dict[str, Any], row: int) -> None:
    """Another mean in the trials of a condition that no reader sees."""
    facts = document["trials"]["facts"]["condition"]
    facts["values"][facts["rows"][row]] = "invented"
    _metric(document, row)


def _replace_content(document: dict[str, Any], row: int, **sections: Any) -> None:
    """Other options of a trial, with their hash."""
    table = document["trials"]
    content = {
        key: column["values"][column["rows"][row]]
        for key, column in table["content"].items()
        if column["rows"][row] is not None
    }
    content |= sections
    for key, value in sections.items():
        table["content"][key]["values"].append(value)
        table["content"][key]["rows"][row] = len(table["content"][key]["values"]) - 1
    table["trials"][row] = content_hash(content)


@pytest.mark.parametrize("edit", [_learning_rate, _metric, _accuracy, _pack, _circle, _deep, _label])
def test_verify_rejects_edited_pages(
    command: Command, page: Path, edit: Callable[[dict[str, Any], int], None], monkeypatch: pytest.MonkeyPatch
):
    """Parts that contradict each other, before anything is trained."""
    row = next(iter(embedded(page.read_text())))["trials"]["trials"].index(trial_of(page, "teacher"))
    change(page, lambda document: edit(document, row))
    edited = next(iter(embedded(page.read_text())))["trials"]["trials"][row]
    status, problems = codes(verify(command, page, edited))
    assert (status, problems) == (2, ["edited-page"])


@pytest.mark.parametrize(
    ("seed", "reason"),
    [
        (10**400, "seed: must be below 2^53, got a number of more than 300 digits"),
        (float("nan"), "its options contain a number that is not finite"),
    ],
)
def test_verify_names_the_edited_option(command: Command, page: Path, seed: float, reason: str):
    """On one line, with the page and the trial once."""
    change(page, lambda document: _first_seed(document, seed))
    trial = trial_of(page, "teacher")
    output = command("verify", f"{page}#{trial}", "--progress", "off")
    text = (
        f"error: {page}: trial {trial[:12]}: {reason}. The page was edited or is corrupted. Ask for the original page."
    )
    assert (output.status, output.err.strip()) == (2, text)


def _first_seed(document: dict[str, Any], seed: Any) -> None:
    document["trials"]["content"]["seed"]["values"][0] = seed


def test_verify_rejects_trials_without_a_row(command: Command, page: Path):
    """A reader could not see its numbers."""
    trial = trial_of(page, "teacher")
    text = page.read_text()
    assert text.count(f'<tr id="{trial[:10]}">') == 1
    page.write_text(text.replace(f'<tr id="{trial[:10]}">', "<tr>"))
    assert codes(verify(command, page, trial)) == (2, ["edited-page"])


@pytest.mark.parametrize("column", ["test acc., last epoch (%)", "test loss (nats)", "best epoch", "seed"])
def test_verify_rejects_edited_cells(command: Command, page: Path, column: str):
    """Any number that a reader of the table of all trials sees."""
    trial = trial_of(page, "teacher")
    text = page.read_text()
    shown = read_page(page).rows[trial[:10]]
    row = re.search(f'<tr id="{trial[:10]}">.*', text)
    assert row is not None
    start, *cells = re.split("(?=<t[hd])", row[0])
    index = list(shown).index(column)
    cells[index] = cells[index].replace(">", ">9", 1)
    page.write_text(text.replace(row[0], start + "".join(cells)))
    assert read_page(page).rows[trial[:10]] == {**shown, column: "9" + shown[column]}
    assert codes(verify(command, page, trial)) == (2, ["edited-page"])


@pytest.mark.parametrize(
    ("sections", "code"),
    [
        ({"data": {"name": "Folder", "params": {"path": "outside"}}}, "outdated-record"),
        ({"data": {"name": "x", "params": {}, "sha256": "0" * 64}}, "data-needed"),
        ({"model": {"type": "MLP", "params": {"layers_dim": 60_000}}}, "outdated-record"),
        ({"training": {"epochs": 10**9}}, "outdated-record"),
        ({"probes": [["noise"]]}, "outdated-record"),
        ({"parents": {"start": "f" * 64}}, "no-parent"),
        ({"plugins": {"own.py": "0" * 64}}, "plugin-needed"),
    ],
)  # fmt: skip
def test_verify_rejects_hostile_pages(
    command: Command, page: Path, sections: dict[str, Any], code: str, monkeypatch: pytest.MonkeyPatch
):
    """No folder is read and no code runs, although the hash is right."""
    monkeypatch.setattr(Folder, "read", lambda *_: pytest.fail("read"))
    change(page, lambda document: _hostile(document, sections))
    assert codes(verify(command, page, trial_of(page, "teacher"))) == (2, [code])


@pytest.mark.parametrize(
    ("options", "code"),
    [({"layers_dim": 60_000, "hidden_layers_num": 9_000}, "too-large"), ({"input_size": 5}, "outdated-record")],
)
def test_verify_rejects_networks_that_cannot_train(command: Command, page: Path, options: dict[str, int], code: str):
    """Beyond the memory, or for other images, with the right hash."""

    def edit(document: dict[str, Any]) -> None:
        model = document["trials"]["content"]["model"]["values"][0]
        _replace_content(document, 0, model={**model, "params": {**model["params"], **options}})

    change(page, edit)
    assert codes(verify(command, page, trial_of(page, "teacher"))) == (2, [code])


def _hostile(document: dict[str, Any], sections: dict[str, Any]) -> None:
    for key in sections:
        document["trials"]["content"].setdefault(key, {"values": [], "rows": [None] * 6})
    _replace_content(document, 0, **sections)


def test_verify_runs_only_named_plugins(command: Command, handed_in: Path, workspace: Path):
    """Not without `--plugin`, not with another digest; with the file, dataset and loss give the same bits."""
    combined = handed_in / "hand-in.html"
    trial = trial_of(combined, "the network as given")
    assert codes(verify(command, combined, trial)) == (2, ["plugin-needed"])
    other = workspace / "own.py"
    other.write_text((handed_in / "own.py").read_text() + "open('ran', 'w')\n")
    assert codes(verify(command, combined, trial, "--plugin", "own.py")) == (2, ["plugin-changed"])
    renamed = verify(command, combined, trial, "--plugin", str(other.rename(workspace / "own (1).py")))
    assert (codes(renamed), "own (1).py" in renamed[1]["problems"][0]["message"]) == ((2, ["plugin-needed"]), True)
    assert not Path("ran").exists()
    status, document = verify(command, combined, trial, "--plugin", str(handed_in / "own.py"))
    assert (status, document["identical"], document["changes"]) == (0, True, [])


@pytest.mark.parametrize(
    ("address", "options", "code"),
    [
        ("student.html", (), "no-trial"),
        ("student.html#12", (), "invalid-trial-prefix"),
        ("student.html#zzzz", (), "no-such-trial"),
        ("none.html#abcd", (), "no-such-file"),
        ("other.html#abcd", (), "not-a-report"),
        ("declared.html#abcd", (), "not-a-report"),
        ("student.html#abcd", ("training.epochs=1",), "invalid-option"),
        ("student.html#abcd", ("--quick",), "invalid-option"),
        ("tiny.yaml", ("--plugin", "own.py"), "invalid-option"),
    ],
)
def test_verify_reports_wrong_addresses(
    command: Command, page: Path, address: str, options: tuple[str, ...], code: str
):
    """The name of the trial, the file, and options that only experiment files have."""
    Path("declared.html").write_text(f"<![{page.read_text()}")
    Path("other.html").write_text("<html><script type='application/json'>[1]</script></html>")
    output = command("verify", address, *options, "--json")
    assert codes((output.status, json.loads(output.out))) == (2, [code])


def test_verify_trains_in_an_empty_directory_only(command: Command, page: Path):
    """`--runs` names it; it stays."""
    trial = trial_of(page, "teacher")
    assert verify(command, page, trial, "--runs", "again")[0] == 0
    assert len(list(Path("again/trials").iterdir())) == 3
    assert codes(verify(command, page, trial, "--runs", "again")) == (2, ["store-not-empty"])


@pytest.mark.parametrize("reason", [RunInterrupted(signal.SIGTERM), KeyboardInterrupt()])
def test_interrupted_verify_promises_no_progress(
    command: Command, monkeypatch: pytest.MonkeyPatch, reason: KeyboardInterrupt
):
    """Its temporary directory is gone, and the same command refuses a directory with trials."""

    def stop(*_: object) -> None:
        raise reason

    monkeypatch.setattr(fathomlab.api, "repeat_trial", stop)
    status = 128 + getattr(reason, "signum", signal.SIGINT)
    output = command("verify", "page.html#abcd")
    assert (output.status, output.err) == (status, "Interrupted. Nothing is kept.\n")
    output = command("verify", "page.html#abcd", "--runs", "again")
    assert output.status == status
    assert "again keeps what was trained" in output.err


def test_diff_reads_pages_of_several_experiments(command: Command, handed_in: Path, page: Path):
    """The experiment after `#`, which is needed if there are several."""
    combined = handed_in / "hand-in.html"
    rows = json.loads(command("report", "--diff", f"{combined}#student", str(page), "--json").out)
    assert rows
    assert {row["state"] for row in rows} == {"equal"}
    output = command("report", "--diff", str(combined), str(page), "--json")
    assert codes((output.status, json.loads(output.out))) == (2, ["ambiguous-experiment"])
