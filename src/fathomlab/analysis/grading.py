"""What a store or a report page shows about an experiment, in one row, for a table over many students."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fathomlab.analysis.compare import ConditionSummary
from fathomlab.analysis.edits import option_values
from fathomlab.analysis.grades import ClaimGrade, Environments, Grade, Graded
from fathomlab.analysis.recorded import read_trials
from fathomlab.analysis.study import Study, study
from fathomlab.analysis.verdicts import judge
from fathomlab.base.codec import JsonObject, from_plain, to_plain
from fathomlab.base.identity import content_hash
from fathomlab.store.maintenance import Problem
from fathomlab.store.provenance import Provenance
from fathomlab.store.reading import Store
from fathomlab.store.records import TERMINAL_STATUSES, ExperimentRecord

DIGITS = 12  # of a digest


@dataclass(frozen=True)
class _PageVerdict:
    """A verdict as a page embeds it."""

    name: str
    verdict: str
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    metric: str = ""
    kind: str = "difference"
    exploratory: bool = False
    seeds_added_after_results: bool = False


@dataclass(frozen=True)
class _PageExperiment:
    """The numbers of an experiment as a page embeds them."""

    name: str
    title: str = ""
    seeds: tuple[int, ...] = ()
    claims_hash: str = ""
    conditions: tuple[ConditionSummary, ...] = ()
    verdicts: tuple[_PageVerdict, ...] = ()


def grade_store(store: Store, label: str, kind: str, problems: Sequence[Problem]) -> Iterator[Graded]:
    """A row per experiment of a store, whatever its files contain.

    Args:
        store: The store.
        label: Its name in the table.
        kind: `store` or `archive`.
        problems: What `store check` reports about it.
    """
    records = store.experiments()
    if not records:
        yield Graded(Grade(label, kind, damaged=_damaged(store, problems, None), problem="contains no experiments"))
    for record in records:
        damaged = _damaged(store, problems, record)
        if record.cause is not None:
            yield Graded(Grade(label, kind, record.name, damaged=damaged, problem=record.cause))
            continue
        try:
            yield _grade(study(store, record), label, kind, damaged)
        except Exception as error:  # a record may contain anything, and one must not hide the others
            reason = f"cannot be evaluated ({type(error).__name__})"
            yield Graded(Grade(label, kind, record.name, damaged=damaged, problem=reason))


def grade_page(document: JsonObject, label: str) -> Graded:
    """The row of an experiment on a report page, with the numbers that the page states.

    Raises:
        ValueError: If these are not the numbers of a report.
    """
    page = from_plain(_PageExperiment, document)
    trials = [trial for trial in read_trials(document["trials"]) if trial.status] if "trials" in document else []
    counts = Counter[str]()
    for condition in page.conditions:
        counts.update(condition.trials)
    grade = Grade(
        store=label,
        kind="page",
        experiment=page.name,
        title=page.title,
        quick="-quick-" in page.name,
        conditions=len(page.conditions),
        seeds=page.seeds,
        claims=tuple(
            ClaimGrade(
                item.name, item.verdict, _finite(item.effect), _finite(item.low), _finite(item.high), _unit(item)
            )
            for item in page.verdicts
        ),
        claims_hash=page.claims_hash,
        claims_after_results=any(item.exploratory for item in page.verdicts),
        seeds_after_results=any(item.seeds_added_after_results for item in page.verdicts),
        environments=_environments(trial.provenance for trial in trials),
    )
    return Graded(
        _counted(grade, counts),
        option_values(trial.content for trial in trials),
        frozenset(trial.trial for trial in trials),
    )


def _grade(read: Study, label: str, kind: str, damaged: tuple[str, ...]) -> Graded:
    record = read.experiment
    verdicts = () if read.problems else judge(read)
    members = {trial.trial: trial for _, _, trial in read.trials}
    trials = [trial for trial in members.values() if trial.status in TERMINAL_STATUSES]
    claims = (ClaimGrade(item.claim.name, item.decision, *_effect(item.effect), _unit(item.claim)) for item in verdicts)
    grade = Grade(
        store=label,
        kind=kind,
        experiment=record.name,
        title=record.title,
        quick=record.quick,
        overrides=record.overrides,
        conditions=len(record.conditions),
        seeds=record.seeds,
        claims=tuple(claims),
        claims_hash=claims_hash(record),
        claims_after_results=record.claims_late,
        seeds_after_results=read.looks.changed,
        damaged=damaged,
        environments=_environments(trial.provenance for trial in trials),
        problem="; ".join(map(str, read.problems)),
    )
    counts = Counter(trial.status for trial in members.values())
    return Graded(
        _counted(grade, counts),
        option_values(trial.content for trial in trials),
        frozenset(trial.trial for trial in trials),
    )


def claims_hash(record: ExperimentRecord) -> str:
    """Hash of the claims that a record contains, whatever hash it states."""
    claims = list(record.claims)
    return content_hash(claims if record.tune is None else [claims, to_plain(record.tune)])


def _counted(grade: Grade, statuses: Mapping[str, int]) -> Grade:
    """The row with its numbers of trials by status."""
    finished, diverged, failed = (statuses.get(name, 0) for name in ("finished", "diverged", "failed"))
    total = sum(statuses.values())
    missing = total - finished - diverged - failed
    return replace(grade, trials=total, finished=finished, diverged=diverged, failed=failed, missing=missing)


def _effect(effect: Any) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if effect is None else (_finite(effect.mean), _finite(effect.low), _finite(effect.high))


def _unit(claim: Any) -> str:
    return "points" if claim.kind == "success" or claim.metric.endswith("accuracy") else "nats"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _damaged(store: Store, problems: Iterable[Problem], record: ExperimentRecord | None) -> tuple[str, ...]:
    """The damaged files that concern an experiment: its record, its trials, and what trials share; all if it is None."""
    members = {pair.trial for condition in record.conditions for pair in condition.trials} if record else set[str]()
    texts: list[str] = []
    for problem in problems:
        parts = problem.path.relative_to(store.root).parts
        of_another = parts[0] == "experiments" and record is not None and parts[1:2] != (record.name,)
        of_another |= parts[0] == "trials" and bool(members) and parts[1] not in members
        if not of_another:
            texts.append(f"{'/'.join(part[:DIGITS] for part in parts)}: {problem.problem}")
    return tuple(texts)


def _environments(provenances: Iterable[Provenance]) -> Environments:
    rows = [_environment(provenance) for provenance in provenances]
    names = Environments.__dataclass_fields__
    return Environments(**{name: tuple(sorted({row[name] for row in rows if row[name]})) for name in names})


def _environment(provenance: Provenance) -> dict[str, str]:
    hardware, git, data = provenance.hardware, provenance.git, provenance.data
    code = [f"fathomlab {provenance.versions['fathomlab']}"] if "fathomlab" in provenance.versions else []
    code += [f"commit {git.commit[:DIGITS]}{' with changes' if git.dirty else ''}"] if git and git.commit else []
    digest = (provenance.environment or {}).get("code")
    code += [f"code {digest[:DIGITS]}"] if isinstance(digest, str) else []
    return {
        "torch": provenance.versions.get("torch", ""),
        "processor": (hardware and hardware.cpu) or "",
        "device": (hardware and provenance.device == "cuda" and hardware.gpu) or provenance.device or "",
        "backend": provenance.backend.name if provenance.backend else "",
        "code": ", ".join(code),
        "modified_data": ", ".join(data.unofficial) if data else "",
    }
