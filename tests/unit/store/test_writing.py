"""The writer of the store: what it writes the reader reads back, and nothing half-written looks finished."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from fathomlab.base.problems import UserError
from fathomlab.store.reading import Store
from fathomlab.store.writing import TrialFolder, finite, open_store, write_experiment

TRIAL = "ab" * 32
FACTS = {"parameters": 10, "epochs": 1, "steps": 4, "seconds": 0.5}


def written(root: Path) -> TrialFolder:
    """A trial up to its result."""
    folder = TrialFolder(root, TRIAL, {"seed": 3, "model": {"type": "MLP"}})
    folder.append("metrics.jsonl", {"epoch": 1, "train/loss": math.nan, "val/loss": 0.5})
    folder.append("metrics.jsonl", {"epoch": 2, "train/loss": math.inf, "val/loss": 0.25})
    folder.write("provenance.json", {"threads": 1})
    return folder


def test_what_is_written_is_read_back(tmp_path: Path):
    """Options, curves with null for what is not finite, the result."""
    written(tmp_path).finish("finished", None, {"test/loss": 0.125, "test/accuracy": math.nan}, FACTS)
    record = Store(tmp_path).trial(TRIAL)
    assert (record.status, record.cause) == ("finished", None)
    assert record.content == {"seed": 3, "model": {"type": "MLP"}}
    assert record.curves == {"epoch": [1, 2], "train/loss": [None, None], "val/loss": [0.5, 0.25]}
    assert record.metrics == {"test/loss": 0.125, "test/accuracy": None}
    assert (record.parameters, record.seconds) == (10, 0.5)
    assert record.provenance == {"threads": 1}


def test_a_trial_is_finished_by_its_result_alone(tmp_path: Path):
    """Until then it is running, whatever else is there."""
    folder = written(tmp_path)
    assert Store(tmp_path).trial(TRIAL).status == "running"
    folder.finish("diverged", "the loss was not finite at step 2", {}, FACTS)
    record = Store(tmp_path).trial(TRIAL)
    assert (record.status, record.cause) == ("diverged", "the loss was not finite at step 2")


def test_a_second_attempt_keeps_nothing_of_the_first(tmp_path: Path):
    """Curves of two attempts never stand in one file."""
    folder = written(tmp_path)
    folder.finish("failed", "RuntimeError: x", {}, FACTS)
    (folder.path / "checkpoint.safetensors").write_bytes(b"x")
    TrialFolder(tmp_path, TRIAL, {"seed": 3})
    assert [path.name for path in folder.path.iterdir()] == ["trial.json"]
    assert Store(tmp_path).trial(TRIAL).status == "running"


def test_the_result_is_returned_as_it_is_written(tmp_path: Path):
    """The event of a finished trial and its file say the same."""
    folder = written(tmp_path)
    result = folder.finish("finished", None, {"test/loss": 0.5}, FACTS)
    assert json.loads((folder.path / "result.json").read_text()) == result
    assert result == {
        "format": 1,
        "trial": TRIAL,
        "status": "finished",
        "cause": None,
        **FACTS,
        "metrics": {"test/loss": 0.5},
    }


def test_a_document_is_whole_or_not_there(tmp_path: Path):
    """What cannot be written leaves the old document and no litter."""
    folder = written(tmp_path)
    with pytest.raises(TypeError):
        folder.write("provenance.json", {"threads": object()})
    assert json.loads((folder.path / "provenance.json").read_text()) == {"threads": 1}
    assert sorted(path.name for path in folder.path.iterdir()) == ["metrics.jsonl", "provenance.json", "trial.json"]


def test_an_experiment_is_read_back(tmp_path: Path):
    """Under its name, with its format."""
    folder = write_experiment(tmp_path, "exp", {"title": "T", "seeds": [1, 2], "seconds": math.nan})
    record = Store(tmp_path).experiment("exp")
    assert (record.title, record.seeds, record.seconds, record.cause) == ("T", (1, 2), None, None)
    assert json.loads((folder / "experiment.json").read_text())["format"] == 1


def test_a_store_is_made_where_it_is_missing(tmp_path: Path):
    """With its two folders and no trace of the test for writing; opening it again changes nothing."""
    root = open_store(tmp_path / "a" / "b")
    assert sorted(path.name for path in root.iterdir()) == ["experiments", "trials"]
    (root / "trials" / "x").mkdir()
    assert open_store(root) == root
    assert (root / "trials" / "x").exists()


def test_a_store_that_cannot_be_is_told(tmp_path: Path):
    """A file in the way: the path, the system's reason, the remedy."""
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError) as caught:
        open_store(tmp_path / "runs")
    assert str(caught.value) == (
        f"{tmp_path / 'runs'}: results cannot be written there: Not a directory. Choose another folder with --runs."
    )


@pytest.mark.parametrize(
    ("value", "made"),
    [
        (math.nan, None),
        (-math.inf, None),
        (0.5, 0.5),
        (True, True),
        ({"a": [1.0, math.inf, ("x", math.nan)]}, {"a": [1.0, None, ["x", None]]}),
    ],
)
def test_only_finite_numbers_are_written(value: Any, made: Any):
    """JSON has no word for the others."""
    assert finite(value) == made
    assert json.loads(json.dumps(finite(value), allow_nan=False)) == made
