"""Trains a trial of a report page again and compares the numbers."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from fathomlab.analysis.as_json import read_summary
from fathomlab.analysis.recorded import RecordedTrial, read_trials, recorded_trial
from fathomlab.analysis.repetition import Repetition, compare_repetition, provenance_changes
from fathomlab.api.lineage import Lineage, edited
from fathomlab.api.pages import Page, not_a_report, read_page
from fathomlab.base.codec import JsonObject
from fathomlab.base.errors import UserError, format_value
from fathomlab.base.labels import count
from fathomlab.engine.backends import BACKENDS
from fathomlab.execute.coordinator import run_jobs
from fathomlab.execute.events import Emit, Note, Planned
from fathomlab.execute.executors import EXECUTORS
from fathomlab.execute.executors.setting import Setting
from fathomlab.execute.modes import Mode
from fathomlab.execute.progress import progress_reporter
from fathomlab.execute.signals import StopRequest, handle_signals
from fathomlab.plan import Trial
from fathomlab.prepare.cost import planned_seconds
from fathomlab.prepare.jobs import Job, provide_dataset
from fathomlab.prepare.machine import describe_machine, hardware
from fathomlab.report.sections.trials import NUMBERS, SHOWN_DIGITS
from fathomlab.store.directory import create_store
from fathomlab.store.lock import store_lock
from fathomlab.store.reading import SHORTEST_PREFIX, Store
from fathomlab.store.records import TERMINAL_STATUSES

LISTED = 12


def repeat_trial(
    page: Path, trial: str, plugins: Sequence[Path] = (), runs: Path | None = None, progress: Mode = "auto"
) -> Repetition:
    """Train a trial again from what a report page contains, and compare.

    The trials that it was packed with are trained, too, because only then the bits can be equal; not if the environment differs.
    Parents are trained first. Nothing is written outside of a temporary directory.

    Args:
        page: The report, of one or several experiments.
        trial: The beginning of the trial's hash.
        plugins: Files of plugins that may run. A trial with plugins is refused without them.
        runs: The results directory to train in, which must not contain trials; by default a temporary one.
        progress: How to show progress on stderr.

    Raises:
        UserError: If the page or the trial does not exist, the page was edited, or data, a plugin, or memory are missing.
        KeyboardInterrupt: If interrupted by a signal.
    """
    report = read_page(page)
    document, item, trials = _find(report, trial)
    lineage = Lineage({other.trial: other for other in trials}, plugins, page)
    wanted = lineage.trial(item.trial)
    _check_numbers(report, document, item, trials)
    device = _device(item)
    together = not _changes_here(item, device)
    packs = lineage.packs(item.trial, together)
    with _results(runs) as root, progress_reporter(progress) as emit:
        _train(packs, lineage, root, device, emit)
        store = Store(root)
        result = recorded_trial(store.trial(item.trial))
        if result.status is None or result.status not in TERMINAL_STATUSES:
            cause = store.trial(item.trial).cause or "no result"
            raise UserError("not-repeated", f"trial {item.trial[:12]} could not be trained: {cause}.")
        changes = [
            change
            for name in dict.fromkeys((item.trial, *(ancestor.hash for ancestor in wanted.ancestors)))
            for change in _other_pack(lineage.recorded[name], recorded_trial(store.trial(name)))
        ]
    seeds = [other for other in trials if other.condition == item.condition and other.status == "finished"]
    return compare_repetition(item, result, seeds, changes)


def _find(page: Page, prefix: str) -> tuple[JsonObject, RecordedTrial, tuple[RecordedTrial, ...]]:
    """The trial whose hash begins with `prefix`, with its experiment's numbers and trials."""
    matches: dict[str, tuple[JsonObject, RecordedTrial, tuple[RecordedTrial, ...]]] = {}
    first: dict[tuple[str, str], RecordedTrial] = {}
    for name, document in page.experiments.items():
        if "trials" not in document:
            text = f"{page.path}: does not contain the options of its trials."
            raise UserError("outdated-record", f"{text} Regenerate it with: fathomlab report")
        try:
            trials = read_trials(document["trials"])
        except ValueError:
            raise not_a_report(page.path) from None
        for trial in (trial for trial in trials if trial.status is not None):
            first.setdefault((name, trial.condition), trial)
            if trial.trial.startswith(prefix.lower()):
                matches.setdefault(trial.trial, (document, trial, trials))
    if len(prefix) >= SHORTEST_PREFIX and len(matches) == 1:
        return next(iter(matches.values()))
    if not prefix:
        code, problem = "no-trial", "name the trial to repeat"
    elif len(prefix) < SHORTEST_PREFIX:
        code, problem = "invalid-trial-prefix", f"{format_value(prefix)} must have {SHORTEST_PREFIX} or more digits"
    else:
        code = "ambiguous-trial" if matches else "no-such-trial"
        number = f"{len(matches)} trials with a result match" if matches else "no trial with a result matches"
        large = any("left_out" in document for document in page.experiments.values())
        problem = f"{number} {format_value(prefix)}" + " (a large report has only its first trials)" * large
    raise UserError(
        code, "\n".join([f"{page.path}: {problem}. One trial per condition:", *_addresses(page, list(first.values()))])
    )


def _addresses(page: Page, trials: Sequence[RecordedTrial]) -> list[str]:
    """A line per trial; only the first ones if there are many."""
    lines = [
        f"  {page.path}#{trial.trial[:SHOWN_DIGITS]}  {trial.condition} seed={trial.content.get('seed')}"
        for trial in trials[:LISTED]
    ]
    return lines + [f"  and {count(len(trials) - LISTED, 'more condition')}"] * (len(trials) > LISTED)


def _check_numbers(page: Page, document: JsonObject, item: RecordedTrial, trials: Sequence[RecordedTrial]) -> None:
    """Compare a trial's numbers with what a reader sees: its row in the table, and the means of its condition.

    Raises:
        UserError: If they differ.
    """
    row = page.rows.get(item.trial[:SHOWN_DIGITS])
    if row is None:
        raise edited(page.path, item.trial, "the table of all trials does not contain it")
    expected = {column: (metric, text(item.metrics.get(metric))) for column, (metric, text) in NUMBERS.items()}
    expected |= {"seed": ("seed", str(item.content.get("seed"))), "status": ("status", item.status or "")}
    for column, (name, text) in expected.items():
        if column in row and row[column] != text:
            text = f"the table shows the {name} {format_value(row[column])}, the embedded value is {text or 'none'}"
            raise edited(page.path, item.trial, text)
    try:
        conditions = read_summary(document).conditions
    except ValueError:
        raise not_a_report(page.path) from None
    members = [other for other in trials if other.condition == item.condition and other.status == "finished"]
    shown = [condition for condition in conditions if condition.label == item.condition]
    if not shown:
        raise edited(page.path, item.trial, f"the page has no condition {format_value(item.condition)}")
    for condition in shown:
        for metric, interval in condition.metrics.items():
            values = [value for other in members if (value := other.metrics.get(metric)) is not None]
            if not values or not math.isclose(fmean(values), interval.mean, rel_tol=1e-9, abs_tol=1e-12):
                raise edited(page.path, item.trial, f"the mean {metric} of its condition is not that of its trials")


def _device(item: RecordedTrial) -> str:
    if item.provenance.device != "cuda":
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _changes_here(item: RecordedTrial, device: str) -> tuple[str, ...]:
    """What is known before training to differ from the training of the page."""
    from fathomlab.execute.pack.devices import current_environment

    here = replace(item.provenance, hardware=hardware(), environment=current_environment(device))
    return provenance_changes(item.provenance, here)


def _other_pack(page: RecordedTrial, repeated: RecordedTrial) -> Iterator[str]:
    """Whether a trial or a parent was trained in another pack than on the page."""
    if page.pack != repeated.pack:
        then = f"{len(page.pack)} trials" if page.pack else "unknown trials"
        yield f"the pack of trial {page.trial[:12]} ({then} then, {len(repeated.pack)} now)"


@contextmanager
def _results(runs: Path | None) -> Iterator[Path]:
    """The results directory to train in."""
    if runs is None:
        with TemporaryDirectory(prefix="fathomlab-verify-") as folder:
            yield create_store(Path(folder))
        return
    if Store(runs).trials():
        raise UserError(
            "store-not-empty", f"{runs}: contains trials. Name a new directory with --runs, or leave it out."
        )
    yield create_store(runs)


def _train(packs: Sequence[tuple[Trial, ...]], lineage: Lineage, root: Path, device: str, emit: Emit) -> None:
    """Train packs one after the other in this process, with the backends that the page names."""
    trials = [trial for pack in packs for trial in pack]
    for trial in trials:
        provide_dataset(trial.data.component, root, lineage.components(trial.hash))
    jobs = [
        Job(pack, root, device, backend=_backend(pack, lineage.recorded, device), may_fall_back=True) for pack in packs
    ]
    labels = {trial.hash: f"{lineage.recorded[trial.hash].condition} seed={trial.seed}".strip() for trial in trials}
    work = {trial.hash: planned_seconds(trial) for trial in trials}
    stop = StopRequest()
    with handle_signals(stop), store_lock(root, False, lambda text: emit(Note(text))) as lock:
        emit(Planned(len(trials), 0, len(jobs), 1, work, labels))
        with closing(EXECUTORS["inline"](Setting(root, 1, device, lock))) as executor:
            for event in run_jobs(jobs, executor, stop):
                emit(event)


def _backend(pack: tuple[Trial, ...], recorded: Mapping[str, RecordedTrial], device: str) -> str:
    """The backend that the page names, or the reference if it cannot train this pack here."""
    build = recorded[pack[0].hash].provenance.backend
    name = build.name if build else "reference"
    recipes = [trial.recipe for trial in pack]
    unusable = name not in BACKENDS or BACKENDS[name].refuses(recipes, describe_machine(device))
    return "reference" if unusable else name
