"""Builds the distributions, checks them, and runs the wheel in clean environments: `python -m tests.release --help`."""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.release.distributions import ROOT, build, check_contents, check_description, wheel_files
from tests.release.environments import check_installation, interpreters


def main() -> int:
    """Run all checks; the first failure raises."""
    parser = argparse.ArgumentParser(prog="python -m tests.release", description=__doc__)
    parser.add_argument(
        "--torch", choices=["cpu", "default"], default="cpu", help="build of PyTorch (default: %(default)s)"
    )
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="where the distributions go (default: dist)")
    parser.add_argument(
        "pythons", nargs="*", help="interpreters (default: python3.N on the path, for each supported N)"
    )
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel, sdist = build(folder)
        check_contents(wheel)
        check_description(wheel)
        subprocess.run([sys.executable, "-m", "twine", "check", "--strict", wheel, sdist], check=True)
        print(f"{wheel.name}: {len(wheel_files(wheel))} files, the same from the tree and from {sdist.name}")
        for index, interpreter in enumerate(interpreters(options.pythons)):
            check_installation(interpreter, wheel, sdist if index == 0 else None, options.torch, folder / "environment")
        shutil.rmtree(options.dist, ignore_errors=True)
        options.dist.mkdir(parents=True)
        for path in (wheel, sdist):
            shutil.copy(path, options.dist)
    print(f"Checked in {time.monotonic() - started:.0f} s. The distributions are in {options.dist}.")
    return 0


sys.exit(main())
