"""Verdicts from the store, and the comparison of two reports."""

import shlex
from pathlib import Path

from fathomlab.analysis.as_json import conditions_left_out, read_summary
from fathomlab.analysis.compare import Difference, Summary, diff_summaries, summarize_study
from fathomlab.analysis.study import study
from fathomlab.analysis.verdicts import Verdict, judge
from fathomlab.api.pages import not_a_report, read_page, split_address
from fathomlab.api.planning import file_of, find_experiment
from fathomlab.api.stores import default_runs
from fathomlab.base.errors import UserError
from fathomlab.base.labels import count
from fathomlab.execute.experiment import experiment_name, recorded_seed_count
from fathomlab.plan import Plan, with_seeds
from fathomlab.store.inventory import take_inventory
from fathomlab.store.reading import Store


def verify(plan: Plan, root: Path) -> tuple[tuple[Verdict, ...], int]:
    """The verdict on each claim of a plan, and the number of unfinished trials.

    Raises:
        UserError: If the plan has no claims, or the store has no such experiment, or a corrupted one.
    """
    if not plan.claims:
        raise UserError("no-claims", f"{plan.loaded.document.source}: the experiment has no claims to verify.")
    store = Store(root)
    names = store.experiment_names()
    name = experiment_name(plan, names)
    if name not in names:
        words = ["fathomlab", "run", file_of(plan), *(["--quick"] if plan.loaded.quick else [])]
        runs = [] if root == default_runs() else ["--runs", str(root)]
        command = shlex.join([*words, *plan.loaded.overrides, *runs])
        raise UserError("no-such-experiment", f"{root}: no results of this experiment ({name}). Run: {command}")
    record = store.readable(name)
    trials = with_seeds(plan, recorded_seed_count(root, name)).trials
    missing = take_inventory(root, trials).pending(trials)
    return judge(study(store, record)), len(missing)


def compare(root: Path, first: str, second: str) -> list[Difference]:
    """The differences of two reports.

    Args:
        root: The store.
        first: A report (`PAGE.html`, or `PAGE.html#EXPERIMENT` if the page has several), or an experiment: a name in the store or
            its beginning, a file, or a bundled one.
        second: The other report or experiment.

    Raises:
        UserError: If one of them does not exist, is corrupted, or has an older format.
    """
    return diff_summaries(_summary(root, first), _summary(root, second))


def _summary(root: Path, name: str) -> Summary:
    address = split_address(name)
    if address is not None:
        path, fragment = address
        document = read_page(path).experiment(fragment)
        if left_out := conditions_left_out(document):
            text = f"{path}: does not contain the numbers of {count(left_out, 'condition')} of this large experiment."
            raise UserError(
                "incomplete-report", f"{text} Compare the experiment in its results directory: name it instead."
            )
        try:
            return read_summary(document)
        except ValueError:
            raise not_a_report(path) from None
    store = Store(root)
    experiment = study(store, store.readable(find_experiment(store, name)))
    return summarize_study(experiment, judge(experiment))
