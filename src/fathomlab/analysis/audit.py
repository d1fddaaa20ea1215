"""The fairness audit: what differs between the levels of a claim in addition to the factor."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Any

from fathomlab.base.labels import dotted, level_text
from fathomlab.base.options import parse
from fathomlab.config.load import check_claims
from fathomlab.config.schema import Claim
from fathomlab.models import MODELS
from fathomlab.store.reading import Store
from fathomlab.store.records import ConditionRecord, ExperimentRecord, TrialRecord

Row = dict[str, Any]
NOTICED = 1.1  # smaller ratios of wall times are noise of the machine
PROVENANCE = (
    ("device", "device"),
    ("gpu", "hardware.gpu"),
    ("cpu", "hardware.cpu"),
    ("threads", "threads"),
    ("matmul precision", "precision"),
    ("PyTorch version", "versions.torch"),
    ("commit", "git.commit"),
    ("compiled", "compiled"),
    ("pack size", "pack.size"),
)
OF_THE_PROGRAM = ("compiled", "pack size")


@dataclass(frozen=True)
class Group:
    """The trials of one level, and its seeds."""

    trials: tuple[TrialRecord, ...]
    seeds: tuple[int, ...]


def audits(store: Store, experiment: ExperimentRecord) -> list[dict[str, Any]]:
    """For each claim, in the file's order: its name, the two levels, the rows, and a one-sentence summary.

    A row is `{"what", "first", "second", "differs", "expected"}`: display texts, and whether a difference follows from the
    factor itself (a deeper network has more parameters). A trend is audited between its first and last level. A level that is
    compared with a number has no rows.
    """
    read = cache(store.trial)
    made = []
    for claim in check_claims(list(experiment.claims)):
        if len(claim.levels) < 2:
            made.append(
                {
                    "name": claim.name,
                    "levels": [],
                    "rows": [],
                    "summary": "Compared with a fixed number; nothing to audit.",
                }
            )
            continue
        ends = (claim.levels[0], claim.levels[-1])
        rows = audit_rows(_full(experiment, claim.factor), *(_group(read, experiment, claim, level) for level in ends))
        made.append(
            {
                "name": claim.name,
                "levels": [level_text(level) for level in ends],
                "rows": rows,
                "summary": summed_up(rows),
            }
        )
    return made


def audit_rows(factor: str, first: Group, second: Group) -> list[Row]:
    """All rows of one comparison; options that agree share one row."""
    if not first.trials or not second.trials:
        return []
    options, same = _options(factor, first, second)
    data_differ = any(row["what"].startswith("data.") for row in options)
    rows = [
        *options,
        _row("all other options", f"{same} identical", f"{same} identical", False, True),
        _row("seeds", _listed(sorted(set(first.seeds))), _listed(sorted(set(second.seeds)))),
        _order(factor, first, second, data_differ),
        _compared("parameters", first, second, lambda trial: trial.parameters, _touches(factor, "model", "role")),
        _compared("epochs", first, second, _epochs, _touches(factor, "epochs")),
        _compared("updates", first, second, _updates, _touches(factor, "epochs", "data")),
        _compared("data files", first, second, _files, _touches(factor, "data")),
    ]
    program = _touches(factor, "model", "training", "role", "data")
    for what, key in PROVENANCE:
        expected = (what in OF_THE_PROGRAM and program) or (key == "precision" and _touches(factor, "precision"))
        rows.append(_compared(what, first, second, lambda trial, key=key: _at(trial.provenance, key), expected))
    rows.append(_compared("test-set evaluations", first, second, _reads, False))
    return [*rows, *_fates(first, second), _times(first, second)]


def summed_up(rows: Sequence[Row]) -> str:
    """The rows as a sentence: what differs in addition to the factor and its direct consequences.

    Example:
        >>> summed_up([{"what": "epochs", "first": "1", "second": "2", "differs": True, "expected": False}])
        '1 unexpected difference: epochs (1 vs. 2).'
    """
    if not rows:
        return "No trials to compare."
    differences = [
        f"{row['what']} ({row['first']} vs. {row['second']})" for row in rows if row["differs"] and not row["expected"]
    ]
    if not differences:
        return "Only the factor and its direct consequences differ."
    plural = "" if len(differences) == 1 else "s"
    return f"{len(differences)} unexpected difference{plural}: {', '.join(differences)}."


def _group(read: Callable[[str], TrialRecord], experiment: ExperimentRecord, claim: Claim, level: Any) -> Group:
    conditions: list[ConditionRecord] = [
        condition
        for condition in experiment.conditions
        if claim.selects({"role": condition.role, **condition.factors}, level, experiment.fixed)
    ]
    pairs = [pair for condition in conditions for pair in condition.trials]
    return Group(tuple(read(trial) for _, trial in pairs), tuple(seed for seed, _ in pairs))


def _options(factor: str, first: Group, second: Group) -> tuple[list[Row], int]:
    """A row for each option of the trials whose values differ between the levels, and how many options agree."""
    sides = [_values(dotted(trial.content) for trial in group.trials) for group in (first, second)]
    rows, same = [], 0
    for key in dict.fromkeys(key for side in sides for key in side):
        one, other = (side.get(key, {}) for side in sides)
        if key in ("seed", "format", "") or set(one) == set(other):
            same += key not in ("seed", "format", "")
            continue
        expected = _follows(factor, key) or _unused(key, first, second) or _unused(key, second, first)
        rows.append(_row(key, _listed(one.values()), _listed(other.values()), expected=expected))
    return rows, same


def _values(contents: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Option -> the values that it takes, once each, in order of appearance."""
    found: dict[str, dict[str, str]] = {}
    for content in contents:
        for key, value in content.items():
            found.setdefault(key, {}).setdefault(repr(value), level_text(value))
    return found


def _follows(factor: str, key: str) -> bool:
    """Whether an option is the factor itself, or an option of the component that the factor names."""
    if factor == "role":
        return key.split(".")[0] in ("teacher", "distillation", "model")
    section, _, last = _sectioned(factor).rpartition(".")
    named = f"{last}_params" in key.split(".") or (last in ("type", "name") and key.startswith(f"{section}.params."))
    own = [_sectioned(factor)] + [f"teacher.{_sectioned(factor)}"] * factor.startswith(("teacher_", "training_teacher"))
    return named or key in own


def _unused(key: str, group: Group, other: Group) -> bool:
    """Whether a model option does nothing at one level, so that its value there says nothing.

    Plain networks ignore how residual branches start, for example, and their trials hold the default.
    """
    prefix, _, name = key.rpartition(".")
    if not prefix.endswith("model.params"):
        return False
    path = prefix.removesuffix(".params")
    values = [_at(trial.content, key) for trial in other.trials]
    return all(_ignores(_at(trial.content, path), name, value) for trial in group.trials for value in values)


def _ignores(model: Any, name: str, value: Any) -> bool:
    component = MODELS.get(str(model.get("type"))) if isinstance(model, Mapping) else None
    if component is None:
        return False
    options = parse(component, {**model.get("params", {}), name: value}, "", [])
    return isinstance(options, component) and name in dict(options.ignored())


def _touches(factor: str, *words: str) -> bool:
    """Whether a factor is, or belongs to, one of these."""
    return bool(set(_sectioned(factor).split(".")) & set(words))


def _sectioned(factor: str) -> str:
    """A factor as trials name it: a student's and a teacher's sections are `model` and `training`."""
    section, _, rest = factor.partition(".")
    names = {"student_model": "model", "teacher_model": "model"}
    section = names.get(section, section.removesuffix("_student").removesuffix("_teacher"))
    return f"{section}.{rest}" if rest else section


def _full(experiment: ExperimentRecord, factor: str) -> str:
    """The full dotted key of a factor that a claim names by its ending."""
    known = dict.fromkeys(key for condition in experiment.conditions for key in condition.factors)
    return next((key for key in known if key == factor or key.endswith(f".{factor}")), factor)


def _order(factor: str, first: Group, second: Group, data_differ: bool) -> Row:
    """Images, split, order, and augmentation depend on the seed only, if the data section and the seeds agree."""
    same = not data_differ and set(first.seeds) == set(second.seeds)
    text = "identical for both levels (one random stream per seed)" if same else "different"
    return _row("image order", text, text, not same, _touches(factor, "data"))


def _compared(
    what: str, first: Group, second: Group, value: Callable[[TrialRecord], Any], expected: bool = False
) -> Row:
    one, other = (
        {level_text(known) for trial in group.trials if (known := value(trial)) is not None}
        for group in (first, second)
    )
    return _row(what, _listed(sorted(one)), _listed(sorted(other)), one != other, expected)


def _fates(first: Group, second: Group) -> list[Row]:
    """Missing trials are information: they are counted at each level."""
    rows = []
    for status, what in (("failed", "failed trials"), ("diverged", "diverged trials")):
        counts = [sum(trial.status == status for trial in group.trials) for group in (first, second)]
        one, other = (f"{count} of {len(group.trials)}" for count, group in zip(counts, (first, second), strict=True))
        rows.append(_row(what, one, other, counts[0] != counts[1]))
    return rows


def _times(first: Group, second: Group) -> Row:
    """Wall time is a consequence of the factor or of the machine, never a cause: it is never an unexpected difference."""
    means = [_mean(trial.seconds for trial in group.trials) for group in (first, second)]
    known = [mean for mean in means if mean]
    differs = len(known) == 2 and max(known) > NOTICED * min(known)
    one, other = ("" if mean is None else f"{mean:.3g}" for mean in means)
    return _row("seconds per trial", one, other, differs, True)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _epochs(trial: TrialRecord) -> Any:
    return max((int(value) for value in trial.curves.get("epoch", []) if value is not None), default=None)


def _updates(trial: TrialRecord) -> Any:
    return max((int(value) for value in trial.curves.get("step", []) if value is not None), default=None)


def _files(trial: TrialRecord) -> Any:
    files = _at(trial.provenance, "data.files")
    if not isinstance(files, Mapping):
        return None
    return ", ".join(f"{name} {str(digest)[:8]}" for name, digest in sorted(files.items()))


def _reads(trial: TrialRecord) -> Any:
    """How many sets of weights were measured on the test set."""
    logged = sum(value is not None for value in trial.curves.get("test/accuracy", []))
    after = sum(trial.metrics.get(name) is not None for name in ("test/accuracy", "best/test/accuracy"))
    return logged + after if trial.status == "finished" else None


def _at(about: Mapping[str, Any], path: str) -> Any:
    value: Any = about
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _listed(values: Iterable[Any]) -> str:
    texts = [str(value) for value in values]
    return ", ".join(texts) if len(texts) <= 12 else f"{', '.join(texts[:11])} and {len(texts) - 11} more"


def _row(what: str, first: str, second: str, differs: bool | None = None, expected: bool = False) -> Row:
    apart = first != second if differs is None else differs
    return {"what": what, "first": first, "second": second, "differs": apart, "expected": expected}
