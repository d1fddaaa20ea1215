"""The page of an experiment and the index of all experiments: one file each, no scripts, no network requests."""

import gc
import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, get_args
from urllib.parse import quote

from fathomlab.analysis.as_json import summary_json
from fathomlab.analysis.audit import Audit, audit
from fathomlab.analysis.study import FAILED_STATUSES, PENDING_STATUSES, Study, studies, study
from fathomlab.analysis.verdicts import Decision, Verdict, judge
from fathomlab.base.codec import JsonObject
from fathomlab.base.files import atomic_write
from fathomlab.report.charts import columns
from fathomlab.report.findings import finding
from fathomlab.report.numbers import capital, count, grouped
from fathomlab.report.section import Section
from fathomlab.report.sections import SECTIONS, failures
from fathomlab.report.students import mistake_warnings
from fathomlab.report.tuning import tuning_warnings
from fathomlab.report.warnings import teacher_warnings
from fathomlab.store.reading import Store
from fathomlab.store.records import ExperimentRecord

if TYPE_CHECKING:
    from jinja2 import Environment

REPORT = "report.html"


@dataclass(frozen=True)
class Content:
    """What `heading.html` and `sections.html` show of an experiment.

    Attributes:
        prefix: In front of every id.
        file: Name of the page's file, as a shell reads it.
        question: Its question; "" if it has none.
        run: Which run it is: name, quick run, date.
        tally: Number of trials with each status.
        pending: Number of trials without an outcome.
        failures: Trials without a result, in words; "" if there are none.
        results: Its numbers as JSON that is safe inside of a script element; "" if its claims cannot be evaluated.
    """

    prefix: str
    file: str
    experiment: ExperimentRecord
    question: str
    run: str
    tally: Counter[str]
    pending: int
    failures: str
    sections: tuple[Section, ...]
    results: str


@dataclass(frozen=True)
class Entry:
    """An experiment in the index.

    Attributes:
        run: Which run it is: name, quick run, date.
    """

    name: str
    title: str
    run: str
    quick: bool
    overrides: tuple[str, ...]
    question: str
    summary: str
    warnings: tuple[str, ...]
    finished: int
    diverged: int
    failed: int
    pending: int
    link: str
    cause: str | None
    outdated: bool


def write_report(store: Store, experiment: str) -> Path:
    """Write the page of one experiment and return its path.

    Raises:
        UserError: If the store has no experiment of this name.
    """
    record = store.experiment(experiment)
    read = study(store, record)
    path = record.folder / REPORT
    text = report_html(read, judged(read), () if read.problems else audit(read))
    atomic_write(path, text.encode(errors="replace"))
    return path


def write_index(store: Store) -> Path:
    """Write the index of all experiments and return its path."""
    entries = [_entry(study) for study in studies(store)]
    path = store.root / "index.html"
    store.root.mkdir(parents=True, exist_ok=True)
    text = render("index.html", entries=entries)
    atomic_write(path, text.encode(errors="replace"))
    return path


def report_html(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> str:
    """The page as text. Equal records give equal bytes.

    Args:
        study: The experiment.
        verdicts: On its claims, in the order of the file; empty if they cannot be evaluated.
        audits: Of the same claims.
    """
    return render("report.html", **vars(experiment_content(study, verdicts, audits)))


def experiment_content(
    study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit], prefix: str = "", file: str = REPORT
) -> Content:
    """What the templates show of an experiment; the arguments are as for `report_html`.

    Args:
        prefix: In front of every id, so that ids are unique on a page with several experiments.
        file: Name of the page's file.
    """
    sections = [build(study, verdicts, audits) for build in SECTIONS]
    tally = study.tally
    return Content(
        prefix=prefix,
        file=shlex.quote(file),
        experiment=study.experiment,
        question=study.experiment.question or question(study.experiment.yaml),
        run=run_label(study.experiment),
        tally=tally,
        pending=sum(tally[status] for status in PENDING_STATUSES),
        failures=failures.summary(study),
        sections=tuple(section for section in sections if section is not None),
        results="" if study.problems else _embedded(summary_json(study, verdicts)),
    )


def render(template: str, **values: object) -> str:
    """A page as text."""
    with _rare_collection():
        return _environment().get_template(template).render(values, columns=columns, count=count, grouped=grouped)


@contextmanager
def _rare_collection() -> Generator[None]:
    """Look for garbage rarely: charts are many objects, and looking as often as by default takes a fifth of their time."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 10, 10)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def question(yaml: str) -> str:
    """The question in the leading comment of an experiment file: the text after `Question:`, else the first line.

    Indented lines below it are part of it.
    """
    lines: list[str] = []
    for line in yaml.split("\n"):
        if not line.strip().startswith("#"):
            if line.strip():
                break
            continue
        if "yaml-language-server:" not in line:  # for editors
            lines.append(line.strip().removeprefix("#"))
    start = next((index for index, line in enumerate(lines) if line.strip().lower().startswith("question:")), None)
    if start is None:
        return capital(next((line.strip() for line in lines if line.strip()), ""))
    texts = [lines[start].split(":", 1)[1].strip()]
    for line in lines[start + 1 :]:
        if not line.startswith("     "):
            break
        texts.append(line.strip())
    return capital(" ".join(text for text in texts if text))


def run_label(record: ExperimentRecord) -> str:
    """Which run a page shows, to tell several pages apart: "1_2, quick run, 2026-11-22"."""
    date = record.created[:10] if re.fullmatch(r"\d{4}-\d\d-\d\d", record.created[:10]) else ""
    return ", ".join(filter(None, (record.name, "quick run" * record.quick, date)))


def judged(study: Study) -> tuple[Verdict, ...]:
    """The verdicts on its claims; empty if they cannot be evaluated."""
    return () if study.problems else judge(study)


def decisions(verdicts: Sequence[Verdict]) -> str:
    """Number of claims by verdict: "2 supported, 1 undecided"; "" without claims."""
    words = [verdict.decision for verdict in verdicts]
    return ", ".join(f"{words.count(decision)} {decision}" for decision in get_args(Decision) if decision in words)


def _entry(study: Study) -> Entry:
    record, tally = study.experiment, study.tally
    verdicts = judged(study)
    claims = [f"{capital(count(len(verdicts), 'claim'))}: {decisions(verdicts)}."] if verdicts else []
    return Entry(
        name=record.name,
        title=record.title or record.name,
        run=run_label(record),
        quick=record.quick,
        overrides=record.overrides,
        question=record.question or question(record.yaml),
        summary=" ".join([*claims, finding(study)]),
        warnings=(*mistake_warnings(study), *teacher_warnings(study), *tuning_warnings(study)),
        finished=tally["finished"],
        diverged=tally["diverged"],
        failed=sum(tally[status] for status in FAILED_STATUSES),
        pending=sum(tally[status] for status in PENDING_STATUSES),
        link=f"experiments/{quote(os.fsencode(record.name))}/report.html"
        if (record.folder / "report.html").is_file()
        else "",
        cause=record.cause,
        outdated=record.outdated,
    )


def _embedded(numbers: JsonObject) -> str:
    """JSON without characters that an HTML parser could read as markup."""
    return json.dumps(numbers, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")


@lru_cache(maxsize=1)
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
