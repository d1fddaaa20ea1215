"""The page of an experiment and the index over experiments: one file each, no script, nothing loaded."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fathomlab.analysis.audit import audits
from fathomlab.analysis.compare import summary
from fathomlab.analysis.verdicts import verdicts as verdicts_on
from fathomlab.base.catalogue import check
from fathomlab.base.files import atomic_write
from fathomlab.base.problems import Problem
from fathomlab.config.schema import Claim
from fathomlab.report import accounts
from fathomlab.report.answers import answers
from fathomlab.report.claims import VERDICTS, card
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
    """An experiment in the index."""

    name: str
    title: str
    question: str
    summary: str
    finished: int
    failed: int
    pending: int
    link: str
    cause: str | None


class _Once(Store):
    """A store that reads each trial once: verdicts, audits and figures are about the same trials."""

    def __init__(self, store: Store):
        super().__init__(store.root)
        self._read = cache(store.trial)

    def trial(self, trial: str) -> TrialRecord:
        return self._read(trial)


def write_report(store: Store, experiment: str, verdicts: Sequence[Mapping[str, Any]] = ()) -> Path:
    """Write the page of one experiment and say where it is.

    Args:
        store: Where the records are.
        experiment: Its name.
        verdicts: On its claims; without any, they are computed.

    Raises:
        UserError: The store has no experiment of this name.
    """
    store = _Once(store)
    record = store.experiment(experiment)
    text = report_html(study(store, record), evidence(store, record, verdicts))
    path = record.folder / "report.html"
    atomic_write(path, text.encode(errors="replace"))
    return path


def write_index(store: Store) -> Path:
    """Write the index over all experiments and say where it is."""
    store = _Once(store)
    made = [_entry(store, study(store, record)) for record in store.experiments()]
    path = store.root / "index.html"
    store.root.mkdir(parents=True, exist_ok=True)
    text = _environment().get_template("index.html").render(entries=made, count=count)
    atomic_write(path, text.encode(errors="replace"))
    return path


def evidence(store: Store, record: ExperimentRecord, verdicts: Sequence[Mapping[str, Any]] = ()) -> Evidence:
    """Verdicts, audits and the numbers that the page carries for other programs; `problem` where claims cannot be judged."""
    claims = tuple(mapping(claim) for claim in record.claims)
    problem = _problem(record)
    if problem:
        return Evidence(tuple(verdicts or record.verdicts), (), claims, {}, problem)
    numbers, compared = summary(store, record), tuple(audits(store, record))
    found = tuple(verdicts or numbers["verdicts"] or record.verdicts)
    return Evidence(found, compared, claims, {**numbers, "verdicts": list(found)}, "")


def report_html(about: Study, known: Evidence) -> str:
    """The page as text: equal records give equal bytes."""
    context = {
        **sections(about, known),
        "question": question(about.experiment.yaml),
        "resolved": _yaml(about.experiment.resolved),
        "results": _embedded(known.numbers),
    }
    return _environment().get_template("report.html").render(context)


def question(yaml: str) -> str:
    """The question of an experiment file: what follows `Question:` in its leading comment, else its first line.

    Lines indented below it belong to it.
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


def _problem(record: ExperimentRecord) -> str:
    """Why the claims of a record cannot be judged; "" where they can."""
    problems: list[Problem] = []
    check(tuple[Claim, ...], list(record.claims), "claims", problems)
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
        question=question(record.yaml),
        summary=" ".join([*said, answers(about).summary]),
        finished=tally["finished"],
        failed=sum(tally[status] for status in accounts.BROKEN),
        pending=sum(tally[status] for status in accounts.PENDING),
        link=f"experiments/{quote(os.fsencode(record.name))}/report.html"
        if (record.folder / "report.html").is_file()
        else "",
        cause=record.cause,
    )


def _embedded(numbers: Mapping[str, Any]) -> str:
    """JSON that no HTML parser can mistake for markup."""
    text = json.dumps(numbers, ensure_ascii=True, separators=(",", ":"), default=entries) if numbers else ""
    return text.replace("<", "\\u003c")


def _yaml(resolved: Mapping[str, Any]) -> str:
    import yaml

    try:
        return yaml.safe_dump(dict(resolved), sort_keys=False, allow_unicode=True, width=100) if resolved else ""
    except RecursionError:
        return "Nested too deeply to be shown."


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
