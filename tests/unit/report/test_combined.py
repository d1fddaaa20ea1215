"""Several experiments on one page: ids, contents, names, and files that are not replaced."""

import json
import re
from datetime import date
from pathlib import Path

import pytest

from fathomlab.base.errors import UserError
from fathomlab.report.combined import MARK, combined_html, title_block, write_combined
from fathomlab.store.reading import Store
from tests.helpers import stores
from tests.helpers.hostile_text import MARKUP
from tests.helpers.pages import elements

DAY = date(2026, 11, 29)
BLOCK = title_block(["Ada Student", "  Bob \n Student "], "Deep Learning", DAY)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two experiments that share a trial; the second is a quick run."""
    root = tmp_path_factory.mktemp("combined")
    stores.write_depths(root, depths=(5,), epochs=2, seeds=3)
    stores.write_blocks(root, seeds=2, epochs=2)
    shared = json.loads((root / "experiments" / "1_2" / "experiment.json").read_text())["conditions"][0]
    file = root / "experiments" / "1_3" / "experiment.json"
    conditions = json.loads(file.read_text())["conditions"]
    stores.change(file, conditions=[*conditions, shared | {"label": "shared"}], quick=True)
    return Store(root)


@pytest.fixture(scope="module")
def text(store: Store) -> str:
    """The page with both experiments."""
    return write_combined(store, ["1_3", "1_2"], store.root / "hand-in.html", BLOCK).read_text()


def test_combined_page_has_unique_ids_and_valid_references(text: str):
    """Figures, clip paths, descriptions, headings, and rows of trials that two experiments share."""
    parsed = elements(text)
    ids = [attributes["id"] or "" for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {"e1-answer", "e2-answer", "e1-results", "e2-results"} <= set(ids)
    others = {name for name in ids if not re.match(r"e[12]-|[0-9a-f]{10}$", name)}
    assert others == {"content", "summary", "h-summary"}
    for tag, attributes in parsed.tags:
        values = " ".join(value or "" for value in attributes.values())
        names = (attributes.get("aria-labelledby") or "").split() + re.findall(r"url\(#([^)]+)\)", values)
        address = attributes.get("href") or "#content"
        assert address.startswith(("#", "data:text/csv", "data:image/png")), (tag, address)
        names += [address[1:]] if address.startswith("#") else []
        assert set(names) <= set(ids), (tag, names)
    rows = re.findall(r'<tr id="([0-9a-f]{10})">', text)
    assert len(rows) == 16 + 6


def test_combined_page_embeds_each_experiment(text: str):
    """In the order given, with the trials of each."""
    documents = [
        json.loads(found) for found in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text)
    ]
    assert [document["name"] for document in documents] == ["1_3", "1_2"]
    assert [len(document["trials"]["trials"]) for document in documents] == [16 + 3, 6]


def test_combined_page_begins_with_names_and_a_summary(text: str, store: Store):
    """Authors, course, date; a row per experiment with its question, verdicts, and the mark of quick runs."""
    head, rest = text.split('<section id="summary"')
    summary, *articles = rest.split("<article")
    for part in ("Ada Student, Bob Student", "Deep Learning", "2026-11-29"):
        assert part in head
    assert len(articles) == 2
    titles = [store.experiment(name).title for name in ("1_3", "1_2")]
    assert [summary.index(title) for title in titles] == sorted(summary.index(title) for title in titles)
    assert summary.count('<span class="badge">Quick run</span>') == 1
    assert "What does the factor of 1_2 do" in summary
    assert re.search(r"<td>\d (supported|refuted|undecided)", summary)


@pytest.mark.parametrize("payload", [text[:200] for text in MARKUP], ids=ascii)
def test_names_on_a_combined_page_are_text(payload: str):
    """No element comes from a name."""
    texts = [combined_html([], title_block([name], name, DAY), "page.html") for name in ("x", payload)]
    plain, hostile = map(elements, texts)
    assert plain.tags == hostile.tags
    assert " ".join(payload.split()) in hostile.text


@pytest.mark.parametrize("name", ["", " \n", "x" * 201, "a\0b", "a\x1b[2J"])
def test_title_block_rejects_unusable_names(name: str):
    """Empty, too long, and with control characters."""
    with pytest.raises(UserError) as caught:
        title_block([name], "", DAY)
    assert caught.value.code == "invalid-option"
    assert title_block(["x" * 200], "", DAY).authors == ("x" * 200,)


def test_combined_page_replaces_only_reports(store: Store, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Not another file, a link, a directory, or a name without .html; nothing is changed then."""
    assert MARK in text
    monkeypatch.setattr("fathomlab.report.combined.combined_html", lambda *_: "new page")
    (tmp_path / "old.html").write_text(text)
    assert write_combined(store, ["1_3"], tmp_path / "old.html", BLOCK).read_text() == "new page"
    (tmp_path / "other.html").write_text("my notes")
    (tmp_path / "link.html").symlink_to(tmp_path / "old.html")
    (tmp_path / "folder.html").mkdir()
    targets = {"other.html": "target-exists", "link.html": "target-exists", "folder.html": "target-exists"}
    targets |= {"notes.txt": "invalid-option", "none/x.html": "no-such-directory"}
    for name, code in targets.items():
        with pytest.raises(UserError) as caught:
            write_combined(store, ["1_3"], tmp_path / name, BLOCK)
        assert (name, caught.value.code) == (name, code)
    assert (tmp_path / "other.html").read_text() == "my notes"


def test_combined_page_stays_out_of_the_store(store: Store, tmp_path: Path):
    """The next report would replace the index or the page of an experiment; a page beside them is fine."""
    before = {path: path.read_bytes() for path in store.root.rglob("*.html")}
    for name in ("index.html", "experiments/1_3/report.html", "trials/new.html"):
        with pytest.raises(UserError) as caught:
            write_combined(store, ["1_3"], store.root / name, BLOCK)
        assert (name, caught.value.code) == (name, "target-exists")
    assert {path: path.read_bytes() for path in store.root.rglob("*.html")} == before
    page = write_combined(store, ["1_3"], store.root / "hand-in.html", BLOCK)
    assert MARK in page.read_text()
    page.unlink()


def test_combined_page_rejects_duplicate_experiments(store: Store, tmp_path: Path):
    """And experiments that the store does not have."""
    for names, code in ((["1_3", "1_3"], "duplicate-experiment"), (["1_9"], "no-such-experiment")):
        with pytest.raises(UserError) as caught:
            write_combined(store, names, tmp_path / "page.html", BLOCK)
        assert caught.value.code == code
    assert not list(tmp_path.iterdir())
