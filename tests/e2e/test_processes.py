"""Commands as processes: start-up, signals, full and closed streams, encodings, and the working directory."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

import fathomlab
from fathomlab.store.lock import is_locked
from fathomlab.store.reading import Store
from tests.helpers.commands import (
    EXPERIMENT,
    ROOT,
    SOURCE,
    TRIALS,
    process_group,
    run_command,
    run_python,
    start_python,
)

ONE = ("experiment.seeds=1", "model.params.residual=false")
PLAIN = ("run", "tiny.yaml", "--progress", "plain", "--workers", "1")
IMPORTS = """
import contextlib, io, sys, fathomlab
from fathomlab.cli import main
HEAVY = {"torch", "numpy", "scipy", "matplotlib", "jinja2", "pandas", "polars"}
for line in sys.stdin.read().splitlines():
    args, heavy = line.split(), set(HEAVY)
    if "--help" in args:
        heavy |= {"yaml", "fathomlab.config"}  # typer itself loads pydantic for the help of a command
    if args == ["report"]:
        heavy = {"torch"}
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            main(args)
        except SystemExit as caught:
            assert not caught.code, (line, caught.code)
    assert not heavy & set(sys.modules), (line, heavy & set(sys.modules))
fathomlab.load("tiny.yaml")
assert "torch" not in sys.modules
"""


def environment(folder: Path, **changes: str | None) -> Mapping[str, str | None]:
    """The variables of a command whose results are in this folder."""
    return {"FATHOMLAB_RUNS": str(folder / "runs"), "FATHOMLAB_OFFLINE": "1", **changes}


def test_commands_without_training_load_no_torch(trained: Path):
    """Reports load the drawing library, help loads no YAML reader."""
    trial = Store(trained / "runs").trials()[0]
    lines = ["--help", "run --help", "plan tiny.yaml", "list", f"show {trial}", "data list", "report"]
    result = run_python("-c", IMPORTS, cwd=trained, input="\n".join(lines), environment=environment(trained))
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("start", [["-m", "fathomlab", "run"], [str(ROOT / "main.py"), "--experiment"]])
def test_both_starts_report_mistakes(trained: Path, start: list[str]):
    result = run_python(*start, "tiny.yaml", "lr=1", cwd=trained)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("Planning tiny.yaml ...\ntiny.yaml: 1 problem\n  override 1  lr: ")


def start_training(folder: Path) -> "subprocess.Popen[str]":
    """A run in its own process group whose first trial is finished and whose second one takes very long."""
    args = [str(ROOT / "main.py"), "--experiment", "tiny.yaml", *ONE, "training.epochs=1,20000", "run.pack=1"]
    process = start_python(*args, "--workers", "2", "--progress", "json", cwd=folder)
    assert process.stderr is not None
    for line in process.stderr:
        if '"finished"' in line:
            break
    return process


def statuses(runs: Path) -> dict[int, str]:
    """Status of each trial by its number of epochs."""
    return {record.config["training"]["epochs"]: record.status for record in fathomlab.open_store(runs)}


def test_interrupted_run_keeps_finished_trials(workspace: Path):
    """SIGINT to the whole group, as Ctrl-C in a terminal: status 130."""
    process = start_training(workspace)
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "same command" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert statuses(workspace / "runs") == {1: "finished", 20000: "interrupted"}


@pytest.mark.skipif(sys.platform != "linux", reason="reads the process table of Linux")
def test_workers_of_a_killed_run_end(workspace: Path):
    """SIGKILL to the coordinator only: no worker remains, and none records a failure."""
    process = start_training(workspace)
    process.kill()
    process.communicate(timeout=60)
    end = time.monotonic() + 30
    # A process whose main thread has ended may have other threads that end a little later, with the lock.
    while (process_group(process.pid) or is_locked(workspace / "runs")) and time.monotonic() < end:
        time.sleep(0.05)
    assert process_group(process.pid) == []
    by_epochs = statuses(workspace / "runs")
    assert by_epochs.pop(1) == "finished"
    assert set(by_epochs.values()) <= {"interrupted"}


@pytest.mark.parametrize(
    "encoding", ["ascii", "utf-16", *(pytest.param(e, marks=pytest.mark.slow) for e in ("cp437",))]
)
def test_output_fits_any_encoding(trained: Path, encoding: str):
    """Verdicts contain a minus sign that these encodings lack; the exit status is that of the verdict."""
    variables = environment(trained, PYTHONIOENCODING=encoding)
    result = run_command("verify", "tiny.yaml", cwd=trained, environment=variables, text=False)
    assert result.returncode == 1, result.stderr
    assert b"Traceback" not in result.stderr
    assert "Shortcuts help" in result.stdout.decode(encoding)


FULL = [
    ["list", "--json"],
    *(pytest.param(args, marks=pytest.mark.slow) for args in (["report"], ["--help"], ["list"])),
]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("args", FULL, ids=" ".join)
def test_full_stdout_is_status_3(trained: Path, args: list[str]):
    """With one line on stderr."""
    with open("/dev/full", "wb") as full:
        result = run_command(*args, cwd=trained, stdout=full, environment=environment(trained))
    assert result.returncode == 3, result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr


@pytest.mark.slow  # `test_run_continues_without_a_reader` is similar
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_run_finishes_on_full_streams(workspace: Path, stream: str):
    """Only the text is lost: every trial is finished, the log has the progress, and there is a report."""
    with open("/dev/full", "wb") as full:
        result = run_command(*PLAIN, "--json", cwd=workspace, **{stream: full})
    assert result.returncode == (3 if stream == "stdout" else 0)
    assert [record.status for record in fathomlab.open_store(workspace / "runs")] == ["finished"] * TRIALS
    (log,) = (workspace / "runs").glob("experiments/*/log.txt")
    assert log.read_text().count("test accuracy") == TRIALS
    assert list((workspace / "runs").glob("experiments/*/report.html"))
    assert stream == "stdout" or json.loads(result.stdout)["trained"] == TRIALS


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize(("line", "status"), [("exec 1>&-; {}", 3), ("{} | head -0", 0)], ids=["closed", "head"])
def test_closed_stdout_ends_a_command(trained: Path, line: str, status: int):
    """A closed stream is an error, a reader that has ended is none."""
    command = shlex.join([sys.executable, "-P", "-m", "fathomlab", "list", "--json"])
    variables = os.environ | {"PYTHONPATH": SOURCE} | {"FATHOMLAB_RUNS": str(trained / "runs")}
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line.format(command)],
        cwd=trained,
        env=variables,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == status, result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_run_continues_without_a_reader(workspace: Path):
    """`fathomlab run ... 2>&1 | head -1`."""
    command = shlex.join([sys.executable, "-P", "-m", "fathomlab", *PLAIN])
    variables = os.environ | {"PYTHONPATH": SOURCE}
    line = ["sh", "-c", f"{command} 2>&1 | head -1"]
    result = subprocess.run(
        line, cwd=workspace, env=variables, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.stdout.count("\n") == 1
    assert [record.status for record in fathomlab.open_store(workspace / "runs")] == ["finished"] * TRIALS


def test_record_does_not_depend_on_locale_or_file_name(store: Path, workspace: Path):
    """A file name outside ASCII in the C locale, then the renamed file: the same experiment."""
    c_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    (workspace / "tiny.yaml").rename(workspace / "größe.yaml")
    args = ("--progress", "off", "--json")
    first = run_command("run", "größe.yaml", *args, cwd=workspace)
    second = run_command("run", "größe.yaml", *args, cwd=workspace, environment=c_locale)
    assert [json.loads(result.stdout)["cached"] for result in (first, second)] == [TRIALS] * 2
    assert len(list((store / "experiments").iterdir())) == 1
    assert all(path.name.isascii() for path in (store / "experiments").iterdir())


@pytest.mark.slow
def test_run_survives_a_deleted_working_directory(tmp_path: Path):
    """Another program removes the directory in which the command was started."""
    (tmp_path / "away").mkdir()
    (tmp_path / "tiny.yaml").write_text(EXPERIMENT)
    code = f"""
import os, shutil, fathomlab
plan = fathomlab.load("../tiny.yaml", ["run.pack=2"])
shutil.rmtree(os.getcwd())
print(fathomlab.run(plan, runs={str(tmp_path / "runs")!r}, workers=2, progress="off").summary.trained)
"""
    result = run_python("-c", code, cwd=tmp_path / "away")
    assert result.stdout.strip() == str(TRIALS), result.stderr


def test_plan_works_in_a_deleted_working_directory(tmp_path: Path):
    """The free space is that of the file system."""
    code = """
import os, shutil, sys
from fathomlab.cli import main
shutil.rmtree(os.getcwd())
main(["plan", "1_2", "--quick"])
"""
    (tmp_path / "away").mkdir()
    result = run_python("-c", code, cwd=tmp_path / "away")
    assert (result.returncode, result.stderr) == (0, "")
    assert " free)" in result.stdout


@pytest.mark.parametrize(
    "error", ["ModuleNotFoundError(\"No module named 'torch'\", name='torch')", "OSError('libc10.so')"]
)
def test_broken_pytorch_is_a_message(tmp_path: Path, error: str):
    """Missing, or raising anything while it is imported; not an error in code that only uses it."""
    package = tmp_path / "torch"
    package.mkdir()
    (package / "__init__.py").write_text(f"raise {error}\n")
    paths = {"PYTHONPATH": os.pathsep.join([str(tmp_path), SOURCE])}
    code = "import sys; from fathomlab.cli.guard import guarded; sys.exit(guarded(lambda: __import__('torch'), True))"
    result = run_python("-c", code, cwd=tmp_path, environment=paths)
    assert (result.returncode, json.loads(result.stdout)["problems"][0]["code"]) == (2, "no-pytorch")
    assert result.stderr.count("\n") == 1
    (package / "__init__.py").write_text(f"def use():\n    raise {error.replace('torch', 'other')}\n")
    result = run_python(
        "-c", code.replace("__import__('torch')", "__import__('torch').use()"), cwd=tmp_path, environment=paths
    )
    assert "Traceback" in result.stderr


def test_json_contains_no_output_of_plugins():
    """What child processes and libraries write to descriptor 1 goes to standard error, also before the next command."""
    command = "guarded(lambda: (os.system('echo noise'), print('{}')), True)"
    code = f"import os; from fathomlab.cli.guard import guarded; {command}; os.write(1, b'end')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (result.stdout, result.stderr) == (b"{}\nend", b"noise\n")
