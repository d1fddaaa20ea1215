"""Where the numbers come from: versions, hardware, commit, data files, resumed trials, and test-set evaluations."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

from fathomlab.analysis.study import Study
from fathomlab.report.numbers import count
from fathomlab.report.tables import Table, table
from fathomlab.store.records import DataSource, Provenance

SHOWN_DIGITS = 16


@dataclass(frozen=True)
class DataFile:
    """A data file and its hash; `official` if it is the published hash."""

    data: str
    name: str
    digest: str
    official: bool


def provenance_table(study: Study) -> Table:
    """Versions, hardware, and commit. Values that differ between trials are listed with their number of trials."""
    found: dict[str, Counter[str]] = {}
    for _, _, trial in study.trials:
        for key, value in _facts(trial.provenance):
            found.setdefault(key, Counter())[value] += 1
    rows = [[key, _values(values)] for key, values in found.items()]
    return table("provenance", ["property", "value"], rows, texts=2)


def dirty(study: Study) -> int:
    """Number of trials trained with uncommitted changes in the source tree."""
    return sum(bool(trial.provenance.git and trial.provenance.git.dirty) for _, _, trial in study.trials)


def resumed(study: Study) -> list[str]:
    """How many trials were resumed, and which in a different environment; one sentence each."""
    again = [trial for _, _, trial in study.trials if trial.provenance.resumed]
    if not again:
        return []
    drifted = [trial for trial in again if _drifted(trial.provenance)]
    said = [f"{count(len(again), 'trial')} {_were(again)} resumed from a checkpoint."]
    if drifted:
        names = ", ".join(trial.trial[:10] for trial in drifted)
        said.append(
            f"{count(len(drifted), 'trial')} {_were(drifted)} resumed in a different environment (PyTorch, CPU/GPU, device, or "
            f"code): {names}. Results may differ slightly from an uninterrupted run."
        )
    return said


def data_files(study: Study) -> list[DataFile]:
    """The data files of the trials; modified files first."""
    found: dict[DataFile, None] = {}
    for _, _, trial in study.trials:
        data = trial.provenance.data or DataSource()
        for name, digest in data.files.items():
            found[DataFile(data.name, name, digest, name not in data.unofficial)] = None
    return sorted(found, key=lambda file: (file.official, file.data, file.name, file.digest))


def data_notes(study: Study) -> list[str]:
    """Notes about the data, without duplicates."""
    sources = [trial.provenance.data for _, _, trial in study.trials if trial.provenance.data]
    return list(dict.fromkeys(note for source in sources for note in source.notes))


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
    found = list(provenance.versions.items())
    if hardware := provenance.hardware:
        parts = {item.name: getattr(hardware, item.name) for item in fields(hardware)}
        found += [(f"hardware: {key}", "none" if value is None else str(value)) for key, value in parts.items()]
    options = {key: getattr(provenance, key) for key in ("device", "precision", "threads", "deterministic")}
    found += [(key, str(value)) for key, value in options.items() if value is not None]
    if backend := provenance.backend:
        found.append(("backend", f"{backend.name} ({backend.build})"))
    if git := provenance.git:
        commit = git.commit or "not in a repository"
        found.append(("git commit", f"{commit} with uncommitted changes" if git.dirty else commit))
    if code := (provenance.environment or {}).get("code"):
        found.append(("SHA-256 of the training code", str(code)[:SHOWN_DIGITS]))
    if provenance.pack:
        found.append(("pack size", str(provenance.pack.size)))
    found += [(f"SHA-256 of {plugin.name}", plugin.sha256[:SHOWN_DIGITS]) for plugin in provenance.plugins]
    return [*found, ("data", provenance.data.name)] if provenance.data else found


def _values(values: Counter[str]) -> str:
    if len(values) == 1:
        return next(iter(values))
    return "; ".join(f"{value} ({count(number, 'trial')})" for value, number in sorted(values.items()))
