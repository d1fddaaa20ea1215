"""Where the numbers come from: versions, hardware, commit, data files, resumed trials, and test-set evaluations."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

from fathomlab.analysis.audit import Audit
from fathomlab.analysis.study import Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.base.codec import JsonObject
from fathomlab.report.nodes import few, shown_node
from fathomlab.report.numbers import count
from fathomlab.report.section import Section
from fathomlab.report.tables import Table, table
from fathomlab.report.warnings import DataFile, data_files
from fathomlab.store.provenance import Provenance
from fathomlab.store.records import ExperimentRecord

SHOWN_DIGITS = 16


@dataclass(frozen=True)
class Sources:
    """The content of the section.

    Attributes:
        dirty: Number of trials trained with uncommitted changes.
        reads: How often the test set was used.
        resolved: The experiment file with defaults, as YAML.
    """

    experiment: ExperimentRecord
    dirty: int
    resumed: tuple[str, ...]
    reads: str
    table: Table
    files: tuple[DataFile, ...]
    resolved: str


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section:
    """Versions, hardware, data files, and the experiment file."""
    content = Sources(
        experiment=study.experiment,
        dirty=sum(bool(trial.provenance.git and trial.provenance.git.dirty) for _, _, trial in study.trials),
        resumed=tuple(resumed(study)),
        reads=test_reads(study),
        table=provenance_table(study),
        files=tuple(data_files(study)),
        resolved=_yaml(study.experiment.resolved),
    )
    return Section("provenance", "Provenance", content)


def provenance_table(study: Study) -> Table:
    """Versions, hardware, and commit. Values that differ between trials are listed with their number of trials."""
    values: dict[str, Counter[str]] = {}
    for _, _, trial in study.trials:
        for key, value in _facts(trial.provenance):
            values.setdefault(key, Counter())[value] += 1
    rows = [[key, _values(counts)] for key, counts in values.items()]
    if nodes := Counter(filter(None, (shown_node(trial) for _, _, trial in study.trials))):
        rows.append(["node", _nodes(nodes)])
    return table("provenance", ["property", "value"], rows, texts=2)


def resumed(study: Study) -> list[str]:
    """How many trials were resumed, and which in a different environment; one sentence each."""
    again = [trial for _, _, trial in study.trials if trial.provenance.resumed]
    if not again:
        return []
    drifted = [trial for trial in again if _drifted(trial.provenance)]
    sentences = [f"{count(len(again), 'trial')} {_were(again)} resumed from a checkpoint."]
    if drifted:
        names = ", ".join(trial.trial[:10] for trial in drifted)
        sentences.append(
            f"{count(len(drifted), 'trial')} {_were(drifted)} resumed in a different environment (PyTorch, CPU/GPU, device, or "
            f"code): {names}. Results may differ slightly from an uninterrupted run."
        )
    return sentences


def test_reads(study: Study) -> str:
    """How often the test set was used, and with which weights."""
    last = sum(trial.metrics.get("test/accuracy") is not None for _, _, trial in study.trials)
    best = sum(trial.metrics.get("best/test/accuracy") is not None for _, _, trial in study.trials)
    return (
        f"The test set was used only after training ({count(last, 'evaluation')} after the last epoch, {best} with the "
        "weights of the best validation epoch). No choice was based on test accuracy."
    )


def _were(trials: Sequence[object]) -> str:
    return "was" if len(trials) == 1 else "were"


def _drifted(provenance: Provenance) -> bool:
    before = [resumption.environment for resumption in provenance.resumed]
    return any(environment and environment != provenance.environment for environment in before)


def _facts(provenance: Provenance) -> list[tuple[str, str]]:
    facts = list(provenance.versions.items())
    if hardware := provenance.hardware:
        parts = {item.name: getattr(hardware, item.name) for item in fields(hardware)}
        facts += [(f"hardware: {key}", "none" if value is None else str(value)) for key, value in parts.items()]
    options = {key: getattr(provenance, key) for key in ("device", "precision", "threads", "deterministic")}
    facts += [(key, str(value)) for key, value in options.items() if value is not None]
    if backend := provenance.backend:
        facts.append(("backend", f"{backend.name} ({backend.build})"))
    if git := provenance.git:
        commit = git.commit or "not in a repository"
        facts.append(("git commit", f"{commit} with uncommitted changes" if git.dirty else commit))
    if code := (provenance.environment or {}).get("code"):
        facts.append(("SHA-256 of the training code", str(code)[:SHOWN_DIGITS]))
    if provenance.pack:
        facts.append(("pack size", str(provenance.pack.size)))
    facts += [(f"SHA-256 of {plugin.name}", plugin.sha256) for plugin in provenance.plugins]
    return [*facts, ("data", provenance.data.name)] if provenance.data else facts


def _yaml(resolved: JsonObject) -> str:
    import yaml

    try:
        return yaml.safe_dump(dict(resolved), sort_keys=False, allow_unicode=True, width=100) if resolved else ""
    except RecursionError:
        return "Nested too deeply to show."


def _nodes(nodes: Counter[str]) -> str:
    """The nodes with most trials."""
    names = [f"{name} ({count(number, 'trial')})" for name, number in sorted(nodes.items(), key=lambda item: -item[1])]
    return few(names, len(names))


def _values(values: Counter[str]) -> str:
    if len(values) == 1:
        return next(iter(values))
    return "; ".join(f"{value} ({count(number, 'trial')})" for value, number in sorted(values.items()))
