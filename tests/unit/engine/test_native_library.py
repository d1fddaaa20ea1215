"""The library of the native backend is built once per machine, by one process at a time, and never loaded in part."""

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from fathomlab.base.errors import UserError
from fathomlab.engine import native_check
from fathomlab.engine.backends import native_library
from tests.helpers.compilers import needs_compiler

COMPILER = native_library.find_compiler()
TINY = 'extern "C" int seven() { return 7; }\n'
BUILD = "import sys; from pathlib import Path; from fathomlab.engine.backends.native_library import build_library; "
BUILD += "print(build_library('float', Path(sys.argv[1])))"
# Appends a line to a log for each library, and waits until the file `wait` is removed.
WRAPPER = """#!/bin/sh
case "$*" in *-DREAL=*)
  echo $$ >> {folder}/builds
  while [ -e {folder}/wait ]; do sleep 0.02; done;;
esac
exec {compiler} "$@"
"""
CACHED = (
    native_library.load_library,
    native_library.find_compiler,
    native_library.describe_build,
    native_library._target,
    native_library.outcome_of,
)


class Workshop:
    """A cache of the user, a compiler that can be stopped, and a tiny source."""

    def __init__(self, folder: Path):
        """In an empty folder."""
        self.folder, self.source = folder, folder / "tiny.cpp"
        self.source.write_text(TINY)
        self.cache = folder / "cache" / "fathomlab" / "native"
        self.compiler = folder / "compiler"
        self.compiler.write_text(WRAPPER.format(folder=shlex.quote(str(folder)), compiler=COMPILER))
        self.compiler.chmod(0o755)

    def start(self) -> "subprocess.Popen[str]":
        """A process that builds the library and prints its path."""
        environment = os.environ | {"CXX": str(self.compiler), "XDG_CACHE_HOME": str(self.folder / "cache")}
        command = [sys.executable, "-c", BUILD, str(self.source)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)

    def builds(self) -> list[int]:
        """The process of each call of the compiler."""
        log = self.folder / "builds"
        return [int(line) for line in log.read_text().split()] if log.exists() else []

    def wait_for_builds(self, count: int) -> int:
        """Wait until the compiler has been called this often; returns the process of the last call."""
        until = time.monotonic() + 60
        while len(self.builds()) < count and time.monotonic() < until:
            time.sleep(0.01)
        assert len(self.builds()) == count
        return self.builds()[-1]


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """An empty cache."""
    return Workshop(tmp_path)


@pytest.fixture
def here(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workshop]:
    """The same cache and compiler for this process, which remembers nothing."""
    monkeypatch.setattr(native_library, "user_cache_path", lambda name: workshop.folder / "cache" / name)
    monkeypatch.setenv("CXX", str(workshop.compiler))
    for function in CACHED:
        function.cache_clear()
    yield workshop
    for function in CACHED:
        function.cache_clear()


def seven(path: Path) -> int:
    """What the library computes."""
    return ctypes.CDLL(str(path)).seven()


@needs_compiler
@pytest.mark.parametrize("whole_group", [True, False])
def test_build_after_a_kill_leaves_nothing(workshop: Workshop, whole_group: bool):
    """The process is killed while the compiler runs, with it or without it, three times. An orphan ends before the next build."""
    for number in range(1, 4):
        (workshop.folder / "wait").touch()
        killed = workshop.start()
        compiler = workshop.wait_for_builds(number)
        assert len(list(workshop.cache.glob("*.part"))) == 1
        os.killpg(killed.pid, signal.SIGKILL) if whole_group else killed.kill()
        killed.communicate()
        (workshop.folder / "wait").unlink()
        wait_for_end(compiler)
        assert not list(workshop.cache.glob("*.so"))
    process = workshop.start()
    path = Path(process.communicate(timeout=60)[0].strip())
    assert seven(path) == 7
    assert sorted(file.name for file in workshop.cache.iterdir()) == [".lock", path.name]


def wait_for_end(pid: int) -> None:
    """Wait until a process that may belong to nobody has ended."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} has not ended")


@needs_compiler
def test_processes_that_start_together_build_once(workshop: Workshop):
    (workshop.folder / "wait").touch()
    first = workshop.start()
    workshop.wait_for_builds(1)
    second = workshop.start()
    time.sleep(0.5)  # a second build would have started
    (workshop.folder / "wait").unlink()
    paths = {process.communicate(timeout=60)[0].strip() for process in (first, second)}
    assert len(paths) == 1
    assert len(workshop.builds()) == 1


@needs_compiler
def test_builder_that_does_not_end_is_not_waited_for(here: Workshop, monkeypatch: pytest.MonkeyPatch):
    """Such as a suspended one."""
    monkeypatch.setattr(native_library, "WAIT_SECONDS", 0.2)
    here.cache.mkdir(parents=True)
    with FileLock(here.cache / ".lock"):
        assert seven(native_library.build_library("float", here.source)) == 7


@needs_compiler
def test_start_build_builds_in_the_background(here: Workshop):
    """The process that then loads the library waits, and does not build again."""
    (here.folder / "wait").touch()
    native_library.start_build([(here.source, "float")])
    here.wait_for_builds(1)
    (here.folder / "wait").unlink()
    assert seven(native_library.build_library("float", here.source)) == 7
    assert len(here.builds()) == 1


@needs_compiler
def test_changed_header_builds_another_library(here: Workshop):
    """Sources include headers of their directory."""
    header = here.folder / "tiny.h"
    header.write_text("#define SEVEN 7\n")
    here.source.write_text('#include "tiny.h"\nextern "C" int seven() { return SEVEN; }\n')
    first = native_library.build_library("float", here.source)
    header.write_text("#define SEVEN 8\n")
    second = native_library.build_library("float", here.source)
    assert (seven(first), seven(second)) == (7, 8)
    assert native_library.build_library("float", here.source) == second
    assert len(here.builds()) == 2


@needs_compiler
def test_failing_build_is_tried_once_per_process(here: Workshop, monkeypatch: pytest.MonkeyPatch):
    """A background build says nothing; each use reports it."""
    here.source.write_text("#error wrong\n")
    native_library.start_build([(here.source, "float")])
    here.wait_for_builds(1)
    monkeypatch.setattr(native_check, "load_library", lambda real: native_library.load_library(real, here.source))
    for _ in range(3):
        with pytest.raises(UserError) as caught:
            native_check.checked_library("fp32")
        assert caught.value.code == "backend-failed"
    assert len(here.builds()) == 2
    assert [path.name for path in here.cache.iterdir()] == [".lock"]


@pytest.mark.parametrize(("name", "words"), [("no-such-compiler", "CXX"), ("", "no C++ compiler")])
def test_missing_compiler_says_why(here: Workshop, monkeypatch: pytest.MonkeyPatch, name: str, words: str):
    monkeypatch.setenv("CXX", name)
    monkeypatch.setenv("PATH", str(here.folder))
    assert words in native_library.missing_compiler()
