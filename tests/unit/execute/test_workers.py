"""Worker processes: the same numbers as in one process, and students after teachers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from fathomlab.execute.events import Finished, Started


def test_two_workers_give_the_numbers_of_one(laboratory: Any, distillation: dict[str, Any], tmp_path: Path):
    """Each metric of each trial to the last bit; every student after its teacher."""
    overrides = ("seed=0..1", "run.pack=1", "experiment.analyze_gradients=true")
    summary = laboratory.run(distillation, *overrides, workers=2)
    assert (summary.trials, summary.trained, summary.failed) == (6, 6, 0)
    assert laboratory.events[0].workers == 2
    started = [event.trials[0] for event in laboratory.events if isinstance(event, Started)]
    ended = [event.trial for event in laboratory.events if isinstance(event, Finished)]
    assert sorted(started) == sorted(ended) == sorted(trial.hash for trial in laboratory.plan.trials)
    order = [
        event.trials[0] if isinstance(event, Started) else f"end of {event.trial}"
        for event in laboratory.events
        if isinstance(event, Started | Finished)
    ]
    for trial in laboratory.plan.trials:
        if trial.teachers:
            assert order.index(f"end of {trial.teachers[0].hash}") < order.index(trial.hash)
    alone = type(laboratory)(tmp_path / "alone")
    alone.run(distillation, *overrides, workers=1)
    assert alone.results() == laboratory.results()
    folder = laboratory.root / "trials" / ended[0]
    assert json.loads((folder / "provenance.json").read_text())["threads"] == 1


def test_code_that_reads_standard_input_takes_no_job():
    check = "os.path.samestat(os.fstat(0), os.stat(os.devnull)), requests.jobs.get()"
    code = f"import os; from fathomlab.execute.worker import Requests; requests = Requests(); print({check})"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, input='{"a": 1}\n', capture_output=True, text=True, check=True)
    assert result.stdout == "True b'{\"a\": 1}\\n'\n"
