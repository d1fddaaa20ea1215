"""Forty names as file, title, question, claim, project, store and argument: labels, or refused in words; never a path."""

import json
import re
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.execute.experiment import experiment_name

NAMES = (
    "plain",
    "two words",
    "\N{GRINNING FACE}",
    "\N{WOMAN}\u200d\N{PERSONAL COMPUTER}",
    "\N{REGIONAL INDICATOR SYMBOL LETTER D}\N{REGIONAL INDICATOR SYMBOL LETTER E}",
    unicodedata.normalize("NFC", "re\N{LATIN SMALL LETTER E WITH ACUTE}l"),
    unicodedata.normalize("NFD", "re\N{LATIN SMALL LETTER E WITH ACUTE}l"),
    "\N{HEBREW LETTER ALEF}\N{HEBREW LETTER BET}",
    "\u202egnp.exe",
    "\u200b",
    "\u2028",
    "\N{FULLWIDTH SOLIDUS}etc",
    "\N{CJK UNIFIED IDEOGRAPH-6DF1}",
    "..",
    ".",
    "...",
    "../../outside",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "C:\\x",
    "CON",
    "nul.txt",
    "-rf",
    "--help",
    "~",
    "$(touch outside)",
    "`touch outside`",
    "a;touch outside",
    "*",
    "%2e%2e%2f",
    "{{ 7 * 7 }}",
    "${HOME}",
    "[/x]",
    "[bold red]x[/]",
    "<b>x</b>",
    "'\"",
    "x" * 300,
    "\N{LATIN SMALL LETTER E WITH ACUTE}" * 128,
    "line\nbreak",
)
# What no text may hold: refused wherever it stands.
NONE = ("\ud800", "a\udcffb", "nul\0", "\x1b]0;title\x07", "back\rspace", "\x9b31m", "\x7f")
assert len(NAMES) == 40


def mapping(name: str) -> dict[str, Any]:
    """An experiment with this name in every field that takes a text."""
    claim = {"name": name, "factor": "residual", "levels": [True, False], "expect": "greater"}
    return {
        "data": {"name": "mnist-sample", "limit": 100, "batch_size": 50},
        "model": {"type": "MLP", "params": {"layers_dim": 4, "hidden_layers_num": 1}},
        "training": {"epochs": 1},
        "experiment": {
            "title": name,
            "question": name,
            "analyze_gradients": True,
            "factors": {"model.params.residual": [False, True]},
        },
        "logging": {"project_name": name},
        "claims": [claim],
    }


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_is_a_label(tmp_path: Path, name: str):
    """The trials do not depend on it, the folder's name is ours, and the text is kept as it is."""
    plan = fathomlab.load(mapping(name))
    plain = fathomlab.load(mapping("plain"))
    assert plan.trials == plain.trials
    assert re.fullmatch(r"[a-z0-9_-]{1,60}", experiment_name(plan, []))
    assert plan.loaded.file.experiment.title == name
    assert plan.claims[0]["name"] == name


@pytest.mark.parametrize("field", ["title", "question", "claim", "project", "key", "level", "quick"])
@pytest.mark.parametrize("name", NONE, ids=ascii)
def test_what_is_no_text_is_refused_everywhere(tmp_path: Path, name: str, field: str):
    """In a mapping, and in a file by YAML's escapes; the message itself can be shown."""
    data = mapping("plain")
    if field in ("title", "question"):
        data["experiment"][field] = name
    elif field == "claim":
        data["claims"][0]["name"] = name
    elif field == "project":
        data["logging"]["project_name"] = name
    elif field == "key":
        data["training"][name] = 1
    elif field == "level":
        data["experiment"]["factors"] = {"data.name": [name]}
    else:
        data["quick"] = {"experiment": {"title": name}}
    path = tmp_path / "exp.yaml"
    path.write_text(json.dumps(data))
    for source in (data, path):
        with pytest.raises(fathomlab.ConfigError) as caught:
            fathomlab.load(source)
        assert str(caught.value).replace("\n", "").isprintable()


@pytest.mark.parametrize("name", [*NAMES, *NONE], ids=ascii)
def test_a_file_of_any_name_is_read_or_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    """Where the file system takes the name; the record shows it, escaped where it is no text."""
    monkeypatch.chdir(tmp_path)
    written = True
    try:
        Path(name).write_text(json.dumps(mapping("plain")))
    except (OSError, ValueError):
        written = False
    if not written:
        with pytest.raises(fathomlab.UserError) as caught:
            fathomlab.load(name)
        assert "Traceback" not in str(caught.value)
        return
    plan = fathomlab.load(name)
    source = plan.loaded.document.source
    source.encode()
    assert source.isprintable() or any(unicodedata.category(letter) in ("Cf", "Zl") for letter in source)
    assert re.fullmatch(r"[a-z0-9_-]{1,60}", experiment_name(plan, []))
    Path(name).write_text("seed: x\n")
    with pytest.raises(fathomlab.ConfigError) as caught:
        fathomlab.load(name)
    assert str(caught.value).count("\n") == len(caught.value.problems)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("name", [NAMES[place] for place in (2, 8, 16, 33, 35, 39)], ids=ascii)
def test_a_name_goes_through_command_line_store_and_report(
    store: Path, command: Callable[..., Any], tmp_path: Path, name: str
):
    """Trained before, so that only the record and the page are written; all of it inside the store."""
    file = "exp.yaml"
    Path(file).write_text(json.dumps(mapping(name)))
    for words in (["plan", file], ["run", file, "--workers", "1"], ["list"]):
        said = command(*words)
        assert said.status == 0, said.err
        assert "\x1b" not in said.out + said.err
    summary = json.loads(command("run", file, "--json").out)
    assert summary["trained"] == 0
    folder = store / "experiments" / summary["experiment"]
    assert json.loads((folder / "experiment.json").read_text())["title"] == name
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<b>x</b>" not in page
    assert Path(summary["report"]).resolve().is_relative_to(store.resolve())
    assert {path.name for path in tmp_path.iterdir()} == {"work"}


ARGUMENTS = (
    "..",
    "../outside",
    "/etc/passwd",
    "a/../../outside",
    "a\\b",
    ".",
    "",
    "~",
    "CON",
    "line\nbreak",
    "x" * 300,
)
ARGUMENTS += (
    "*",
    "$(touch outside)",
    "%2e%2e",
    "trials",
    "\udcff",
    "a\0b",
    "\x1b]0;x\x07",
    "[/x]",
    "0" * 64,
    "ABCD/..",
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


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_name_as_argument_leads_nowhere(store: Path, command: Callable[..., Any], tmp_path: Path, words: list[str]):
    """Refused in words with status 2, or nothing to do; the store and what is beside it stay as they are."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "experiment.json").write_text("{}")
    shutil.copytree(store / "trials", outside / "trials")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    for name in ARGUMENTS:
        said = command(*(name if word == "{}" else word for word in words))
        assert said.status in (0, 2), (name, said)
        assert said.status == 2 or words[0] in ("list", "report"), (name, said)
        assert "\x1b" not in said.out + said.err, (name, said)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    pages = {path for path in after if path.name in ("report.html", "index.html")}
    assert {path for path in after if before.get(path) != after[path]} <= pages
    assert not list(outside.rglob("*.html"))
    assert not (tmp_path / "work" / "outside").exists()
