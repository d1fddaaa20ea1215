"""Networks that build on each other: a changed, a corrupted, and a missing parent, from the command line."""

import json
import os
import shutil
from pathlib import Path
from textwrap import dedent

import pytest

from fathomlab.prepare.drift import KERNEL_VARIABLES
from tests.helpers.commands import Command

EXPERIMENT = """
    data: {name: mnist-sample, limit: 200, batch_size: 50}
    roles:
      teacher: {model: {type: MLP, params: {layers_dim: 8}}, training: {epochs: 1}}
      middle: {model: {type: MLP, params: {layers_dim: 4}}, training: {epochs: 1}, parents: {teacher: teacher}}
      last: {model: {type: MLP, params: {layers_dim: 4}}, training: {epochs: 1}, parents: {start: middle}}
"""
RUN = ("run", "exp.yaml", "--workers", "1", "--progress", "off", "--json")


@pytest.fixture(autouse=True)
def _experiment(workspace: Path) -> None:
    Path("exp.yaml").write_text(dedent(EXPERIMENT))


def hashes(command: Command, *overrides: str) -> dict[str, str]:
    """The trial of each role."""
    planned = json.loads(command("plan", "exp.yaml", *overrides, "--json")[1])
    return {trial["role"]: trial["trial"] for trial in planned["trial_list"]}


@pytest.mark.usefixtures("no_charts")
def test_corrupted_parent_is_trained_again_after_repair(command: Command):
    """A student of a corrupted teacher fails, and names the remedy; nothing else is trained again."""
    assert command(*RUN)[0] == 0
    trials = hashes(command)
    weights = Path("runs/trials", trials["teacher"], "checkpoint.safetensors")
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    shutil.rmtree(Path("runs/trials", trials["middle"]))
    status, out, _ = command(*RUN)
    assert (status, json.loads(out)["failed"]) == (1, 1)
    assert "fathomlab store repair" in json.loads(command("show", trials["middle"], "--json")[1])["cause"]
    assert "damaged" in command("store", "repair")[1]
    status, out, _ = command(*RUN)
    assert (status, json.loads(out)["trained"]) == (0, 2)
    assert weights.read_bytes() == content


@pytest.mark.usefixtures("no_charts")
def test_repair_renames_corrupted_logits_of_a_teacher(command: Command):
    """They are a cache, so the trial stays."""
    assert command(*RUN)[0] == 0
    (logits,) = Path("runs/trials", hashes(command)["teacher"]).glob("logits-*.sealed")
    logits.write_bytes(logits.read_bytes()[:-1])
    assert command("store", "check")[0] == 1
    assert f"{logits.name}.corrupt" in command("store", "repair")[1]
    assert command("store", "check")[0] == 0
    assert json.loads(command("plan", "exp.yaml", "--json")[1])["cached"] == 3


@pytest.mark.usefixtures("no_charts")
def test_missing_parent_is_trained_again(command: Command):
    assert command(*RUN)[0] == 0
    shutil.rmtree(Path("runs/trials", hashes(command)["middle"]))
    assert json.loads(command("plan", "exp.yaml", "--json")[1])["cached"] == 2
    status, out, _ = command(*RUN)
    assert (status, json.loads(out)["trained"]) == (0, 1)


@pytest.mark.usefixtures("no_charts")
def test_plan_explains_a_trial_by_the_options_of_its_parents(command: Command):
    assert command(*RUN)[0] == 0
    override = "roles.teacher.training.lr=0.01"
    for role, key in (("middle", "teacher.training.lr"), ("last", "start.teacher.training.lr")):
        trial = hashes(command, override)[role]
        why = json.loads(command("plan", "exp.yaml", override, "--why", trial, "--json")[1])
        assert why["fields"] == [{"key": key, "stored": 0.001, "planned": 0.01}]


def test_report_describes_roles_and_their_teachers(command: Command):
    """The section of students, whose gains are unknown without a network of equal options, and the methods."""
    page = Path(json.loads(command(*RUN)[1])["report"]).read_text(encoding="utf-8")
    assert 'id="distillation"' in page
    assert "so its gain is unknown" in page
    assert "middle learned from teacher." in page
    assert "last from those of middle." in page


@pytest.mark.usefixtures("no_charts")
def test_show_prints_values_as_files_spell_them(command: Command, monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in os.environ if name.startswith(KERNEL_VARIABLES)]:
        monkeypatch.delenv(name)
    assert command(*RUN, "roles.teacher.seed_offset=5")[0] == 0
    trials = hashes(command, "roles.teacher.seed_offset=5")
    rows = dict(line.split(maxsplit=1) for line in command("show", trials["middle"])[1].splitlines() if "." in line)
    assert rows["parents.teacher"] == f'["{trials["teacher"]}"]'
    assert (rows["model.params.residual"], rows["training.gradient_clip"]) == ("false", "null")
    assert rows["environment.variables"] == '""'
    (record,) = Path("runs/experiments").glob("*/experiment.json")
    assert json.loads(record.read_text())["resolved"]["teacher"]["seed_offset"] == 5
