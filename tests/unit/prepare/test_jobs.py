"""Jobs as JSON: a worker trains exactly the trials that the plan has."""

import json
import os
from pathlib import Path

import pytest

import fathomlab
from fathomlab.base.codec import from_json, to_plain
from fathomlab.config.schema import LoggingOptions
from fathomlab.prepare.jobs import Job

STUDENTS = {
    "data": {"name": "mnist-sample", "augment": ["crop"]},
    "teacher_model": {"type": "MLP", "params": {"layers_dim": 8}},
    "student_model": {"type": "MLP", "params": {"layers_dim": 4, "dropout": 0.1}},
    "training_teacher": {"epochs": 1},
    "training_student": {"epochs": 2, "lr": 1e-20, "scheduler": "CosineAnnealingLR"},
    "distillation": {"alpha": 0.3, "temperature": 3.0},
    "experiment": {"seeds": 2, "probes": {"gradients": {"at": [1, "epochs"]}}},
}


@pytest.mark.parametrize("name", ["plain", "caf\u00e9 \u2603", "not text \udce9"])
def test_jobs_round_trip(name: str):
    """With the components of their trials, their teachers, and a directory whose name is any bytes."""
    trials = fathomlab.load(STUDENTS).trials
    job = Job(trials, Path("/x") / name, "cuda", LoggingOptions("LAB1", True), 0.5)
    text = json.dumps(to_plain(job))
    assert text.isascii()
    read = from_json(Job, text)
    assert read == job
    assert os.fsencode(read.root) == os.fsencode(job.root)
    for trial, expected in zip(read.trials, trials, strict=True):
        assert trial.hash == expected.hash
        assert trial.recipe == expected.recipe
        assert trial.probes == expected.probes
        assert trial.parents == expected.parents


def test_job_with_changed_content_is_rejected():
    """A worker of another version must not train something else under the trial's name."""
    plain = to_plain(Job(fathomlab.load(STUDENTS).trials[:1], Path("/x")))
    plain["trials"][0]["content"]["training"]["epochs"] = "2"
    with pytest.raises(ValueError, match="trials"):
        from_json(Job, json.dumps(plain))
