"""Runs the blocks of a page in one folder, as a reader of the page would."""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

import fathomlab
from fathomlab.cli import main
from tests.documentation.blocks import Block, Page

COMMENT = re.compile(r"(?:^|\s)#.*")  # `#` inside of a word is no comment
SHELL_CHARACTERS = frozenset("|&;<>()$`\\*?[#~!{}\n")
TIMEOUT_SECONDS = 900
EXPERIMENT = "experiment.yaml"  # the name of an experiment file whose first line names none


class BlockError(AssertionError):
    """A block failed. The message names its page and line and contains what it printed."""


class Session:
    """One page: a folder, the names that its Python blocks define, and the number of trials of each experiment file.

    Args:
        page: The page.
        name: How messages name it.
        slow: Whether slow blocks run.
        folder: Where they run; the working directory.
        script: A file for the Python blocks, each at its line of the page, so that tracebacks show line and source.
    """

    def __init__(self, page: Page, name: str, slow: bool, folder: Path, script: Path):
        self.path, self.page_blocks, self.name, self.folder = page.path, page.blocks, name, folder
        self.blocks = [block for block in page.blocks if not block.skip and (slow or not block.slow)]
        self.planned: list[int] = []
        self.module = ModuleType(script.stem)
        self.module.__file__ = str(script)
        lines: list[str] = []
        for block in self.blocks:
            if _is_script(block):
                lines += [""] * (block.line - len(lines)) + block.text.splitlines()
        script.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def run(self) -> None:
        """Run all blocks.

        Raises:
            BlockError: If one fails.
        """
        sys.modules[self.module.__name__] = self.module  # dataclasses and the source of a class are looked up by module
        for block in self.blocks:
            output = io.StringIO()
            try:
                with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                    self._run_block(block, output)
            except (Exception, SystemExit) as error:
                reason = "".join(traceback.format_exception_only(error)).strip()
                raise BlockError(f"{self.name}:{block.line}: {reason}\n{block.text}\n{output.getvalue()}") from error

    def _run_block(self, block: Block, output: io.StringIO) -> None:
        if block.file_name:
            (self.folder / block.file_name).write_text(block.text, encoding="utf-8")
        if block.language == "yaml":
            file = block.file_name or EXPERIMENT
            (self.folder / file).write_text(block.text, encoding="utf-8")
            self.planned.append(len(fathomlab.load(file).trials))
        elif block.language == "bash":
            self._run_commands(block, output)
        elif _is_script(block):
            text = "\n" * block.line + block.text
            exec(compile(text, str(self.module.__file__), "exec", dont_inherit=True), self.module.__dict__)

    def _run_commands(self, block: Block, output: io.StringIO) -> None:
        """Run a block in bash; if it contains nothing but calls of fathomlab, in this process, which is faster."""
        commands = _plain_commands(block.text)
        for command in commands:
            output.write(f"$ fathomlab {shlex.join(command)}\n")
            _fathomlab(command)
        if commands:
            return
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        output.write(result.stdout)
        if result.returncode:
            raise BlockError(f"exit status {result.returncode}")


def _is_script(block: Block) -> bool:
    return block.language == "python" and not block.file_name


def _plain_commands(text: str) -> list[list[str]]:
    """The arguments of fathomlab in each line, or nothing if a line is another command or needs a shell."""
    try:
        lines = [words for line in text.splitlines() if (words := shlex.split(COMMENT.sub("", line)))]
    except ValueError:  # a quotation of several lines
        return []
    plain = all(words[0] == "fathomlab" and not SHELL_CHARACTERS & set(shlex.join(words)) for words in lines)
    return [words[1:] for words in lines] if plain else []


def _fathomlab(arguments: list[str]) -> None:
    try:
        main(arguments)
    except SystemExit as end:
        if end.code:
            raise BlockError(f"fathomlab {shlex.join(arguments)}: exit status {end.code}") from None


def environment(folder: Path) -> dict[str, Any]:
    """Variables of a block: an empty home, no results or data of the developer, no network, `fathomlab` on the path."""
    return {
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder / "data"),
        "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR", str(Path.home() / ".cache" / "matplotlib")),
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
        "FATHOMLAB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
