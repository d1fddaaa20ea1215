"""The runner of blocks: what it finds, what it runs, and what it says about a failure."""

from pathlib import Path

import pytest

from tests.documentation.blocks import Page
from tests.documentation.runner import BlockError, Session

SAMPLE = """\
# Page

```text
output
```

<!-- slow -->
```bash
sleep 9
```

- In a list:

  <!-- skip: needs a GPU -->
  ```python
  x = 1
  ```

=== "Linux"

    ```bash
    true
    ```

    ```yaml
    # name.yaml
    ```

<!-- slow -->

```python
y = 2
```
"""


def page(folder: Path, text: str) -> Page:
    """A page with this text."""
    (folder / "page.md").write_text(text)
    return Page(folder / "page.md")


def run(folder: Path, text: str, slow: bool = False) -> Session:
    """Run a page in its folder."""
    session = Session(page(folder, text), "page.md", slow, folder, folder / "script.py")
    session.run()
    return session


def test_blocks_are_found_with_their_comments(tmp_path: Path):
    """In lists and tabs, too. A comment applies only to the next line."""
    blocks = [(block.line, block.language, block.slow, block.skip) for block in page(tmp_path, SAMPLE).blocks]
    assert blocks == [
        (8, "bash", True, ""),
        (15, "python", False, "needs a GPU"),
        (21, "bash", False, ""),
        (25, "yaml", False, ""),
        (31, "python", False, ""),
    ]
    assert page(tmp_path, SAMPLE).blocks[3].file_name == "name.yaml"
    assert page(tmp_path, SAMPLE).problems == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("text\n\n    fathomlab list\n", "3: indented block"),
        ("```\nfathomlab list\n```\n", "1: unknown language ''"),
        ("```console\n$ ls\n```\n", "1: unknown language 'console'"),
        ("<!-- slowly -->\n```bash\nls\n```\n", "2: unknown comment '<!-- slowly -->'"),
        ("<!-- skip: -->\n```bash\nls\n```\n", "2: unknown comment '<!-- skip: -->'"),
    ],
)
def test_unknown_blocks_are_problems(tmp_path: Path, text: str, problem: str):
    (found,) = page(tmp_path, text).problems
    assert found.startswith(problem)


def test_blocks_share_a_folder_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    bash = "```bash\nset -- a b\necho $2 > letters.txt\n```\n"
    part = "```python\n# part.py\nraise SystemExit\n```\n"
    python = "```python\nfrom pathlib import Path\n\nletters = Path('letters.txt').read_text()\n```\n"
    session = run(tmp_path, f"{bash}{part}{python}```python\nagain = letters * 2\n```\n")
    assert vars(session.module)["again"] == "b\nb\n"
    assert (tmp_path / "part.py").read_text() == "# part.py\nraise SystemExit\n"


@pytest.mark.parametrize(
    ("block", "line", "words"),
    [
        ("```bash\necho one\nfalse\necho two\n```", 3, ["exit status 1", "one\n"]),
        ("```bash\nfalse | true\n```", 3, ["exit status 1"]),
        ("```bash\necho 'one\ntwo'; false\n```", 3, ["exit status 1", "one\ntwo\n"]),
        ("```bash\nfathomlab show 0000\n```", 3, ["exit status 2", "$ fathomlab show 0000", "error: "]),
        ("```python\nprint('one')\n1 / 0\n```", 3, ["ZeroDivisionError", "one\n"]),
        ("```yaml\nmodel: {type: MLPP}\n```", 3, ["experiment.yaml: ", "'training'"]),
    ],
)
def test_failure_names_page_line_and_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: str, line: int, words: list[str]
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BlockError) as caught:
        run(tmp_path, f"# Page\n\n{block}\n")
    message = str(caught.value)
    assert message.startswith(f"page.md:{line}: ")
    assert [word for word in words if word not in message] == []
    assert "echo two" not in message or "two" not in message.splitlines()


def test_traceback_shows_the_line_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BlockError) as caught:
        run(tmp_path, "# Page\n\n```python\nx = 1\n\nx / 0\n```\n")
    cause = caught.value.__cause__
    assert cause is not None
    trace = cause.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    assert trace is not None
    assert trace.tb_lineno == 6
