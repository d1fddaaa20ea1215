"""Without a working native backend, a run trains with the reference and says so in one line."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fathomlab.engine.backends import FALLBACK
from fathomlab.store.reading import Store
from tests.helpers.commands import run_command, run_python
from tests.helpers.compilers import needs_compiler

RUN = ("run", "tiny.yaml", "run.pack=1", "--workers", "2", "--progress", "plain", "--json")
BROKEN = "#!/bin/sh\ncase $* in *-shared*) echo 'native.cpp:1: error: no header' >&2; exit 1;; esac\n"
WRONG = """
import sys
sys.path.append(sys.argv[1])
from fathomlab.engine import native_check
native_check.TOLERANCE = {"fp32": -1.0, "fp64": -1.0}
from fathomlab.execute.worker import main
main()
"""
SELF_TEST = f"""
import sys
from fathomlab.execute.executors import local
local.START = {WRONG!r}
from fathomlab.execute import worker_process
worker_process.START = {WRONG!r}
from fathomlab.cli import main
main()
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no native backend on Windows")


def variables(folder: Path, kind: str) -> dict[str, str]:
    """The environment without a compiler, or with one that fails."""
    folder = folder / "outside"
    compiler = folder / "broken"
    folder.mkdir()
    compiler.write_text(BROKEN)
    compiler.chmod(0o755)
    cache = {"XDG_CACHE_HOME": str(folder / "cache")}
    if kind == "broken":
        return {**cache, "CXX": str(compiler)}
    return {**cache, "CXX": "", "PATH": str(folder)}


def assert_one_line(workspace: Path, result: Any, words: str) -> None:
    """On standard error, in the document, and in the log; every trial was trained with the reference."""
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["trained"] == 4
    (notice,) = [text for text in document["notices"] if FALLBACK in text]
    assert words in notice
    assert [notice in line for line in result.stderr.splitlines()].count(True) == 1
    folder = workspace / "runs" / "experiments" / document["experiment"]
    assert [notice in line for line in (folder / "log.txt").read_text().splitlines()].count(True) == 1
    store = Store(workspace / "runs")
    backends = [store.trial(trial).provenance.backend for trial in store.trials()]
    assert [build.name for build in backends if build is not None] == ["reference"] * 4


@pytest.mark.parametrize(("kind", "words"), [("missing", "no C++ compiler"), ("broken", "no header")])
def test_failing_compiler_is_one_line(workspace: Path, tmp_path: Path, kind: str, words: str):
    """Of a run with two workers and four packs."""
    result = run_command(*RUN, cwd=workspace, environment=variables(tmp_path, kind))
    assert_one_line(workspace, result, words)


@pytest.mark.slow
@needs_compiler
def test_failing_self_test_is_one_line(workspace: Path):
    result = run_python("-c", SELF_TEST, *RUN, cwd=workspace, environment={})
    assert_one_line(workspace, result, "differ from the reference")


def test_plan_says_that_no_compiler_is_installed(workspace: Path, tmp_path: Path):
    """Only for networks that the native backend would train, and only if they are to be trained."""
    environment = variables(tmp_path, "missing")
    for overrides, count in (((), 1), (("model.params.dropout=0.1",), 0), (("run.backend=reference",), 0)):
        result = run_command("plan", "tiny.yaml", *overrides, "--json", cwd=workspace, environment=environment)
        notices = [text for text in json.loads(result.stdout)["notices"] if FALLBACK in text]
        assert len(notices) == count
    text = run_command("plan", "tiny.yaml", cwd=workspace, environment=environment).stdout
    (line,) = [line for line in text.splitlines() if FALLBACK in line]
    assert line.startswith("note: ")
