"""Where the numbers come from: versions, hardware, commit, data files, resumed trials, and test-set evaluations."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fathomlab.analysis.study import Study
from fathomlab.report.loose import entries, mapping
from fathomlab.report.numbers import count
from fathomlab.report.tables import Table, table

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
    return sum(mapping(trial.provenance.get("git")).get("dirty") is True for _, _, trial in study.trials)


def resumed(study: Study) -> list[str]:
    """How many trials were resumed, and which in a different environment; one sentence each."""
    again = [trial for _, _, trial in study.trials if entries(trial.provenance.get("resumed"))]
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
        data = mapping(trial.provenance.get("data"))
        copies = entries(data.get("unofficial"))
        for name, digest in mapping(data.get("files")).items():
            found[DataFile(str(data.get("name", "")), name, str(digest), name not in copies)] = None
    return sorted(found, key=lambda file: (file.official, file.data, file.name, file.digest))


def data_notes(study: Study) -> list[str]:
    """Notes about the data, without duplicates."""
    notes = [entries(mapping(trial.provenance.get("data")).get("notes")) for _, _, trial in study.trials]
    return list(dict.fromkeys(str(note) for group in notes for note in group))


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


def _drifted(provenance: Mapping[str, Any]) -> bool:
    now = mapping(provenance.get("environment"))
    before = [mapping(mapping(item).get("environment")) for item in entries(provenance.get("resumed"))]
    return any(then and then != now for then in before)


def _facts(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = [(str(key), str(value)) for key, value in mapping(provenance.get("versions")).items()]
    hardware, git, pack = (mapping(provenance.get(key)) for key in ("hardware", "git", "pack"))
    found += [(f"hardware: {key}", "none" if value is None else str(value)) for key, value in hardware.items()]
    found += [
        (key, str(provenance[key])) for key in ("device", "precision", "threads", "deterministic") if key in provenance
    ]
    backend = mapping(provenance.get("backend"))
    if backend:
        found.append(("backend", f"{backend['name']} ({backend['build']})"))
    if git:
        commit = str(git.get("commit") or "not in a repository")
        found.append(("git commit", f"{commit} with uncommitted changes" if git.get("dirty") else commit))
    code = mapping(provenance.get("environment")).get("code")
    if code:
        found.append(("SHA-256 of the training code", str(code)[:SHOWN_DIGITS]))
    if pack:
        found.append(("pack size", str(pack.get("size"))))
    plugins = mapping(provenance.get("plugins"))
    found += [(f"SHA-256 of {name}", str(digest)[:SHOWN_DIGITS]) for name, digest in plugins.items()]
    data = mapping(provenance.get("data"))
    return [*found, ("data", str(data["name"]))] if "name" in data else found


def _values(values: Counter[str]) -> str:
    if len(values) == 1:
        return next(iter(values))
    return "; ".join(f"{value} ({count(number, 'trial')})" for value, number in sorted(values.items()))
