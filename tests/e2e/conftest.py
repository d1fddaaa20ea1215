"""Session stores, copies of them to work on, and commands in this process."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import fathomlab
from fathomlab.api import write_combined_report
from tests.helpers.commands import EXPERIMENT, Command, command_in_process
from tests.helpers.shared import build_once, write_pages


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in this process."""
    return command_in_process(capsys)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `tiny.yaml` and its finished results in `runs`; do not change it."""

    def train(folder: Path) -> None:
        (folder / "tiny.yaml").write_text(EXPERIMENT)
        fathomlab.run(folder / "tiny.yaml", runs=folder / "runs", workers=1, progress="off")

    return build_once(tmp_path_factory, "trained", train)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with `tiny.yaml` and no results. Nothing may appear next to it but `outside`."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(EXPERIMENT)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FATHOMLAB_RUNS", str(folder / "runs"))
    monkeypatch.setenv("FATHOMLAB_DATA", str(folder / "data"))
    monkeypatch.setenv("FATHOMLAB_OFFLINE", "1")
    yield folder
    assert {path.name for path in tmp_path.iterdir()} <= {"work", "outside"}


@pytest.fixture
def store(trained: Path, workspace: Path) -> Path:
    """The results directory in the workspace: a copy of the trained one."""
    return Path(shutil.copytree(trained / "runs", workspace / "runs"))


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The reports of four synthetic experiments, the index, and a page with two of the experiments, by name."""
    root = build_once(tmp_path_factory, "pages", write_pages)
    reports = {path.parent.name: path for path in root.glob("experiments/*/report.html")}

    def combine(folder: Path) -> None:
        write_combined_report(root, ["1_3", "2_2"], folder / "hand-in.html", ["A. Student"], "Networks")

    combined = build_once(tmp_path_factory, "combined", combine) / "hand-in.html"
    return {**reports, "index": root / "index.html", "hand-in": combined}
