"""A clean environment with the wheel, and an experiment in an empty folder."""

import os
import re
import shutil
import subprocess
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

from tests.release.distributions import ROOT

PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet")


def supported_versions() -> list[str]:
    """The versions of Python in the classifiers, for example 3.11."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return re.findall(r"Python :: (3\.\d+)\b", "\n".join(project["classifiers"]))


def interpreters(given: Sequence[str]) -> list[str]:
    """Return `given`, or python3.N on the path for each supported N. Prints which are missing.

    Raises:
        SystemExit: If there is none.
    """
    names = given or [f"python{version}" for version in supported_versions()]
    versions = {name: _version(name) for name in names}
    for name, version in versions.items():
        print(f"{name}: {version or 'not installed, skipped'}")
    working = [name for name, version in versions.items() if version]
    if not working or (given and len(working) < len(given)):
        raise SystemExit("error: an interpreter is missing.")
    return working


def _version(interpreter: str) -> str:
    """Its version, or "" if it does not start."""
    if shutil.which(interpreter) is None:
        return ""
    command = [interpreter, "-c", "import platform; print(platform.python_version())"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def check_installation(interpreter: str, wheel: Path, sdist: Path | None, torch: str, folder: Path) -> None:
    """Install a wheel into a new environment, and run `fathomlab run 1_2 --quick` in an empty folder.

    Nothing but the environment is on the search path of commands: no compiler, no git, no browser.

    Args:
        interpreter: Makes the environment.
        wheel: What to install.
        sdist: Installed over the wheel afterwards, if given.
        torch: `cpu` or `default`, the build of PyTorch. An index without CPU builds gives the default build.
        folder: Removed before and afterwards.

    Raises:
        AssertionError: If something fails.
    """
    shutil.rmtree(folder, ignore_errors=True)
    environment, work = folder / "venv", folder / "empty"
    work.mkdir(parents=True)
    python, started = str(environment / "bin" / "python"), time.monotonic()
    subprocess.run([interpreter, "-m", "venv", environment], check=True)
    _install_torch(python, torch)
    subprocess.run([python, *PIP, wheel], check=True)
    installed = time.monotonic()
    size = sum(path.stat().st_size for path in environment.rglob("*") if path.is_file() and not path.is_symlink())
    version = wheel.name.split("-")[1]
    printed = _fathomlab(environment, work, "--version")
    assert printed == f"fathomlab {version}\n", printed
    _fathomlab(environment, work, "run", "1_2", "--quick", "--progress", "off")
    assert list(work.glob("runs/experiments/*/report.html")), "no report"
    print(
        f"{interpreter}: installed in {installed - started:.0f} s ({size / 1e9:.1f} GB), "
        f"1_2 --quick in {time.monotonic() - installed:.0f} s",
        flush=True,
    )
    if sdist:
        subprocess.run([python, *PIP, "--force-reinstall", "--no-deps", sdist], check=True)
        printed = _fathomlab(environment, work, "plan", "1_2", "--quick")
        assert ", 0 to train in 0 packs" in printed, printed
        print(f"{interpreter}: the same from {sdist.name}", flush=True)
    shutil.rmtree(folder)


def _install_torch(python: str, build: str) -> None:
    """Install the pinned PyTorch."""
    (pinned,) = re.findall(r"^torch==\S+", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
    if (
        build == "cpu"
        and not subprocess.run([python, *PIP, f"{pinned}+cpu"], stderr=subprocess.DEVNULL, check=False).returncode
    ):
        return
    subprocess.run([python, *PIP, pinned], check=True)


def _fathomlab(environment: Path, folder: Path, *arguments: str) -> str:
    """Run a command without the caller's variables; returns its standard output."""
    kept = {key: os.environ[key] for key in ("HOME", "LANG", "TMPDIR") if key in os.environ}
    variables = kept | {"PATH": str(environment / "bin"), "FATHOMLAB_OFFLINE": "1"}
    command = [str(environment / "bin" / "fathomlab"), *arguments]
    result = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    assert result.returncode == 0, (
        f"{' '.join(arguments)}: exit status {result.returncode}\n{result.stdout}{result.stderr}"
    )
    return result.stdout
