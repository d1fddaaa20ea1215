"""The documents of docs/reference/json.md, compared with what the commands print."""

import json
import re
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import typer.main

from fathomlab.cli import app
from fathomlab.report import figure_files
from reference.command_line import commands
from reference.json_keys import Keys
from reference.json_output import DOCUMENTS, ERRORS, EVENTS
from tests.helpers.commands import EXPERIMENT, RUN, Command

TYPES = {"string": str, "boolean": bool, "integer": int, "number": (int, float), "object": dict, "null": type(None)}
SUCCESS = """\
  - {name: They learn, kind: success, factor: residual, levels: [true, false], threshold: 0, expect: equal, matters: 1}
"""
NEW = ("run", "tiny.yaml", "training.lr=0.02", "experiment.seeds=1", "--progress", "json", "--workers", "1")
COMMANDS: dict[str, tuple[str, ...]] = {
    "plan": ("plan", "tiny.yaml"),
    "plan --why TRIAL": (
        "plan",
        "tiny.yaml",
        "training.lr=0.1",
        "experiment.seeds=1",
        "experiment.factors={}",
        "--why",
        "",
    ),
    "run": RUN,
    "verify": ("verify", "tiny.yaml"),
    "report": ("report", "tiny", "--figures", "figures"),
    "report --diff A B": ("report", "--diff", "tiny", "tiny"),
    "list": ("list",),
    "export": ("export", "csv", "tiny"),
    "new": ("new", "loss", "tiny_loss"),
    "doctor": ("doctor",),
    "data list": ("data", "list"),
    "store check": ("store", "check"),
    "store repair": ("store", "repair"),
    "store prune": ("store", "prune", "--damaged"),
}
WITHOUT = {"data download", "data import"}  # need files of the publishers; their keys are those of dataclasses


def is_a(value: Any, kind: str) -> bool:
    """Whether a value has a documented type."""
    if kind == "any":
        return True
    if " or " in kind:
        return any(is_a(value, part) for part in kind.split(" or "))
    if kind.startswith("list of "):
        return isinstance(value, list) and all(is_a(item, kind.removeprefix("list of ")[:-1]) for item in value)
    return isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def differences(value: dict[str, Any], keys: Keys) -> set[str]:
    """Keys that are missing, not documented, or of another type."""
    missing = {f"missing: {key.name}" for key in keys if key.name not in value and not key.optional}
    new = {f"not documented: {name}" for name in value.keys() - {key.name for key in keys}}
    return (
        missing
        | new
        | {
            f"no {key.kind}: {key.name}"
            for key in keys
            if not is_a(value.get(key.name), key.kind) and key.name in value
        }
    )


def items(document: Any, place: str) -> list[dict[str, Any]]:
    """The objects at a place such as `verdicts[].values[]`."""
    values = [document]
    for name in filter(None, place.replace("[]", ".[]").split(".")):
        values = [item for value in values for item in (value if name == "[]" else [value[name]]) if item is not None]
    return values


def wrong_keys(document: Any, tables: "dict[str, Keys]") -> dict[str, set[str]]:
    """Differences by place; places without an object are differences, too."""
    wrong = {}
    for place, keys in tables.items():
        objects = items(document, place)
        wrong[place] = set().union(*(differences(item, keys) for item in objects)) if objects else {"no object"}
    return {place: texts for place, texts in wrong.items() if texts}


def test_documents_have_the_documented_keys(command: Command, store: Path, monkeypatch: pytest.MonkeyPatch):
    """Each command on a store, and the maintenance on a corrupted one."""
    charts = figure_files.charts
    monkeypatch.setattr(
        figure_files, "charts", lambda sections: islice(charts(sections), 1)
    )  # drawing all takes seconds
    Path("tiny.yaml").write_text(EXPERIMENT + SUCCESS)
    shutil.rmtree(store / "experiments")  # one experiment, and one page, are enough
    wrong = {}
    for name, args in COMMANDS.items():
        if name == "store check":
            next(store.glob("trials/*/predictions.bin")).write_bytes(b"")
        document = json.loads(command(*args, "--json").out)
        wrong[name] = wrong_keys(document, dict(DOCUMENTS[name]))
    trial = json.loads(command("list", "--json").out)[0]["trial"]
    wrong["show"] = wrong_keys(json.loads(command("show", trial, "--json").out), dict(DOCUMENTS["show"]))
    page = next(store.glob("experiments/*/report.html"))
    name = "verify PAGE.html#TRIAL"
    wrong[name] = wrong_keys(json.loads(command("verify", f"{page}#{trial}", "--json").out), dict(DOCUMENTS[name]))
    wrong["errors"] = wrong_keys(json.loads(command("plan", "tiny.yaml", "seed=x", "--json").out), dict(ERRORS))
    assert {name: places for name, places in wrong.items() if places} == {}
    assert {*COMMANDS, "show", name} == DOCUMENTS.keys() - WITHOUT
    documented = {re.split(" --| [A-Z]", name)[0] for name in DOCUMENTS} | {"bench"}
    assert {name for name, _ in commands(typer.main.get_command(app))} == documented


@pytest.mark.usefixtures("store")
def test_events_have_the_documented_keys(command: Command):
    Path("tiny.yaml").write_text(EXPERIMENT + "logging: {log_gradients: true}\n")
    lines = [json.loads(line) for line in command(*NEW).err.splitlines()]
    documented = {component.event: keys for component, keys in reversed(EVENTS.items())}  # `Finished`, not `Failed`
    kinds = [line.pop("event") for line in lines]
    assert {"planned", "started", "epoch", "finished"} <= set(kinds)
    wrong = {kind: differences(line, documented[kind]) for kind, line in zip(kinds, lines, strict=True)}
    assert {kind: texts for kind, texts in wrong.items() if texts} == {}
