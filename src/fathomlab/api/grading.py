"""One table over the hand-ins of a course: stores, bundles, and pages. No code of a plugin runs, and nothing is trained."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from fathomlab.analysis.edits import Reference, changed_options, majority, option_values, stem
from fathomlab.analysis.grades import Grade, Graded
from fathomlab.analysis.grading import grade_page, grade_store
from fathomlab.analysis.identical import (
    Copies,
    SameSeeds,
    Training,
    find_copies,
    find_same_seeds,
    training,
)
from fathomlab.api.pages import not_a_report, read_page
from fathomlab.api.planning import find_file, load
from fathomlab.base.errors import UserError
from fathomlab.base.identity import content_hash
from fathomlab.config.yaml_reader import read_yaml
from fathomlab.execute.experiment import experiment_name
from fathomlab.store.maintenance import check_store
from fathomlab.store.reading import Store
from fathomlab.store.records import TrialRecord
from fathomlab.store.sources import Source, find_sources, opened


@dataclass(frozen=True)
class Grades:
    """The hand-ins of a course.

    Attributes:
        rows: One per experiment of each store, bundle, or page.
        copies: Trials that several stores contain from one training.
        same_seeds: Experiments that several stores have with the same seeds.
    """

    rows: tuple[Grade, ...]
    copies: tuple[Copies, ...]
    same_seeds: tuple[SameSeeds, ...]


class _ReadOnce(Store):
    """A store of which each trial is read once, because several steps need it."""

    @cached_property
    def _records(self) -> dict[str, TrialRecord]:
        return {}

    def trial(self, trial: str) -> TrialRecord:
        """The record of one trial."""
        if trial not in self._records:
            self._records[trial] = super().trial(trial)
        return self._records[trial]


@dataclass(frozen=True)
class _HandIn:
    """The rows of one store, bundle, or page, and the trainings that it contains."""

    label: str
    rows: tuple[Graded, ...]
    trainings: frozenset[Training] = frozenset()


def grade_stores(
    sources: Sequence[Path], reference: str | None = None, shared: Sequence[Path] = (), quick: bool = False
) -> Grades:
    """Read the hand-ins of many students.

    Args:
        sources: Results directories, bundles, pages, or directories that contain some.
        reference: The experiment file that students were given. Without it, claims and options are compared with what more than
            half of at least three hand-ins have.
        shared: Results that everybody was given; they are not reported as copies.
        quick: Compare with the quick form of the reference.

    Raises:
        UserError: If a source does not exist, or the reference cannot be read or has plugins.
    """
    given = None if reference is None else _reference(reference, quick)
    handed_out = frozenset(item for source in find_sources(shared) for hand in _read(source) for item in hand.trainings)
    hand_ins = [hand_in for source in find_sources(sources) for hand_in in _read(source)]
    rows = [row for hand_in in hand_ins for row in hand_in.rows]
    copies = find_copies({hand_in.label: hand_in.trainings for hand_in in hand_ins}, handed_out)
    same = find_same_seeds((stem(row.grade.experiment), row.grade.seeds, row.grade.store) for row in rows)
    majorities = {name: _majority(name, rows) for name in {stem(row.grade.experiment) for row in rows}}
    compared = (_compared(row, given or majorities[stem(row.grade.experiment)]) for row in rows)
    given_to = {item.label: {trial for trial, *_ in item.trainings & handed_out} for item in hand_ins}
    counted = (
        replace(grade, shared_trials=len(row.hashes & given_to[grade.store]))
        for row, grade in zip(rows, compared, strict=True)
    )
    grades = tuple(_with_copies(row, grade, copies, same) for row, grade in zip(rows, counted, strict=True))
    return Grades(grades, copies, same)


def _read(source: Source) -> Iterator[_HandIn]:
    """The stores of a source, or the experiments of a page. Results that cannot be read are a row, too."""
    if source.kind == "page":
        yield _HandIn(source.label, tuple(_page_rows(source)))
        return
    with ExitStack() as stack:
        try:
            stores = stack.enter_context(opened(source))
        except UserError as error:
            yield _HandIn(source.label, (Graded(Grade(source.label, source.kind, problem=str(error))),))
            return
        for item in stores:
            store = _ReadOnce(item.path)
            problems = check_store(item.path, store).problems
            trainings = (training(store.trial(trial)) for trial in store.trials())
            rows = tuple(grade_store(store, item.label, source.kind, problems))
            yield _HandIn(item.label, rows, frozenset(item for item in trainings if item is not None))


def _page_rows(source: Source) -> Iterator[Graded]:
    try:
        documents = read_page(source.path).experiments.values()
    except UserError as error:
        yield Graded(Grade(source.label, "page", problem=str(error)))
        return
    for document in documents:
        try:
            yield grade_page(document, source.label)
        except (ValueError, TypeError, KeyError, RecursionError):  # a page may contain anything
            yield Graded(Grade(source.label, "page", problem=str(not_a_report(source.path))))


def _reference(file: str, quick: bool) -> Reference:
    """What an experiment file asks.

    Raises:
        UserError: If it cannot be read, or names plugins, whose code would run.
    """
    path = find_file(file)
    if read_yaml(path.read_bytes(), str(path)).data.get("plugins"):
        text = f"{path}: has plugins, whose code does not run here. Compare with the majority: leave out --reference."
        raise UserError("plugins-in-reference", text)
    plan = load(path, quick=quick)
    options = option_values(trial.content for trial in plan.trials)
    title = plan.loaded.file.experiment.title
    return Reference(stem(experiment_name(plan, ())), title, content_hash(plan.questions), options)


def _majority(name: str, rows: Sequence[Graded]) -> Reference:
    """What most have of an experiment."""
    alike = [other for other in rows if other.hashes and stem(other.grade.experiment) == name]
    options = {tuple(other.options.items()): other.options for other in alike}
    claims = majority([other.grade.claims_hash for other in alike])
    common = majority([tuple(other.options.items()) for other in alike])
    return Reference(name, "", claims, None if common is None else options[common])


def _compared(row: Graded, reference: Reference) -> Grade:
    grade = row.grade
    if not row.hashes or not reference.concerns(grade.experiment, grade.title):
        return grade
    expected, options = reference.claims_hash, reference.options
    return replace(
        grade,
        claims_changed=None if expected is None else grade.claims_hash != expected,
        changed_options=None if options is None else changed_options(row.options, options),
    )


def _with_copies(row: Graded, grade: Grade, copies: Sequence[Copies], same: Sequence[SameSeeds]) -> Grade:
    groups = [group for group in copies if grade.store in group.stores and row.hashes.intersection(group.trials)]
    others = sorted({store for group in groups for store in group.stores} - {grade.store})
    name, seeds = stem(grade.experiment), grade.seeds
    alike = [item for item in same if (item.experiment, item.seeds) == (name, seeds) and grade.store in item.stores]
    return replace(
        grade,
        copies_of=tuple(others),
        copied_trials=len({trial for group in groups for trial in group.trials} & row.hashes),
        same_seeds=sum(len(item.stores) - 1 for item in alike),
    )
