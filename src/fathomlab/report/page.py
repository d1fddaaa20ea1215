"""The page of an experiment and the index of all experiments: one file each, no scripts, no network requests."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fathomlab.analysis.audit import audits
from fathomlab.analysis.compare import summary
from fathomlab.analysis.verdicts import verdicts as verdicts_on
from fathomlab.base.files import atomic_write
from fathomlab.base.options import parse
from fathomlab.base.problems import Problem
from fathomlab.config.schema import Claim
from fathomlab.report import accounts
from fathomlab.report.answers import summary as summary_of
from fathomlab.report.claims import VERDICTS, card
from fathomlab.report.distillation import teacher_warnings
from fathomlab.report.loose import entries, mapping
from fathomlab.report.numbers import capital, count
from fathomlab.report.sections import Evidence, sections
from fathomlab.report.study import Study, study
from fathomlab.store.reading import Store
from fathomlab.store.records import ExperimentRecord, TrialRecord

if TYPE_CHECKING:
    from jinja2 import Environment


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


class _Once(Store):
    """A store that reads each trial once, so that verdicts, audits, and figures agree."""

    def __init__(self, store: Store):
        super().__init__(store.root)
        self._read = cache(store.trial)

    def trial(self, trial: str) -> TrialRecord:
        return self._read(trial)


def write_report(store: Store, experiment: str, verdicts: Sequence[Mapping[str, Any]] = ()) -> Path:
    """Write the page of one experiment and return its path.

    Args:
        store: Results directory.
        experiment: Name of the experiment.
        verdicts: Verdicts on its claims. Computed if empty.

    Raises:
        UserError: If the store has no experiment of this name.
    """
    store = _Once(store)
    record = store.experiment(experiment)
    text = report_html(study(store, record), evidence(store, record, verdicts))
    path = record.folder / "report.html"
    atomic_write(path, text.encode(errors="replace"))
    return path


def write_index(store: Store) -> Path:
    """Write the index of all experiments and return its path."""
    store = _Once(store)
    made = [_entry(store, study(store, record)) for record in store.experiments()]
    path = store.root / "index.html"
    store.root.mkdir(parents=True, exist_ok=True)
    text = _environment().get_template("index.html").render(entries=made, count=count)
    atomic_write(path, text.encode(errors="replace"))
    return path


def evidence(store: Store, record: ExperimentRecord, verdicts: Sequence[Mapping[str, Any]] = ()) -> Evidence:
    """Verdicts, audits, and the machine-readable numbers of the page. `problem` says why claims could not be evaluated."""
    claims = tuple(mapping(claim) for claim in record.claims)
    problem = _problem(record)
    if problem:
        return Evidence(tuple(verdicts or record.verdicts), (), claims, {}, problem)
    numbers, compared = summary(store, record), tuple(audits(store, record))
    found = tuple(verdicts or numbers["verdicts"] or record.verdicts)
    return Evidence(found, compared, claims, {**numbers, "verdicts": list(found)}, "")


def report_html(about: Study, known: Evidence) -> str:
    """The page as text. Equal records give equal bytes."""
    context = {
        **sections(about, known),
        "question": about.experiment.question or question(about.experiment.yaml),
        "run": run_label(about.experiment),
        "resolved": _yaml(about.experiment.resolved),
        "results": _embedded(known.numbers),
    }
    return _environment().get_template("report.html").render(context)


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
        lines.append(line.strip().removeprefix("#"))
    place = next((place for place, line in enumerate(lines) if line.strip().lower().startswith("question:")), None)
    if place is None:
        found = next((line.strip() for line in lines if line.strip()), "")
        return found[:1].upper() + found[1:]
    asked = [lines[place].split(":", 1)[1].strip()]
    for line in lines[place + 1 :]:
        if not line.startswith("     "):
            break
        asked.append(line.strip())
    found = " ".join(text for text in asked if text)
    return found[:1].upper() + found[1:]


def run_label(record: ExperimentRecord) -> str:
    """Which run a page shows, to tell several pages apart: "1_2, quick run, 2026-11-22"."""
    date = record.created[:10] if re.fullmatch(r"\d{4}-\d\d-\d\d", record.created[:10]) else ""
    return ", ".join(filter(None, (record.name, "quick run" * record.quick, date)))


def _problem(record: ExperimentRecord) -> str:
    """Why the claims of a record cannot be evaluated; "" if they can."""
    problems: list[Problem] = []
    parse(tuple[Claim, ...], list(record.claims), "claims", problems)
    return "; ".join(map(str, problems))


def _entry(store: Store, about: Study) -> Entry:
    record, tally = about.experiment, accounts.tally(about)
    judged = record.verdicts if _problem(record) else verdicts_on(store, record) or record.verdicts
    kinds = [card(verdict, {}).kind for verdict in judged]
    counts = [f"{kinds.count(kind)} {kind}" for kind in VERDICTS if kind in kinds]
    said = [f"{capital(count(len(kinds), 'claim'))}: {', '.join(counts)}."] if kinds else []
    return Entry(
        name=record.name,
        title=record.title,
        run=run_label(record),
        quick=record.quick,
        overrides=record.overrides,
        question=record.question or question(record.yaml),
        summary=" ".join([*said, summary_of(about)]),
        warnings=tuple(teacher_warnings(about)),
        finished=tally["finished"],
        diverged=tally["diverged"],
        failed=sum(tally[status] for status in accounts.BROKEN),
        pending=sum(tally[status] for status in accounts.PENDING),
        link=f"experiments/{quote(os.fsencode(record.name))}/report.html"
        if (record.folder / "report.html").is_file()
        else "",
        cause=record.cause,
    )


def _embedded(numbers: Mapping[str, Any]) -> str:
    """JSON without characters that an HTML parser could read as markup."""
    text = json.dumps(numbers, ensure_ascii=True, separators=(",", ":"), default=entries) if numbers else ""
    return text.replace("<", "\\u003c")


def _yaml(resolved: Mapping[str, Any]) -> str:
    import yaml

    try:
        return yaml.safe_dump(dict(resolved), sort_keys=False, allow_unicode=True, width=100) if resolved else ""
    except RecursionError:
        return "Nested too deeply to show."


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
