"""Pages, their navigation, and their links: what a strict build of the site does not check."""

import re
import unicodedata
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SITE = sorted(path for path in DOCS.rglob("*.md") if path.name != "discussion.md")  # parts of published pages
PAGES = [*sorted(ROOT.glob("*.md")), *SITE]
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
PROSE = [path for folder in ("tutorials", "guides", "explanation") for path in sorted((DOCS / folder).glob("*.md"))]


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    """The text without blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def navigation(entry: Any) -> list[str]:
    """The pages of a part of `nav`, in order."""
    if isinstance(entry, str):
        return [entry]
    return [page for inner in (entry.values() if isinstance(entry, dict) else entry) for page in navigation(inner)]


def anchors(page: Path) -> set[str]:
    """Anchors of headings that are the same on the site and on GitHub; for pages that are not on the site, GitHub's."""
    headings = re.findall(r"^#+ +(.+)$", text_of(page), re.MULTILINE)
    github = [re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings]
    plain = [unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode() for heading in headings]
    site = [re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in plain]
    unique = {anchor for anchor in github if github.count(anchor) == 1}
    return unique & set(site) if page.is_relative_to(DOCS) else unique


def broken_links(page: Path) -> list[str]:
    """Targets that do not exist, or that are not part of the site. Network addresses are not requested."""
    broken = []
    for match in LINK.finditer(re.sub(r"`[^`]*`", "", text_of(page))):
        target = match[1] or match[2]
        file, _, heading = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        path = (page.parent / file).resolve() if file else page
        outside = page.is_relative_to(DOCS) and not path.is_relative_to(DOCS)
        if outside or not path.exists() or (heading and heading not in anchors(path)):
            broken.append(f"{name(page)}: {target}")
    return broken


def test_navigation_lists_every_page_once():
    """No page without an entry, and no entry without a page."""
    listed = navigation(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert sorted(listed) == [page.relative_to(DOCS).as_posix() for page in SITE]


def test_links_and_images_resolve():
    assert [link for page in PAGES for link in broken_links(page)] == []


def test_images_have_a_description():
    assert [name(page) for page in PAGES if "![](" in page.read_text(encoding="utf-8")] == []


def test_included_files_exist():
    includes = [file for page in SITE for file in re.findall(r'^--8<-- "(.+)"$', text_of(page), re.MULTILINE)]
    assert includes == ["CHANGELOG.md"]
    assert (ROOT / includes[0]).is_file()


def test_pages_contain_no_machine_paths():
    path = re.compile(r"(?<![\w./~])/(?:home|root|Users|work|opt)/|[A-Z]:\\Users")
    assert [name(page) for page in PAGES if path.search(page.read_text(encoding="utf-8"))] == []


def test_lists_are_lists_on_the_site():
    """Python-Markdown needs an empty line before a list, and four spaces before an inner one."""
    wrong = []
    for page in [*SITE, ROOT / "CHANGELOG.md"]:
        before = ""
        for number, line in enumerate(text_of(page).split("\n"), start=1):
            item = re.match(r"( *)(?:[-*]|\d+\.) ", line)
            starts = item and before.strip() and not re.match(r" +|(?:[-*]|\d+\.) ", before)
            if starts or (item and len(item[1]) in (1, 2, 3)):
                wrong.append(f"{name(page)}: {number}: {line[:60]}")
            before = line
    assert wrong == []


def test_pages_end_with_next_steps():
    """Tutorials, guides, and explanations have one title, and their last section says where to read on."""
    titles = {name(page): re.findall(r"^##? (.+)$", text_of(page), re.MULTILINE) for page in PROSE}
    assert [page for page, found in titles.items() if found[-1] != "Next steps"] == []
    assert [name(page) for page in PROSE if len(re.findall(r"^# ", text_of(page), re.MULTILINE)) != 1] == []
