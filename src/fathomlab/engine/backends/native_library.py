"""Builds native.cpp, maps.cpp, or lanes.cpp with the compiler of the system, once per machine, and loads it."""

import contextlib
import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from platformdirs import user_cache_path

from fathomlab.base.errors import UserError
from fathomlab.base.files import fsync

SOURCE = Path(__file__).with_name("native.cpp")
FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-fPIC",
    "-shared",
)
COMPILERS = ("g++", "c++", "clang++")
BUILD_SECONDS = 120
WAIT_SECONDS = 30  # for another process that builds, which may be suspended


@cache
def find_compiler() -> str | None:
    """The path of the C++ compiler: `CXX` or the first of the usual names; None without one.

    On macOS, the command exists without a compiler, and opens a dialog; `xcode-select` says whether there is one.
    """
    if sys.platform == "win32":
        return None
    if sys.platform == "darwin" and _output("xcode-select", "-p") is None:
        return None
    names = (os.environ["CXX"],) if os.environ.get("CXX") else COMPILERS
    return next((path for name in names if (path := shutil.which(name))), None)


@cache
def describe_build() -> str:
    """The compiler, its flags, and the processor that code is generated for."""
    compiler = find_compiler()
    if compiler is None:
        return "no compiler"
    version = (_output(compiler, "--version") or "unknown").partition("\n")[0]
    return f"{version}, {' '.join(FLAGS)}, {_target(compiler)}"


def missing_compiler() -> str:
    """Why there is no compiler here; `""` if there is one."""
    if find_compiler() is not None:
        return ""
    if sys.platform == "win32":
        return "it cannot be built on Windows"
    if name := os.environ.get("CXX"):
        return f"the environment variable CXX names no command: {name}"
    return "no C++ compiler is installed"


@cache
def load_library(real: str, source: Path = SOURCE) -> ctypes.CDLL:
    """The library for `float` or `double`, built if the cache of the user does not have it.

    Raises:
        UserError: If there is no compiler, or the build fails.
    """
    if reason := missing_compiler():
        raise UserError("backend-failed", reason)
    try:
        return _load(build_library(real, source))
    except OSError:  # the cache cannot be written, or the file was damaged
        with tempfile.TemporaryDirectory(prefix="fathomlab-native-") as folder:
            path = Path(folder) / "native.so"
            _build(real, source, path)
            try:
                return _load(path)  # it stays loaded when the file is removed
            except OSError as error:
                raise UserError("backend-failed", f"its library cannot be loaded ({error})") from error


def once(check: Callable[[str], ctypes.CDLL], precision: str) -> ctypes.CDLL:
    """What `check` returns for a precision. A process calls it once; its error is raised again.

    Raises:
        UserError: As `check` raises it.
    """
    outcome = outcome_of(check, precision)
    if isinstance(outcome, UserError):
        raise UserError(outcome.code, str(outcome))
    return outcome


@cache
def outcome_of(check: Callable[[str], ctypes.CDLL], precision: str) -> ctypes.CDLL | UserError:
    """As `once`, but returns the error."""
    try:
        return check(precision)
    except UserError as error:
        return error


def start_build(libraries: Sequence[tuple[Path, str]]) -> None:
    """Build libraries that the cache does not have in a thread of this process.

    Errors are raised where one is loaded.

    Args:
        libraries: The source of each, and the format of its numbers.
    """

    def build() -> None:
        for source, real in libraries:
            with contextlib.suppress(UserError, OSError):
                build_library(real, source)

    if not missing_compiler():
        threading.Thread(target=build, name="fathomlab-build", daemon=True).start()


def build_library(real: str, source: Path = SOURCE) -> Path:
    """Build a library if the cache of the user does not have it, and return its path.

    Raises:
        UserError: If the build fails.
        OSError: If the cache cannot be written.
    """
    files = [source, *sorted(source.parent.glob("*.h"))]
    content = b"\0".join([describe_build().encode(), real.encode(), *(file.read_bytes() for file in files)])
    path = user_cache_path("fathomlab") / "native" / f"{hashlib.sha256(content).hexdigest()[:32]}.so"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with _one_builder(path.parent):
            if not path.exists():
                _build(real, source, path)
    return path


@contextlib.contextmanager
def _one_builder(folder: Path) -> Iterator[None]:
    """Wait while another process builds. The lock of one that was killed is free; without locks, both build."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock", timeout=WAIT_SECONDS)
    try:
        lock.acquire()
    except (Timeout, OSError, NotImplementedError):
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _build(real: str, source: Path, path: Path) -> None:
    """Compile to a temporary file and rename it, so that no process loads a part of it."""
    compiler = find_compiler()
    assert compiler is not None
    _remove_parts(path)
    descriptor, temporary = tempfile.mkstemp(prefix=f"{path.stem}.", suffix=".part", dir=path.parent)
    os.close(descriptor)
    command = [compiler, *FLAGS, f"-DREAL={real}", str(source), "-o", temporary]
    try:
        done = subprocess.run(command, capture_output=True, timeout=BUILD_SECONDS, check=False)
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            reason = next((line for line in lines if "error" in line), lines[-1] if lines else "no message")
            raise UserError("backend-failed", f"{Path(compiler).name} cannot build it ({reason[:200]})")
        with open(temporary, "rb") as file:
            fsync(file.fileno())  # after a power failure, the library is complete or not there
        os.replace(temporary, path)
    except subprocess.TimeoutExpired as error:
        raise UserError("backend-failed", f"{Path(compiler).name} took over {BUILD_SECONDS} s") from error
    finally:
        _remove_parts(path)


def _remove_parts(path: Path) -> None:
    """Remove temporary files, also those of processes that were killed. A compiler may outlive its process and write one more."""
    for part in path.parent.glob(f"{path.stem}.*.part"):
        part.unlink(missing_ok=True)


def _load(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    if not hasattr(library, "native_plan"):  # the others, whose functions take only pointers and a number
        return library
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    for name, result, arguments in (
        ("plan", pointer, [number, number, pointer, number]),
        ("steps", None, [pointer, number]),
        ("predict", None, [pointer, pointer, number, pointer, number, pointer]),
        ("predict_pixels", None, [pointer, pointer, number, pointer, pointer, pointer, pointer]),
        ("free", None, [pointer]),
    ):
        function = getattr(library, f"native_{name}")
        function.restype, function.argtypes = result, arguments
    return library


@cache
def _target(compiler: str) -> str:
    """The processor that `-march=native` means here, as a digest of the macros that the compiler defines for it."""
    macros = _output(compiler, "-march=native", "-dM", "-E", "-x", "c++", os.devnull) or platform.machine()
    return f"target {hashlib.sha256(macros.encode()).hexdigest()[:12]}"


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None
