"""Targets and placebos from the command line: a factor with null, its report and audit, and a stop while a table is computed."""

import json
import signal
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import fathomlab
from fathomlab.execute.pack.tables import LoadedTeacher
from fathomlab.store.checksums import read_checked
from fathomlab.store.tables import PATTERN
from tests.helpers.commands import Command

EXPERIMENT = """
    data: {name: mnist-sample, limit: 120, batch_size: 30, augment: [flip, crop]}
    teacher_model: {type: MLP, params: {layers_dim: 8}}
    student_model: {type: MLP, params: {layers_dim: 4}}
    training_teacher: {epochs: 1}
    training_student: {epochs: 1}
    distillation: {alpha: 0.9, targets: consistent}
    experiment:
      factors: {distillation.placebo: [null, shuffled, class_mean]}
      seeds: 2
    claims:
      - {name: Images matter, factor: placebo, levels: [null, shuffled], expect: greater, matters: 0.01}
"""
RUN = ("run", "exp.yaml", "--workers", "1", "--progress", "off", "--json")


@pytest.fixture(autouse=True)
def _experiment(workspace: Path) -> None:
    Path("exp.yaml").write_text(dedent(EXPERIMENT))


def test_placebos_are_reported_and_audited(command: Command) -> None:
    """The contrast of a placebo differs in the placebo only; each has its trials; the page names them."""
    status, out, _ = command(*RUN)
    result = json.loads(out)
    assert (status, result["failed"], result["trained"]) == (0, 0, 10)
    (page,) = Path("runs/experiments").glob("*/report.html")
    text = page.read_text()
    assert "placebos for the teacher" in text
    assert "Images matter" in text
    assert ' s-unexpected"' not in text
    status, out, _ = command("plan", "exp.yaml", "--json")
    planned = json.loads(out)
    assert planned["cached"] == 10
    assert any("class_mean" in notice for notice in planned["notices"])
    assert command("store", "check")[0] == 0


@pytest.mark.usefixtures("no_charts")
def test_stop_in_a_table_resumes_with_equal_numbers(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first signal ends the computation of the table; the same command completes it, and trains what is missing."""
    assert command(*RUN)[0] == 0
    metrics = {
        path.parent.name: json.loads(path.read_text())["metrics"] for path in Path("runs").glob("trials/*/result.json")
    }
    assert len(metrics) == 10
    calls: list[int] = []
    original = LoadedTeacher.__call__

    def interrupting(self: LoadedTeacher, images: Any) -> Any:
        calls.append(1)
        if len(calls) == 40:
            signal.raise_signal(signal.SIGTERM)
        return original(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(LoadedTeacher, "__call__", interrupting)
        with pytest.raises(BaseException) as caught:  # noqa: PT011
            fathomlab.run("exp.yaml", runs="other", workers=1, progress="off")
    assert getattr(caught.value, "signum", None) == signal.SIGTERM
    (table,) = (path for path in Path("other").glob(f"trials/*/{PATTERN}") if path.stat().st_size > 20_000)
    assert read_checked(table)[0]["seconds"] > 0
    results = fathomlab.run("exp.yaml", runs="other", workers=1, progress="off")
    assert {
        trial.hash: json.loads((Path("other/trials") / trial.hash / "result.json").read_text())["metrics"]
        for trial in results
    } == metrics
