"""What a reader must know before the results: teachers that are not better than their students, and unusual data files."""

from dataclasses import dataclass
from statistics import fmean

from fathomlab.analysis.distillation import leads
from fathomlab.analysis.study import Condition, Study
from fathomlab.report.numbers import count, listed
from fathomlab.store.provenance import DataSource

METRICS = {"test/accuracy": "after the last epoch", "best/test/accuracy": "at the best validation epoch"}


@dataclass(frozen=True)
class DataFile:
    """A data file and its hash.

    Attributes:
        official: Whether it is the published file, or the images of a user's dataset as the store has them.
        of_user: Whether it contains the images of a user's dataset, which has no published file.
    """

    data: str
    name: str
    digest: str
    official: bool
    of_user: bool = False


def data_files(study: Study) -> list[DataFile]:
    """The data files of the trials; modified files first."""
    files: dict[DataFile, None] = {}
    for _, _, trial in study.trials:
        data = trial.provenance.data or DataSource()
        for name, digest in data.files.items():
            of_user = name == f"{digest}.npz"
            files[DataFile(data.name, "images" if of_user else name, digest, name not in data.unofficial, of_user)] = (
                None
            )
    return sorted(files, key=lambda file: (file.official, file.data, file.name, file.digest))


def data_notes(study: Study) -> list[str]:
    """Notes about the data, without duplicates."""
    sources = [trial.provenance.data for _, _, trial in study.trials if trial.provenance.data]
    return list(dict.fromkeys(note for source in sources for note in source.notes))


def teacher_warnings(study: Study) -> list[str]:
    """A sentence per teacher and baseline student for which the teacher is not better, on average or in some seeds."""
    pairs = {
        (teacher.name, baseline.name): (teacher, baseline)
        for teacher in study.with_role("teacher")
        for baseline in study.with_role("baseline")
        if all(teacher.record.factors.get(key, level) == level for key, level in baseline.record.factors.items())
    }
    for lead in leads(study):
        for teacher in lead.teachers:
            pairs.setdefault((teacher.name, lead.baseline.name), (teacher, lead.baseline))
    return [
        text for teacher, baseline in pairs.values() for text in _teacher_warning(teacher, baseline, len(pairs) > 1)
    ]


def _teacher_warning(teacher: Condition, baseline: Condition, several: bool) -> list[str]:
    lab = (teacher.record.role, baseline.record.role) == ("teacher", "baseline")
    names = ("teacher", "baseline student") if lab and not several else (teacher.name, baseline.name)
    worse: list[tuple[str, str]] = []
    partly: list[str] = []
    for metric, when in METRICS.items():
        top, low = teacher.outcomes(metric), baseline.outcomes(metric)
        seeds = [seed for seed in top if seed in low]
        if not seeds:
            continue
        means = [fmean(values[seed] for seed in seeds) for values in (top, low)]
        numbers = f"{100 * means[0]:.1f}% vs. {100 * means[1]:.1f}%"
        behind = [str(seed) for seed in seeds if top[seed] <= low[seed]]
        if means[0] <= means[1]:
            worse.append((numbers, when))
        elif behind:
            which = f"seed{'s' * (len(behind) > 1)} {listed(behind)}"
            partly.append(f"in {len(behind)} of {count(len(seeds), 'seed')} {when} ({which}; mean {numbers})")
    sentences: list[str] = []
    if worse:
        end = "gains from distillation cannot be interpreted."
        equal = len({numbers for numbers, _ in worse}) == 1 < len(worse)
        shown = worse[0][0] if equal else "; ".join(f"{numbers} {when}" for numbers, when in worse)
        sentences.append(f"The {names[0]} is not better than the {names[1]} ({shown}); {end}")
    if partly:
        end = "Interpret gains from distillation with care."
        sentences.append(f"The {names[0]} is not better than the {names[1]} {listed(partly)}. {end}")
    gaps = [
        f"{name}: {item.excluded('test/accuracy')}"
        for item, name in zip((teacher, baseline), names, strict=True)
        if item.missing("test/accuracy")
    ]
    if sentences and gaps:
        sentences.append(f"The comparison excludes seeds ({'; '.join(gaps)}).")
    if teacher.trials and not any(teacher.outcomes(metric) for metric in METRICS) and _all_diverged(teacher):
        sentences.append(f"The {names[0]} diverged in all seeds; there is nothing to distill.")
    return sentences


def _all_diverged(condition: Condition) -> bool:
    return condition.count("diverged") == len(condition.trials)
