"""The notebook for Colab is valid, has no outputs, and runs from its first cell to its last."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebooks" / "colab.ipynb"


def code_cells() -> dict[str, dict[str, Any]]:
    """The cells with code by their ID."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return {cell["id"]: cell for cell in cells if cell["cell_type"] == "code"}


def test_notebook_has_no_outputs_and_all_cells_compile():
    cells = code_cells()
    assert "".join(cells.pop("install")["source"]) == "%pip install --quiet fathomlab"
    for name, cell in cells.items():
        assert (cell["outputs"], cell["execution_count"]) == ([], None)
        ast.parse("".join(cell["source"]), name)


def test_notebook_stores_results_on_the_mounted_drive():
    """Before the cell that trains."""
    names = list(code_cells())
    assert names.index("drive") < names.index("run")
    drive = "".join(code_cells()["drive"]["source"])
    assert 'os.environ["FATHOMLAB_RUNS"] = "/content/drive/MyDrive/fathomlab/runs"' in drive


@pytest.mark.slow
def test_notebook_runs_outside_colab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without its cell that installs, in a kernel."""
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    monkeypatch.delenv("FATHOMLAB_RUNS", raising=False)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    notebook.cells = [cell for cell in notebook.cells if cell.id != "install"]
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    outputs = {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}
    assert outputs["drive"] == outputs["download"] == []
    assert "56/56 trials" in outputs["run"][0].data["text/plain"]
    assert "supported" in outputs["verdicts"][0].data["text/plain"]
    assert [outputs[name][0].data.keys() >= {"image/png"} for name in ("accuracy", "gradients")] == [True, True]
    assert "<iframe srcdoc=" in outputs["report"][0].data["text/html"]
    assert [
        output.output_type for group in outputs.values() for output in group if output.output_type == "stream"
    ] == []
    assert list(tmp_path.glob("runs/experiments/*/report.html"))
