"""What commands have in common: suggestions, links, tables in narrow terminals."""

import json
import sys
import webbrowser
from pathlib import Path

import pytest

from fathomlab.cli import laboratory
from fathomlab.cli.browser import open_page
from fathomlab.cli.links import file_link
from fathomlab.cli.options import print_table
from tests.helpers.commands import Command


class Browser:
    """Remembers what it was asked to open."""

    name = "firefox"

    def __init__(self) -> None:
        self.opened: list[str] = []

    def open(self, link: str) -> bool:
        self.opened.append(link)
        return True


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> Browser:
    """A browser on a display."""
    browser = Browser()
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(webbrowser, "get", lambda: browser)
    return browser


@pytest.mark.usefixtures("no_charts")
def test_report_opens_the_page(command: Command, store: Path, browser: Browser):
    """Or the index if no experiment is named; paths are printed as links."""
    page = file_link(next(store.glob("experiments/*/report.html")))
    output = command("report", "tiny", "--open")
    assert (browser.opened, output.err) == ([page], "")
    assert output.out.splitlines() == [f"report: {page}", f"index: {file_link(store / 'index.html')}"]
    command("report", "--open")
    assert browser.opened[1:] == [file_link(store / "index.html")]


@pytest.mark.usefixtures("no_charts")
def test_report_prints_the_link_without_a_display(
    command: Command, store: Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
):
    """With the reason, on standard error."""
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    output = command("report", "tiny", "--open", "--json")
    assert (output.status, browser.opened) == (0, [])
    assert "no display" in output.err
    assert file_link(Path(json.loads(output.out)["reports"][0])) in output.err


def test_text_browsers_are_not_used(browser: Browser, monkeypatch: pytest.MonkeyPatch):
    """They would take over the terminal."""
    browser.name = "w3m"
    assert open_page("file:///x") == "no graphical browser was found"

    def fail() -> None:
        raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(webbrowser, "get", fail)
    assert (open_page("file:///x"), browser.opened) == ("could not locate runnable browser", [])


def test_links_escape_what_terminals_would_cut(tmp_path: Path):
    assert file_link(tmp_path / "my runs" / "ö#1.html").endswith("/my%20runs/%C3%B6%231.html")


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (("train", "1_2"), "Did you mean 'run'?"),
        (("showw",), "Did you mean 'show'?"),
        (("store", "prun"), "Did you mean 'prune'?"),
        (("run", "1_2", "--epochs", "3"), "training.epochs=3"),
    ],
)
def test_unknown_words_suggest_the_nearest(command: Command, workspace: Path, args: tuple[str, ...], hint: str):
    """Once."""
    output = command(*args)
    assert (output.status, output.err.count(hint), output.err.count("Did you mean")) == (2, 1, "Did" in hint)


def test_starter_command_names_commands_that_exist(workspace: Path, capsys: pytest.CaptureFixture[str]):
    capsys.readouterr()
    assert laboratory(["--experiment", "1_2", "--epochs", "3"]) == 2
    err = capsys.readouterr().err
    assert "Try 'fathomlab run --help'" in err
    assert "training.epochs=3" in err


@pytest.mark.usefixtures("no_charts")
@pytest.mark.parametrize("name", ["tiny", "tiny.yaml", "./tiny.yaml", "TINY"])
def test_experiments_have_the_same_names_everywhere(command: Command, store: Path, name: str):
    """The beginning of the folder's name, or the file."""
    experiment = next(store.glob("experiments/*")).name
    assert command("report", name, "--json").status == 0
    assert {row["experiment"] for row in json.loads(command("list", name, "--json").out)} == {experiment}
    assert command("report", "--diff", name, experiment).status == 0
    assert command("export", "csv", name, "--to", "tables").status == 0


def test_names_of_results_are_not_experiment_files(command: Command, store: Path):
    """The error says so, because both are names of experiments."""
    output = command("plan", next(store.glob("experiments/*")).name, "--json")
    (problem,) = json.loads(output.out)["problems"]
    assert (problem["code"], "name of results" in problem["message"]) == ("no-such-file", True)
    (problem,) = json.loads(command("plan", "tiny", "--json").out)["problems"]
    assert (problem["code"], "Did you mean 'tiny.yaml'?" in problem["message"]) == ("no-such-file", True)


def test_plan_estimates_disk_space(command: Command, workspace: Path):
    """Two copies of the weights and 64 KiB of logs per trial, and checkpoints of six copies in training."""
    words = ("plan", "tiny.yaml", "experiment.seeds=1", "model.params.layers_dim=500", "model.params.residual=true")
    disk = json.loads(command(*words, "--json").out)["disk"]
    weights = 4 * (784 * 500 + 500 + 500 * 500 + 500 + 500 * 10 + 10)
    assert (disk["stored_bytes"], disk["peak_bytes"]) == (2 * weights + 2**16, 14 * weights + 2**16)
    assert disk["free_bytes"] > 0
    assert "disk space: about 5.2 MB per trial, 5.2 MB in total, up to 36.4 MB during training" in command(*words).out


def test_plan_without_work_prints_no_disk_space(command: Command, store: Path):
    assert "disk space" not in command("plan", "tiny.yaml").out


def test_plan_warns_of_a_full_disk(command: Command, workspace: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fathomlab.cli.planning._free_bytes", lambda root: 1000)
    assert "free disk space is not enough" in command("plan", "tiny.yaml").out


def test_tables_fit_narrow_terminals(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Columns continue below with the first one, and long cells are wrapped; a pipe gets one line per row."""
    rows = [("1", "2" * 20, "3" * 20, "word " * 12)]
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table("T", ("a", "b", "c", "d"), rows)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["a", "1", "a", "1", "a", "1", "word"]
    assert max(map(len, lines)) <= 40
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    print_table("", ("a", "b", "c", "d"), rows)
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_titles_are_suggested_for_names_of_experiments(command: Command, workspace: Path):
    (problem,) = json.loads(command("plan", "tiny.yaml", "experiment.name=x", "--json").out)["problems"]
    assert problem["message"] == "unknown key. Set experiment.title instead."


@pytest.mark.parametrize(
    ("name", "args"),
    [(".lock", ("store", "prune")), ("index.html", ("report", "tiny"))],
)
def test_unwritable_store_is_a_message(command: Command, store: Path, name: str, args: tuple[str, ...]):
    """A directory in place of the file fails as a read-only disk does."""
    (store / name).unlink(missing_ok=True)
    (store / name).mkdir()
    output = command(*args, "--json")
    assert (output.status, json.loads(output.out)["problems"][0]["code"]) == (2, "unwritable")
