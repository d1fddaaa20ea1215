"""Markup, colors and titles in names reach a terminal as text: no raw escape, no crash, one line for one event."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fathomlab.execute.events import EpochDone, Failed, Planned, Started
from fathomlab.execute.progress import MODES, Mode, progress_reporter
from fathomlab.store.reading import Store

HOSTILE = (
    "[/x]",
    "[bold red]x[/]",
    "[link=http://x]y[/link]",
    "[",
    "\\[x]",
    "\x1b]0;owned\x07",
    "\x1b[2J\x1b[H",
    "\x9b31m",
    "a\rb",
    "a\nb",
    "\x00\x08\x7f",
    "{0} %s",
    "\ud800",
)
TRIAL = "ab" * 32


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_progress_shows_names_and_causes_as_text(mode: Mode, text: str, monkeypatch: pytest.MonkeyPatch):
    """In every mode, on a terminal; the sequences of a hostile text never arrive, those of the table are the table's."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("CI", raising=False)
    out = Terminal()
    with progress_reporter(mode, out) as emit:
        emit(Planned(1, 0, 1, 1, {}, {TRIAL: f"{text} seed=1"}))
        emit(Started((TRIAL,), 1))
        emit(EpochDone(TRIAL, 1, {"val/accuracy": 0.5}))
        emit(Failed(TRIAL, text, 1.0))
    said = out.getvalue()
    for sequence in ("\x1b]", "\x1b[2J\x1b[H\n", "\x9b", "\x07", "\x00", "\x08", "\x7f", "\ud800"):
        assert sequence not in said
    if mode in ("plain", "json", "off"):
        assert "\x1b" not in said
        assert "\r" not in said
        assert len(said.splitlines()) == {"plain": 2, "json": 4, "off": 0}[mode]
    if mode == "plain" and text.isprintable():
        assert text in said


def spoil(store: Path, text: str) -> str:
    """Put the text into the records of the first trial and of its experiment; the trial's hash."""
    trial = Store(store).trials()[0]
    for path in (*store.glob("experiments/*/experiment.json"), *(store / "trials" / trial).glob("*.json")):
        about = json.loads(path.read_text())
        about.pop("seal", None)
        about |= {"title": text, "cause": text} | ({"status": "failed"} if path.name == "result.json" else {})
        about |= {"content": about["content"] | {"data": {"name": text, text: text}}} if "content" in about else {}
        for condition in about.get("conditions", ()):
            condition["label"] = text
        path.write_text(json.dumps(about))
    return trial


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_commands_show_records_as_text(store: Path, command: Callable[..., Any], text: str):
    """A store that a stranger has sent, listed and shown, for people and as JSON."""
    trial = spoil(store, text)
    for words in (["list"], ["show", trial], ["list", "--json"], ["show", trial, "--json"]):
        said = command(*words)
        assert said.status == 0
        assert not any(letter in said.out + said.err for letter in "\x1b\x9b\x07\x00\x08\x7f\r\ud800")
        if "--json" in words:
            json.loads(said.out)
        elif words == ["list"]:
            assert len(said.out.splitlines()) == 2


@pytest.mark.parametrize("name", ["\x1b]0;owned\x07", "a\nb", "[x]", "caf\udce9", "\u202e"], ids=ascii)
def test_folders_of_strangers_show_as_text(store: Path, command: Callable[..., Any], name: str):
    """The name of a folder in the store is a text too; so is the store's own."""
    own = next((store / "experiments").iterdir())
    own.rename(own.with_name(name))
    for words in (["list"], ["report"], ["report", "none"], ["report", name]):
        said = command(*words)
        assert said.status == (2 if "none" in words else 0)
        assert not any(letter in said.out + said.err for letter in "\x1b\x07")
        (said.out + said.err).encode()
    other = store.with_name(f"runs {name}")
    store.rename(other)
    for words in (["list", "--runs", str(other)], ["report", "--runs", str(other)]):
        said = command(*words)
        assert said.status == 0
        assert "\x1b" not in said.out + said.err
        (said.out + said.err).encode()
