"""The fenced code blocks of a page, and how each one runs. CONTRIBUTING.md describes the convention."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

RUNNABLE = frozenset({"bash", "python", "yaml"})
SHOWN = frozenset({"text", "html", "json", "toml", "dockerfile", "mermaid"})
COMMENT = re.compile(r"<!-- (?:(slow)|skip: (\S.*\S)) -->")
FILE_NAME = re.compile(r"# ([\w-]+\.(?:py|yaml))\n")
INDENTING = ("!!! ", "??? ", "=== ")  # admonitions and tabs of the documentation site contain indented blocks


@dataclass(frozen=True)
class Block:
    """A runnable block.

    Attributes:
        line: The line of its fence, from 1.
        language: `bash`, `python`, or `yaml`.
        text: Its content.
        slow: Runs only in `make release-check`.
        skip: Why it never runs; "" if it does.
    """

    line: int
    language: str
    text: str
    slow: bool
    skip: str

    @property
    def file_name(self) -> str:
        """The file that its first line names, or ""."""
        match = FILE_NAME.match(self.text)
        return match[1] if match else ""


class Page:
    """The runnable blocks of a page, in order, and what is wrong with its blocks: one line each.

    Args:
        path: A Markdown file.
    """

    def __init__(self, path: Path):
        self.path = path
        self.problems: list[str] = []
        self.blocks: list[Block] = []
        self._read(path.read_text(encoding="utf-8"), 0)

    def _read(self, text: str, offset: int) -> None:
        tokens = MarkdownIt().parse(text)
        for index, token in enumerate(tokens):
            if token.map is None:
                continue
            line = token.map[0] + 1 + offset
            if token.type == "code_block":
                if _opener(tokens[:index]).startswith(INDENTING):
                    self._read(token.content, line - 1)
                else:
                    self.problems.append(f"{line}: indented block. Use a fence with a language.")
            elif token.type == "fence":
                self._add(token, line, tokens[index - 1] if index else None)

    def _add(self, fence: Token, line: int, above: Token | None) -> None:
        language = fence.info.strip()
        comment = _comment(above, fence)
        match = COMMENT.fullmatch(comment)
        if language not in RUNNABLE | SHOWN:
            self.problems.append(f"{line}: unknown language {language!r}. Use one of {sorted(RUNNABLE | SHOWN)}.")
        if comment and match is None:
            self.problems.append(f"{line}: unknown comment {comment!r}. Use slow or skip: REASON.")
        if language in RUNNABLE:
            slow, skip = (match[1] is not None, match[2] or "") if match else (False, "")
            self.blocks.append(Block(line, language, fence.content, slow, skip))


def _opener(tokens: Sequence[Token]) -> str:
    """The text of the paragraph above a block, or of the one above the last block of the same tab."""
    return next((token.content for token in reversed(tokens) if token.type == "inline"), "")


def _comment(above: Token | None, fence: Token) -> str:
    """The HTML comment that ends on the line above a fence, or ""."""
    if above is None or above.type != "html_block" or above.map is None or fence.map is None:
        return ""
    return above.content.strip() if above.map[1] == fence.map[0] else ""
