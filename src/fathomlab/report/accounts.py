"""What a page owes its reader besides the answer: failures, costs, every trial, where the numbers come from."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, cast

from fathomlab.report.effects import accuracy, distillation_gains
from fathomlab.report.numbers import count, duration, percent, plain, significant
from fathomlab.report.study import Condition, Study
from fathomlab.report.tables import Table, table

BROKEN = ("failed", "diverged", "damaged")
PENDING = ("running", "waiting")


@dataclass(frozen=True)
class Failure:
    """A trial without a result, and why."""

    condition: str
    seed: int
    trial: str
    status: str
    cause: str


@dataclass(frozen=True)
class DataFile:
    """A file of data by content; `official` if its hash is the published one."""

    data: str
    name: str
    digest: str
    official: bool


def failures(study: Study) -> list[Failure]:
    """All trials that failed, diverged or are damaged."""
    return [
        Failure(condition.name, seed, trial.trial, trial.status, trial.cause or "no cause recorded")
        for condition, seed, trial in study.trials
        if trial.status in BROKEN
    ]


def tally(study: Study) -> Counter[str]:
    """How many trials have each status."""
    return Counter(trial.status for _, _, trial in study.trials)


def trials_table(study: Study) -> Table:
    """Every trial with its numbers."""
    rows: list[list[str]] = []
    for condition, seed, trial in study.trials:
        numbers = trial.metrics
        row = [condition.name, str(seed), trial.status, trial.trial[:10], _whole(trial.parameters)]
        row += [percent(numbers.get(name)) for name in ("test/accuracy", "best/test/accuracy", "val/accuracy")]
        row += [significant(numbers.get(name)) for name in ("test/loss", "val/loss", "train/loss")]
        row += [percent(numbers.get("train/accuracy")), _whole(numbers.get("best/epoch")), plain(trial.seconds, 1)]
        rows.append([*row, trial.cause or ""])
    columns = ["condition", "seed", "status", "trial", "parameters", "test acc. last [%]", "test acc. best [%]"]
    columns += ["val. acc. [%]", "test loss", "val. loss", "train loss", "train acc. [%]", "best epoch", "seconds"]
    return table("trials", [*columns, "cause"], rows)


def cost_table(study: Study) -> Table:
    """Wall time of each condition."""
    rows: list[list[str]] = []
    for condition in study.conditions:
        times = [trial.seconds for _, trial in condition.trials if trial.seconds is not None]
        epochs = max((len(trial.curves.get("epoch", [])) for _, trial in condition.trials), default=0)
        mean = fmean(times) if times else None
        row = [condition.name, _parameters(condition), str(len(condition.trials)), str(condition.count("finished"))]
        rows.append([*row, str(condition.count(*BROKEN)), str(epochs), plain(mean, 1), plain(sum(times), 1)])
    columns = ["condition", "parameters", "trials", "finished", "failed", "epochs", "seconds a trial", "seconds in all"]
    return table("cost", columns, rows)


def distillation_table(study: Study) -> Table | None:
    """Teacher, baseline student and distilled students; None for other experiments."""
    gains = distillation_gains(study)
    teacher = study.with_role("teacher")
    if not gains and teacher is None:
        return None
    full = _size(teacher) if teacher is not None else None
    effects = {effect.second.name: effect for effect in gains}
    rows: list[list[str]] = []
    for condition in study.conditions:
        size, mean = _size(condition), accuracy(study, condition)
        fewer = plain(100 * (1 - size / full), 1) if size is not None and full and condition is not teacher else ""
        row = [condition.name, _whole(size), fewer]
        row += ["", "", "", "0"] if mean is None else [plain(mean.mean), plain(mean.low), plain(mean.high), str(mean.n)]
        effect = effects.get(condition.name)
        gain = effect.interval if effect is not None else None
        row += ["", "", ""] if gain is None else [plain(gain.mean), plain(gain.low), plain(gain.high)]
        rows.append(row)
    columns = ["network", "parameters", "fewer than teacher [%]", "test accuracy [%]", "95 % low", "95 % high", "n"]
    return table("distillation", [*columns, "gain over baseline [points]", "gain: 95 % low", "gain: 95 % high"], rows)


def provenance_table(study: Study) -> Table:
    """Versions, hardware and commit; a value that differs between trials is listed with its number of trials."""
    found: dict[str, Counter[str]] = {}
    for _, _, trial in study.trials:
        for key, value in _facts(trial.provenance):
            found.setdefault(key, Counter())[value] += 1
    rows = [[key, _values(values)] for key, values in found.items()]
    return table("provenance", ["what", "value"], rows, texts=2)


def data_files(study: Study) -> list[DataFile]:
    """The files that the trials read, by content, those that are no published file first."""
    found: dict[DataFile, None] = {}
    for _, _, trial in study.trials:
        data = _mapping(trial.provenance.get("data"))
        copies = _list(data.get("unofficial"))
        for name, digest in _mapping(data.get("files")).items():
            found[DataFile(str(data.get("name", "")), name, str(digest), name not in copies)] = None
    return sorted(found, key=lambda file: (file.official, file.data, file.name, file.digest))


def data_notes(study: Study) -> list[str]:
    """What is to be known about the data, each once."""
    notes = [_list(_mapping(trial.provenance.get("data")).get("notes")) for _, _, trial in study.trials]
    return list(dict.fromkeys(str(note) for group in notes for note in group))


def test_reads(study: Study) -> str:
    """How often the test set was read, and for which weights."""
    last = sum("test/accuracy" in trial.metrics for _, _, trial in study.trials)
    best = sum("best/test/accuracy" in trial.metrics for _, _, trial in study.trials)
    headline = "the last epoch" if study.metric == "test/accuracy" else "the epoch that was best on validation"
    return (
        f"The test set was read after training only: {count(last, 'trial')} measured with the weights of the last "
        f"epoch, {best} with those that were best on validation. The headline is {headline}, as the file declares; "
        "nothing was chosen by test accuracy."
    )


def _facts(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = [(str(key), str(value)) for key, value in _mapping(provenance.get("versions")).items()]
    hardware, git, pack = (_mapping(provenance.get(key)) for key in ("hardware", "git", "pack"))
    found += [(f"hardware: {key}", "none" if value is None else str(value)) for key, value in hardware.items()]
    found += [(key, str(provenance[key])) for key in ("device", "precision", "threads") if key in provenance]
    if git:
        commit = str(git.get("commit") or "not in a repository")
        found.append(("git commit", f"{commit} with uncommitted changes" if git.get("dirty") else commit))
    if pack:
        found.append(("pack size", str(pack.get("size"))))
    data = _mapping(provenance.get("data"))
    return [*found, ("data", str(data["name"]))] if "name" in data else found


def _values(values: Counter[str]) -> str:
    if len(values) == 1:
        return next(iter(values))
    return "; ".join(f"{value} ({count(number, 'trial')})" for value, number in sorted(values.items()))


def _size(condition: Condition) -> int | None:
    return next((trial.parameters for _, trial in condition.trials if trial.parameters is not None), None)


def _parameters(condition: Condition) -> str:
    return _whole(_size(condition))


def _whole(value: float | None) -> str:
    return "" if value is None else str(round(value))


def _mapping(value: Any) -> dict[str, Any]:
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return cast(list[Any], value) if isinstance(value, list) else []


def total_time(study: Study) -> str:
    """The wall time of the experiment, and of its trials added up."""
    times = [trial.seconds for _, _, trial in study.trials if trial.seconds is not None]
    trials = f"its trials add up to {duration(sum(times))}"
    whole = duration(study.experiment.seconds)
    return f"The experiment took {whole}; {trials}." if whole else f"{trials[:1].upper()}{trials[1:]}."
