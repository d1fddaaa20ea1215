"""Every command and code block of the README, CONTRIBUTING.md, and docs/ runs."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.documentation.blocks import Page
from tests.documentation.checks import CHECKS, PREPARATIONS
from tests.documentation.runner import Session, environment

ROOT = Path(__file__).parents[2]
PARTS = ("discussion.md",)  # of published pages
FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FILES = [file for file in FILES if file.name not in PARTS]
PAGES = {file.relative_to(ROOT).as_posix(): Page(file) for file in FILES}
SKIPPED = {  # how many blocks of a page never run; each has its reason in a comment above it
    "CONTRIBUTING.md": 1,
    "README.md": 2,
    "docs/explanation/performance.md": 1,
    "docs/explanation/scaling.md": 1,
    "docs/explanation/reliability.md": 1,
    "docs/guides/data-offline.md": 3,
    "docs/guides/export-a-model.md": 2,
    "docs/guides/exporting.md": 3,
    "docs/guides/gpu-and-workers.md": 2,
    "docs/guides/hand-in.md": 4,
    "docs/guides/ray.md": 2,
    "docs/guides/slurm.md": 4,
    "docs/guides/thirty-students.md": 1,
    "docs/reference/store.md": 1,
    "docs/tutorials/first-experiment.md": 3,
    "docs/tutorials/your-own-parts.md": 1,
}


def run_page(name: str, slow: bool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run blocks of a page in an empty folder, and check what they left there."""
    work, home, script = folder / "work", folder / "home", folder / "script"
    for path in (work, home, script):
        path.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.syspath_prepend(work)
    for key in ("FATHOMLAB_RUNS", "FATHOMLAB_DATA"):
        monkeypatch.delenv(key, raising=False)
    for key, value in environment(home).items():
        monkeypatch.setenv(key, value)
    before = set(sys.modules)
    session = Session(PAGES[name], name, slow, work, script / f"{Path(name).stem.replace('-', '_')}_page.py")
    if prepare := PREPARATIONS.get(Path(name).name):
        prepare(work)
    try:
        session.run()
        if check := CHECKS.get(Path(name).name):
            check(session)
    finally:
        for module in set(sys.modules) - before:
            if str(getattr(sys.modules[module], "__file__", "")).startswith(str(folder)):
                del sys.modules[module]


def pages(slow: bool) -> list[str]:
    """Pages with a block that runs in the default suite, or with one that is slow."""
    return [name for name, page in PAGES.items() if any(block.slow == slow for block in page.blocks if not block.skip)]


needs_bash = pytest.mark.skipif(
    sys.platform == "win32" or shutil.which("bash") is None, reason="the blocks of the pages are written for bash"
)


@needs_bash
@pytest.mark.parametrize("page", pages(slow=False))
def test_blocks_of_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run_page(page, False, tmp_path, monkeypatch)


@needs_bash
@pytest.mark.slow
@pytest.mark.parametrize("page", pages(slow=True))
def test_all_blocks_of_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Slow blocks, with the others before them."""
    run_page(page, True, tmp_path, monkeypatch)


def test_blocks_follow_the_convention():
    """Fences with a known language, and known comments."""
    assert [f"{name}:{problem}" for name, page in PAGES.items() for problem in page.problems] == []


def test_skipped_blocks_are_counted():
    counts = {name: sum(bool(block.skip) for block in page.blocks) for name, page in PAGES.items()}
    assert {name: count for name, count in counts.items() if count} == SKIPPED
