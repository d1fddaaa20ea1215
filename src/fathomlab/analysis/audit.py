"""The fairness audit: what differs between the levels of a claim in addition to the factor."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from fathomlab.analysis.expected import follows, is_unused, options_with_parents, touches, was_tuned
from fathomlab.analysis.study import Study
from fathomlab.base.codec import JsonObject
from fathomlab.base.errors import ConfigError
from fathomlab.base.labels import format_level
from fathomlab.config.claims import Claim
from fathomlab.store.records import TrialRecord

MIN_TIME_RATIO = 1.1  # smaller ratios of wall times are noise of the machine
PROVENANCE = (
    ("device", "device"),
    ("gpu", "hardware.gpu"),
    ("cpu", "hardware.cpu"),
    ("threads", "threads"),
    ("matmul precision", "precision"),
    ("PyTorch version", "versions.torch"),
    ("commit", "git.commit"),
    ("backend", "backend.name"),
    ("pack size", "pack.size"),
)


@dataclass(frozen=True)
class Finding:
    """A property of the trials at two levels.

    Attributes:
        property: What is compared, such as `epochs`.
        first: Its values at the first level, as text.
        second: Its values at the second level, as text.
        differs: Whether they differ.
        expected: Whether a difference follows from the factor itself (a deeper network has more parameters).
    """

    property: str
    first: str
    second: str
    differs: bool
    expected: bool = False


@dataclass(frozen=True)
class Audit:
    """The comparison of two levels of a claim.

    Attributes:
        claim: Name of the claim.
        levels: The two levels, as text; empty if the claim compares one level with a number.
        findings: Empty if there is nothing to compare.
    """

    claim: str
    levels: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def unexpected(self) -> list[Finding]:
        """The differences that do not follow from the factor."""
        return [finding for finding in self.findings if finding.differs and not finding.expected]


@dataclass(frozen=True)
class _Group:
    """The trials of one level.

    Attributes:
        options: Those of each trial by dotted key, those of its parents included.
        roles: Of its conditions.
        tuned: The factors that were tuned for its conditions.
        longer: Whether the epochs of a role spend the compute of another one.
    """

    trials: tuple[TrialRecord, ...]
    seeds: tuple[int, ...]
    options: tuple[JsonObject, ...]
    roles: tuple[str, ...]
    tuned: tuple[str, ...]
    longer: bool


def audit(study: Study) -> tuple[Audit, ...]:
    """An audit of each claim, in the order of the file. A trend is audited between its first and last level.

    Raises:
        ConfigError: If the claims cannot be evaluated.
    """
    if study.problems:
        raise ConfigError("the experiment's record", study.problems)
    return tuple(_audit(study, claim) for claim in study.claims)


def summarize(audit: Audit) -> str:
    """What differs in addition to the factor and its direct consequences, as a sentence.

    Example:
        >>> summarize(Audit("a", ("true", "false"), (Finding("epochs", "1", "2", differs=True),)))
        '1 unexpected difference: epochs (1 vs. 2).'
    """
    if not audit.levels:
        return "Compared with a fixed number; nothing to audit."
    if not audit.findings:
        return "No trials to compare."
    differences = [f"{item.property} ({item.first or 'none'} vs. {item.second or 'none'})" for item in audit.unexpected]
    if not differences:
        return "Only the factor and its direct consequences differ."
    plural = "" if len(differences) == 1 else "s"
    return f"{len(differences)} unexpected difference{plural}: {', '.join(differences)}."


def _audit(study: Study, claim: Claim) -> Audit:
    if len(claim.levels) < 2:
        return Audit(claim.name, (), ())
    ends = (claim.levels[0], claim.levels[-1])
    first, second = (_group(study, claim, level) for level in ends)
    findings = _findings(_full_key(study, claim.factor), first, second) if first.trials and second.trials else ()
    return Audit(claim.name, tuple(format_level(level) for level in ends), tuple(findings))


def _group(study: Study, claim: Claim, level: Any) -> _Group:
    conditions = study.selected(claim, level)
    pairs = [pair for condition in conditions for pair in condition.trials]
    contents = {trial.trial: trial.content for _, _, trial in study.trials}
    options = tuple(options_with_parents(trial.content, contents) for _, trial in pairs)
    roles = tuple(dict.fromkeys(condition.record.role for condition in conditions))
    tuned = [key for condition in conditions if condition.choice for key in condition.choice.picked.levels]
    longer = claim.factor == "role" and any(role in study.experiment.equal_compute for role in roles)
    trials, seeds = tuple(trial for _, trial in pairs), tuple(seed for seed, _ in pairs)
    return _Group(trials, seeds, options, roles, tuple(dict.fromkeys(tuned)), longer)


def _findings(factor: str, first: _Group, second: _Group) -> list[Finding]:
    """All findings of one comparison; options that agree share one."""
    options, same = _options(factor, first, second)

    def touched(*names: str) -> bool:
        """Whether the factor or a tuned one is, or belongs to, one of these."""
        return any(touches(key, *names) for key in (factor, *first.tuned, *second.tuned))

    longer = first.longer or second.longer
    data_differ = any(finding.property.startswith("data.") for finding in options)
    findings = [
        *options,
        Finding("all other options", f"{same} identical", f"{same} identical", differs=False, expected=True),
        _finding("seeds", _listed(sorted(set(first.seeds))), _listed(sorted(set(second.seeds)))),
        _order(first, second, data_differ, touched("data")),
        _compared("parameters", first, second, lambda trial: trial.parameters, touched("model", "role", "frozen")),
        _compared("epochs", first, second, _epochs, longer or touched("epochs")),
        _compared("updates", first, second, _updates, longer or touched("epochs", "data")),
        _compared("data files", first, second, _files, touched("data")),
    ]
    program = touched("model", "training", "role", "data")
    for name, key in PROVENANCE:
        expected = (name == "pack size" and program) or (key == "precision" and touched("precision"))
        findings.append(_compared(name, first, second, lambda trial, key=key: _at(trial.provenance, key), expected))
    findings += _processors(first, second)
    findings.append(_compared("test-set evaluations", first, second, _evaluations, False))
    return [*findings, *_outcomes(first, second), _times(first, second)]


def _options(factor: str, first: _Group, second: _Group) -> tuple[list[Finding], int]:
    """A finding for each option of the trials whose values differ between the levels, and how many options agree."""
    left, right = (_values(group.options) for group in (first, second))
    findings, same = [], 0
    for key in dict.fromkeys([*left, *right]):
        a, b = left.get(key, {}), right.get(key, {})
        if set(a) == set(b):
            same += 1
            continue
        ends = first.options, second.options
        expected = follows(factor, key) or is_unused(key, *ends) or is_unused(key, *reversed(ends))
        expected = expected or was_tuned(key, first.tuned, first.roles) or was_tuned(key, second.tuned, second.roles)
        expected = expected or (key == "training.epochs" and (first.longer or second.longer))
        findings.append(_finding(key, _listed(a.values()), _listed(b.values()), expected))
    return findings, same


def _values(contents: Iterable[JsonObject]) -> dict[str, dict[str, str]]:
    """Option -> the values that it takes, once each, in order of appearance."""
    values: dict[str, dict[str, str]] = {}
    for content in contents:
        for key, value in content.items():
            values.setdefault(key, {}).setdefault(repr(value), format_level(value))
    return values


def _full_key(study: Study, factor: str) -> str:
    """The full dotted key of a factor that a claim names by its ending."""
    keys = dict.fromkeys(key for condition in study.conditions for key in condition.record.factors)
    return next((key for key in keys if key == factor or key.endswith(f".{factor}")), factor)


def _order(first: _Group, second: _Group, data_differ: bool, expected: bool) -> Finding:
    """Images, split, order, and augmentation depend on the seed only, if the data section and the seeds agree."""
    same = not data_differ and set(first.seeds) == set(second.seeds)
    text = "identical for both levels (one random stream per seed)" if same else "different"
    return Finding("image order", text, text, not same, expected)


def _compared(name: str, first: _Group, second: _Group, value: Callable[[TrialRecord], Any], expected: bool) -> Finding:
    a, b = (
        {format_level(item) for trial in group.trials if (item := value(trial)) is not None}
        for group in (first, second)
    )
    return Finding(name, _listed(sorted(a)), _listed(sorted(b)), a != b, expected)


def _processors(first: _Group, second: _Group) -> list[Finding]:
    """A finding if both levels ran on the same processors of a mixed cluster, but some seed on another one at each level."""
    a, b = _by_seed(first), _by_seed(second)
    if set(a.values()) != set(b.values()) or all(a[seed] == b[seed] for seed in a.keys() & b.keys()):
        return []
    seeds = [seed for seed in sorted(a.keys() & b.keys()) if a[seed] != b[seed]]
    first_text, second_text = (_listed(f"seed {seed}: {group[seed]}" for seed in seeds) for group in (a, b))
    return [_finding("processor of a seed", first_text, second_text)]


def _by_seed(group: _Group) -> dict[int, str]:
    """Seed to the processors and GPUs of its trials, if they are recorded."""
    names: dict[int, set[str]] = {}
    for seed, trial in zip(group.seeds, group.trials, strict=True):
        if hardware := trial.provenance.hardware:
            names.setdefault(seed, set()).add(hardware.gpu or hardware.cpu or "unknown")
    return {seed: " and ".join(sorted(processors)) for seed, processors in names.items()}


def _outcomes(first: _Group, second: _Group) -> list[Finding]:
    """Missing trials are information: they are counted at each level."""
    findings = []
    for status, name in (("failed", "failed trials"), ("diverged", "diverged trials")):
        a, b = (sum(trial.status == status for trial in group.trials) for group in (first, second))
        texts = f"{a} of {len(first.trials)}", f"{b} of {len(second.trials)}"
        findings.append(Finding(name, *texts, differs=a != b))
    return findings


def _times(first: _Group, second: _Group) -> Finding:
    """Wall time is a consequence of the factor or of the machine, never a cause: it is never an unexpected difference."""
    means = [_mean(trial.seconds for trial in group.trials) for group in (first, second)]
    measured = [mean for mean in means if mean]
    differs = len(measured) == 2 and max(measured) > MIN_TIME_RATIO * min(measured)
    a, b = ("" if mean is None else f"{mean:.3g}" for mean in means)
    return Finding("seconds per trial", a, b, differs, expected=True)


def _mean(values: Iterable[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return fmean(measured) if measured else None


def _epochs(trial: TrialRecord) -> int | None:
    return max((int(value) for value in trial.curves.get("epoch", []) if value is not None), default=None)


def _updates(trial: TrialRecord) -> int | None:
    return max((int(value) for value in trial.curves.get("step", []) if value is not None), default=None)


def _files(trial: TrialRecord) -> str | None:
    data = trial.provenance.data
    return ", ".join(f"{name} {digest[:8]}" for name, digest in sorted(data.files.items())) if data else None


def _evaluations(trial: TrialRecord) -> int | None:
    """How many sets of weights were measured on the test set."""
    logged = sum(value is not None for value in trial.curves.get("test/accuracy", []))
    after = sum(trial.metrics.get(name) is not None for name in ("test/accuracy", "best/test/accuracy"))
    return logged + after if trial.status == "finished" else None


def _at(record: object, path: str) -> Any:
    """The value at a path of fields and keys; None if there is none."""
    value: Any = record
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else getattr(value, key, None)
    return value


def _listed(values: Iterable[Any]) -> str:
    texts = [str(value) for value in values]
    return ", ".join(texts) if len(texts) <= 12 else f"{', '.join(texts[:11])} and {len(texts) - 11} more"


def _finding(name: str, first: str, second: str, expected: bool = False) -> Finding:
    return Finding(name, first, second, first != second, expected)
