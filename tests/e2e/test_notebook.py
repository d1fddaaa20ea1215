"""A notebook as a user writes it, executed by a kernel: outputs are short, without noise, and errors are one message."""

from pathlib import Path
from typing import Any

import pytest

from fathomlab.base.inline import MAX_CHARS, MAX_LINES

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")

EXPERIMENT = """
experiment = {
    "data": {"name": "mnist-sample", "limit": 200, "batch_size": 50},
    "model": {"type": "MLP", "params": {"layers_dim": 8, "hidden_layers_num": 3}},
    "training": {"epochs": 2, "lr": 0.01},
    "experiment": {"factors": {"model.params.residual": [False, True]}, "seeds": 2, "analyze_gradients": True},
    "claims": [{"name": "Shortcuts help", "factor": "residual", "levels": [True, False], "expect": "greater"}],
    "quick": {"training": {"epochs": 1}},
}
"""
Cells = list[list[Any]]


def execute(folder: Path, *cells: str) -> Cells:
    """The outputs of each cell; fathomlab is imported before."""
    texts = (f"import fathomlab\n{EXPERIMENT}", *cells)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in texts])
    resources = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources=resources, allow_errors=True
    ).execute()
    assert notebook.cells[0].outputs == []
    return [cell.outputs for cell in notebook.cells[1:]]


def plain(outputs: list[Any]) -> str:
    """The text of the one output of a cell."""
    (output,) = outputs
    assert output.output_type in ("execute_result", "display_data"), output
    return str(output.data["text/plain"])


def test_notebook_from_run_to_figures(tmp_path: Path):
    run, echo, chosen, verdicts, curves, trial, model, gradients, cached, *errors = execute(
        tmp_path,
        "results = fathomlab.run(experiment, quick=True, workers=1)",
        "results",
        "results.filter(residual=True)",
        "results.verdicts",
        'results.plot("curves")',
        "trial = results[0]; trial",
        "images, labels = trial.test_data()\n"
        "model = trial.load_model()\n"
        '(model(images).argmax(1) == labels).double().mean().item() == trial.metrics["test/accuracy"]',
        'len(trial.gradients["norm"])',
        "results = fathomlab.run(experiment, quick=True, workers=2)",
        'fathomlab.load({**experiment, "trainingg": {}})',
        "results.filter(residul=True)",
        'results.plot("curve")',
        'results[0].metrics["accuracy"]',
    )
    assert "4/4 trials trained" in plain(run)
    assert "<div>" in run[0].data["text/html"]
    assert "residual=true" in plain(echo)
    assert "residual=false" not in plain(chosen)
    assert "Shortcuts help" in plain(verdicts)
    assert "image/png" in curves[0].data
    assert curves[0].metadata["image/png"]["width"] > 300
    assert plain(trial).startswith("<trial ")
    assert plain(model) == "True"
    assert int(plain(gradients)) > 8
    assert "4 cached" in plain(cached)
    for outputs in (run, echo, chosen, verdicts, curves, trial, model, gradients, cached):
        (output,) = outputs
        for kind, text in output.data.items():
            assert kind == "image/png" or (len(text) <= MAX_CHARS and text.count("\n") < MAX_LINES), kind
    _check_errors(errors)


def _check_errors(errors: Cells) -> None:
    """A typo in the experiment, in a filter, or in a kind of plot is one message; other errors keep their traceback."""
    tracebacks = [error.traceback for (error,) in errors]
    for traceback, hint in zip(tracebacks, ("'training'", "'residual'", "'curves'"), strict=False):
        (message,) = traceback
        assert hint in message
        assert message.count("\n") < 4
    assert len(tracebacks[3]) > 1


INTERRUPTED = """
import os, pathlib, signal, time

def interrupt():
    while len(list(pathlib.Path("runs").glob("trials/*/result.json"))) < 9:
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
fathomlab.run(experiment, "training.epochs=100", "model.params.layers_dim=9,10,11,12", "model.params.residual=true", workers=1)
"""


@pytest.mark.slow
def test_runs_in_a_loop_in_a_thread_and_interrupted(tmp_path: Path):
    """An interrupt leaves finished trials and the kernel's handler, and raises KeyboardInterrupt."""
    _, figure, _, length, interrupted, statuses, handler = execute(
        tmp_path,
        "async def run():\n    return fathomlab.run(experiment, workers=1)\nresults = await run()",
        "results.plot('accuracy')",
        "import threading\n"
        "results = []\n"
        "run = lambda: results.append(fathomlab.run(experiment, 'training.epochs=1', workers=1))\n"
        "thread = threading.Thread(target=run)\n"
        "thread.start()\n"
        "thread.join()",
        "len(results[0])",
        INTERRUPTED,
        "statuses = [trial.status for trial in fathomlab.open_store().trials()]\n9 <= statuses.count('finished') < 16",
        "signal.getsignal(signal.SIGINT).__name__",
    )
    assert "image/png" in figure[0].data
    assert plain(length) == "4"
    assert (interrupted[-1].output_type, interrupted[-1].ename) == ("error", "RunInterrupted")
    (message,) = interrupted[-1].traceback
    assert message.startswith("KeyboardInterrupt: ")
    assert plain(statuses) == "True"
    assert plain(handler) == "'default_int_handler'"
