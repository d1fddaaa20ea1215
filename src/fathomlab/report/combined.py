"""Several experiments on one page, to be handed in: title block, summary, and the sections of each experiment."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from fathomlab.analysis.audit import audit
from fathomlab.analysis.study import Study, study
from fathomlab.base.errors import UserError, format_value
from fathomlab.base.files import atomic_write
from fathomlab.base.output import invalid_text_reason
from fathomlab.report.findings import finding
from fathomlab.report.nodes import without_node_names
from fathomlab.report.page import Content, decisions, experiment_content, judged, render
from fathomlab.report.sections.trials import SHOWN_DIGITS, Trials
from fathomlab.store.reading import Store

MARK = '<meta name="generator" content="fathomlab">'
HEAD_BYTES = 2048
MAX_NAME = 200


@dataclass(frozen=True)
class TitleBlock:
    """Who hands in the page, and for what.

    Attributes:
        authors: Names, in order.
        course: Name of the course; "" if there is none.
        date: Date of the page.
    """

    authors: tuple[str, ...]
    course: str
    date: date


@dataclass(frozen=True)
class Part:
    """An experiment of the page.

    Attributes:
        content: Its heading and sections.
        finding: What was found, in one sentence.
        verdicts: Number of claims by verdict, in words; "" without claims.
    """

    content: Content
    finding: str
    verdicts: str


def title_block(authors: Sequence[str], course: str, day: date) -> TitleBlock:
    """The title block of these names, without superfluous spaces.

    Raises:
        UserError: If a name is empty, is too long, or contains control characters.
    """
    names = tuple(_name("--author", author) for author in authors)
    return TitleBlock(names, _name("--course", course) if course else "", day)


def write_combined(store: Store, names: Sequence[str], target: Path, block: TitleBlock) -> Path:
    """Write one page with several experiments.

    Args:
        store: The store.
        names: The experiments, in the order of the page.
        target: The file to write; replaced if it is a report.
        block: Who hands it in.

    Raises:
        UserError: If the target exists and is not a report, or cannot be written; if an experiment is named twice, does not
            exist, is corrupted, or has an older format.
    """
    check_target(target, store.root)
    if repeated := [name for index, name in enumerate(names) if name in names[:index]]:
        raise UserError("duplicate-experiment", f"{repeated[0]}: named twice. Name each experiment once.")
    records = [store.readable(name) for name in names]
    text = combined_html([study(store, record) for record in records], block, target.name)
    try:
        atomic_write(target, text.encode(errors="replace"))
    except OSError as error:
        raise UserError("unwritable", f"{target}: cannot be written: {error.strerror or error}.") from None
    return target


def combined_html(studies: Sequence[Study], block: TitleBlock, file: str) -> str:
    """The page as text, without the names of nodes. Equal records give equal bytes.

    Args:
        studies: The experiments, in order.
        block: Who hands it in.
        file: Name of the page's file.
    """
    taken: set[str] = set()
    parts: list[Part] = []
    for number, read in enumerate(without_node_names(studies), start=1):
        verdicts = judged(read)
        content = experiment_content(read, verdicts, () if read.problems else audit(read), f"e{number}-", file)
        parts.append(Part(_without_ids(content, taken), finding(read), decisions(verdicts)))
        taken.update(trial.trial[:SHOWN_DIGITS] for _, _, trial in read.trials)
    return render("combined.html", block=block, parts=parts)


def check_target(target: Path, root: Path) -> None:
    """Check that a page can be written without replacing anything but a page that is handed in.

    Raises:
        UserError: If the name does not end in `.html`, the directory is missing, the file is not a report, or it is one of the
            results directory `root`, which the next report would replace.
    """
    if target.suffix.lower() not in (".html", ".htm"):
        raise UserError("invalid-option", f"--combine must name an .html file, got {format_value(str(target))}.")
    if not target.parent.is_dir():
        raise UserError("no-such-directory", f"{target.parent}: no such directory. Create it first.")
    page, store = target.resolve(), root.resolve()
    if page == store / "index.html" or any(store / name in page.parents for name in ("experiments", "trials")):
        text = f"{target}: belongs to the results directory. Name a file elsewhere with --combine."
        raise UserError("target-exists", text)
    if not (target.exists() or target.is_symlink()):
        return
    head = b""
    if target.is_file() and not target.is_symlink():
        with open(target, "rb") as file:
            head = file.read(HEAD_BYTES)
    if MARK.encode() not in head:
        text = f"{target}: exists and is not a fathomlab report, so it is not replaced."
        raise UserError("target-exists", f"{text} Name another file with --combine.")


def _without_ids(content: Content, taken: set[str]) -> Content:
    """The content without the ids of trials that an experiment before it contains, too."""
    sections = tuple(
        replace(section, content=section.content.without_ids(taken)) if isinstance(section.content, Trials) else section
        for section in content.sections
    )
    return replace(content, sections=sections)


def _name(option: str, text: str) -> str:
    name = " ".join(text.split())
    if not name:
        raise UserError("invalid-option", f"{option} must not be empty.")
    if len(name) > MAX_NAME:
        raise UserError("invalid-option", f"{option} must have at most {MAX_NAME} characters, got {len(name)}.")
    if reason := invalid_text_reason(name):
        raise UserError("invalid-option", f"{option} {reason}. Use plain text.")
    return name
