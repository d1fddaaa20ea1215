"""The examples of docs/guides/python.md run as they are printed, and that of the README with a smaller experiment."""

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def blocks(page: str) -> list[str]:
    """The blocks of Python of a page, in order."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def test_python_page_runs_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FATHOMLAB_RUNS", raising=False)
    names: dict[str, Any] = {}
    texts = blocks("docs/guides/python.md")
    assert len(texts) == 7
    for text in texts:
        exec(compile(text, "docs/guides/python.md", "exec", dont_inherit=True), names)
    assert names["accuracy"] == names["trial"].metrics["test/accuracy"]
    assert len(names["first"]) == 6
    assert (tmp_path / "curves.pdf").exists()
    assert len(names["finished"]) == len(names["results"]) == 6
    assert list(names["earlier"]) == list(names["results"])
    (text,) = blocks("README.md")
    call = 'fathomlab.run("1_2", "experiment.seeds=3", quick=True)'
    assert call in text
    exec(compile(text.replace(call, "results"), "README.md", "exec", dont_inherit=True), {"results": names["results"]})
