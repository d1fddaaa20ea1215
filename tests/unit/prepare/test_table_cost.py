"""Disk space, memory, and operations of tables of teachers' outputs."""

from typing import Any

import pytest

import fathomlab
from fathomlab.base.errors import UserError
from fathomlab.prepare import cost, machine

MODEL = {"type": "MLP", "params": {"input_size": 3072}}
CONF: dict[str, Any] = {
    "data": {"name": "cifar10", "augment": ["flip", "crop"]},
    "teacher_model": MODEL,
    "student_model": MODEL,
    "training_teacher": {"epochs": 1},
    "training_student": {"epochs": 1},
    "distillation": {"targets": "consistent"},
    "experiment": {"seeds": 1, "factors": {"distillation.alpha": [0.1, 0.5, 0.9]}},
}


def test_students_of_a_teacher_need_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """50,000 images x 162 views x 10 classes x 2 bytes, once."""
    students = [trial for trial in fathomlab.load(CONF).trials if trial.teachers]
    size, macs = 162_000_000, students[0].recipe.teachers[0].macs
    assert len(students) == 3
    assert cost.tables(students) == cost.ViewTables(2.0 * macs * 50_000 * 162, size)
    plain = [trial for trial in fathomlab.load(CONF, ["distillation.targets=clean"]).trials if trial.teachers]
    assert cost.tables(plain).bytes == 0
    assert cost.disk_bytes([students], 1) - cost.disk_bytes([plain], 1) == size
    shared = cost.estimate(students, None, 1).flops - sum(map(cost.flops, students))
    assert shared == pytest.approx(2.0 * macs * 50_000 * 162)
    cost.check_memory(students)
    monkeypatch.setattr(machine, "memory", lambda: 4 * size - 1)
    with pytest.raises(UserError) as caught:
        cost.check_memory(students)
    assert caught.value.code == "too-large"
    cost.check_memory(plain)
