"""What a shell completes, in a process of its own as the shell starts it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fathomlab.cli import complete
from fathomlab.export import EXPORTERS
from fathomlab.store.records import STATUSES

FIRST, SECOND = "ab" * 32, "ac" * 32
START = """import sys
from fathomlab.cli import main
try:
    main()
finally:
    print([name for name in ("torch", "yaml", "fathomlab.config") if name in sys.modules], file=sys.stderr)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with experiment files and results."""
    for name in ("configs", "runs/experiments/config_exp1_2-0a1b2c3d", "runs/experiments/mine-0a1b2c3d"):
        (tmp_path / name).mkdir(parents=True)
    for trial in (FIRST, SECOND, "..x"):
        (tmp_path / "runs" / "trials" / trial).mkdir(parents=True)
    for name in ("deep.yaml", "deep.txt", "configs/inner.yaml"):
        (tmp_path / name).write_text("")
    return tmp_path


CASES = {
    "fathomlab r": ["run", "report"],
    "fathomlab store p": ["prune"],
    "fathomlab run dep": ["depth_init", "depth_transfer"],
    "fathomlab run dee": ["deep.yaml"],
    "fathomlab plan configs/": ["configs/inner.yaml"],
    "fathomlab verify 1_": ["1_1", "1_2", "1_3"],
    "fathomlab report m": ["mine-0a1b2c3d"],
    "fathomlab list 1": ["1_2"],
    "fathomlab show ab": ["ab" * 6],
    "fathomlab show --runs nothing a": [],
    "fathomlab new mo": ["model"],
    "fathomlab export c": ["csv"],
    "fathomlab export csv min": ["mine-0a1b2c3d"],
    "fathomlab list --status fa": ["failed"],
}


@pytest.mark.parametrize("line", ["fathomlab r", "fathomlab show ab", "fathomlab run dep"])
def test_shells_complete_commands_and_values(folder: Path, line: str):
    """By the protocol of bash, without torch or the experiment files' reader."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1), "_FATHOMLAB_COMPLETE": "complete_bash"}
    source = str(Path(complete.__file__).parents[2])
    environment = {**os.environ, **words, "PYTHONPATH": source, "FATHOMLAB_RUNS": ""}
    command = [sys.executable, "-c", START.replace("import sys", "import sys; sys.argv[0] = 'fathomlab'", 1)]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr.strip()) == (CASES[line], "[]")


@pytest.mark.parametrize("line", CASES)
def test_values_are_completed(
    folder: Path, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    from fathomlab.cli import app

    monkeypatch.chdir(folder)
    for name, value in {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1), "FATHOMLAB_RUNS": ""}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("_FATHOMLAB_COMPLETE", "complete_bash")
    with pytest.raises(SystemExit) as caught:
        app([], "fathomlab")
    assert (caught.value.code, capsys.readouterr().out.split()) == (0, CASES[line])


def test_completed_names_are_those_of_the_tables():
    assert tuple(EXPORTERS) == complete.EXPORTERS
    assert STATUSES == complete.STATUSES
