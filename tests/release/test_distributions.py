"""The checks of a wheel find what is missing, what is too much, and what is broken on the package index."""

import re
import zipfile
from pathlib import Path

import pytest

from tests.release.distributions import ROOT, check_contents, check_description, tracked

INFO = "fathomlab-1.0.dist-info"
README = (ROOT / "README.md").read_text(encoding="utf-8")


def wheel(folder: Path, description: str = "", without: str = "", extra: str = "") -> Path:
    """A wheel with the files of the package, one file less, or one file more."""
    path = folder / "fathomlab-1.0-py3-none-any.whl"
    names = {name.removeprefix("src/") for name in tracked("src")}
    names |= {f"fathomlab/{name}" for name in tracked("configs")} | {extra} - {""}
    with zipfile.ZipFile(path, "w") as archive:
        for name in names - {without}:
            archive.writestr(name, "")
        for name in ("licenses/LICENSE", "entry_points.txt", "RECORD"):
            archive.writestr(f"{INFO}/{name}", "")
        archive.writestr(f"{INFO}/METADATA", f"Metadata-Version: 2.4\nName: fathomlab\n\n{description}".encode())
    return path


def test_complete_wheel_is_accepted(tmp_path: Path):
    check_contents(wheel(tmp_path))


@pytest.mark.parametrize(
    ("without", "extra"),
    [
        ("fathomlab/py.typed", ""),
        ("fathomlab/configs/config_exp1_2.yaml", ""),
        ("", "tests/conftest.py"),
        ("", "fathomlab/__pycache__/plan.cpython-311.pyc"),
    ],
)
def test_wheel_with_other_files_is_refused(tmp_path: Path, without: str, extra: str):
    with pytest.raises(AssertionError, match=re.escape(without or extra)):
        check_contents(wheel(tmp_path, without=without, extra=extra))


def test_description_without_blocks_or_with_links_is_refused(tmp_path: Path):
    """Links into the repository are broken on the index; code that looks like a link is not a link."""
    blocks = "```python\nprint(names[0](1))\n```\n"
    with pytest.raises(AssertionError, match="blocks"):
        check_description(wheel(tmp_path, blocks))
    fences = "".join(part if index % 2 else "\n" for index, part in enumerate(_fences(README)))
    check_description(wheel(tmp_path, fences + "[a](https://example.org/b)"))
    with pytest.raises(AssertionError, match=r"docs/page\.md"):
        check_description(wheel(tmp_path, fences + "[a](docs/page.md)"))


def _fences(text: str) -> list[str]:
    """Alternately text and fenced blocks."""
    return re.split(r"(^```.*?^```)", text, flags=re.MULTILINE | re.DOTALL)
