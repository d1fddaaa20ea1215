"""Wheel and source distribution: built from a clean copy of the tracked files, with exactly the files of the package."""

import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import BytesParser
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).parents[2]
RELATIVE_LINK = r"\]\((?![a-z]+:)[^)\s]+\)"


def tracked(*paths: str) -> list[str]:
    """The files of the repository, or those under `paths`, with new ones that git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *paths]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [name for name in names if name and (ROOT / name).is_file()]


def build(folder: Path) -> tuple[Path, Path]:
    """Build the source distribution, a wheel from it, and a wheel from the tree.

    Returns:
        The wheel from the source distribution, and the source distribution.

    Raises:
        AssertionError: If the two wheels differ.
    """
    tree = folder / "tree"
    for name in tracked():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name)
    for target, options in (("dist", []), ("direct", ["--wheel"])):
        command = [sys.executable, "-m", "build", *options, "--outdir", str(folder / target), str(tree)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = (folder / "dist").glob("*.whl")
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    (direct,) = (folder / "direct").glob("*.whl")
    differences = dict(wheel_files(wheel).items() ^ wheel_files(direct).items())
    assert not differences, f"the wheel of the source distribution differs in {sorted(differences)}"
    return wheel, sdist


def wheel_files(wheel: Path) -> dict[str, str]:
    """Names of the files in a wheel and their SHA-256."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


def check_contents(wheel: Path) -> None:
    """Check that a wheel contains every tracked file of the package and of `configs`, and nothing else.

    Raises:
        AssertionError: Otherwise, with the names.
    """
    expected = {name.removeprefix("src/") for name in tracked("src")}
    expected |= {f"fathomlab/{name}" for name in tracked("configs")}
    metadata = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info/"
    expected |= {f"{metadata}{name}" for name in ("licenses/LICENSE", "METADATA", "entry_points.txt")}
    packed = wheel_files(wheel).keys()
    assert not expected - packed, f"{wheel.name} lacks {sorted(expected - packed)}"
    others = {name for name in packed - expected if not name.startswith(metadata)}
    assert not others, f"{wheel.name} must not contain {sorted(others)}"


def check_description(wheel: Path) -> None:
    """Check that the page on PyPI has the README's blocks and no relative links, which would be broken there.

    Raises:
        AssertionError: Otherwise.
    """
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        text = BytesParser().parsebytes(archive.read(name)).get_payload()
    fences = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert fences.findall(str(text)) == fences.findall(readme), "the description has other blocks than the README"
    links = re.findall(RELATIVE_LINK, fences.sub("", str(text)))
    assert not links, f"links of the description that lead nowhere: {links}"
