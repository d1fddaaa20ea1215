"""The documents of docs/reference/json.md, compared with what the commands print."""

import json
import re
import shutil
from itertools import islice
from pathlib import Path

import pytest
import typer.main

from fathomlab.cli import app
from fathomlab.report import figure_files
from reference.command_line import commands
from reference.json_output import DOCUMENTS, ERRORS, EVENTS
from tests.helpers.commands import EXPERIMENT, RUN, Command
from tests.helpers.json_keys import differences, wrong_keys

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
    "publish": ("publish", "tiny", "--to", "results"),
    "new": ("new", "loss", "tiny_loss"),
    "doctor": ("doctor",),
    "data list": ("data", "list"),
    "store check": ("store", "check"),
    "store repair": ("store", "repair"),
    "store prune": ("store", "prune", "--damaged"),
    "store merge": ("store", "merge", "other"),
    "store grade": ("store", "grade", "runs", "other", "--to", "grades.csv"),
}
WITHOUT = {"data download", "data import"}  # need files of the publishers; their keys are those of dataclasses


def test_documents_have_the_documented_keys(command: Command, store: Path, monkeypatch: pytest.MonkeyPatch):
    """Each command on a store, and the maintenance on a corrupted one."""
    charts = figure_files.charts
    monkeypatch.setattr(
        figure_files, "charts", lambda sections: islice(charts(sections), 1)
    )  # drawing all takes seconds
    Path("tiny.yaml").write_text(EXPERIMENT + SUCCESS)
    other = Path(shutil.copytree(store, "other"))
    next(other.glob("trials/*/predictions.bin")).write_bytes(b"")  # a conflict
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
