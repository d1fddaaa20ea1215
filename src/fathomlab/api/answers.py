"""Verdicts from the store, and the comparison of two reports."""

import json
from html.parser import HTMLParser
from pathlib import Path

from fathomlab.analysis.as_json import read_summary
from fathomlab.analysis.compare import Difference, Summary, diff_summaries, summarize_study
from fathomlab.analysis.study import study
from fathomlab.analysis.verdicts import Verdict, judge
from fathomlab.api.planning import find_experiment
from fathomlab.base.errors import UserError, format_value
from fathomlab.execute.experiment import experiment_name, recorded_seed_count
from fathomlab.plan import Plan, with_seeds
from fathomlab.store.inventory import take_inventory
from fathomlab.store.reading import Store


def verify(plan: Plan, root: Path) -> tuple[tuple[Verdict, ...], int]:
    """The verdict on each claim of a plan, and the number of unfinished trials.

    Raises:
        UserError: If the plan has no claims, or the store has no such experiment.
    """
    if not plan.claims:
        raise UserError("no-claims", f"{plan.loaded.document.source}: the experiment has no claims to verify.")
    store = Store(root)
    names = store.experiment_names()
    name = experiment_name(plan, names)
    if name not in names:
        raise UserError(
            "no-such-experiment", f"{root}: no results of this experiment ({name}). Run: fathomlab run FILE"
        )
    trials = with_seeds(plan, recorded_seed_count(root, name)).trials
    missing = take_inventory(root, trials).pending(trials)
    return judge(study(store, store.experiment(name))), len(missing)


def compare(root: Path, first: str, second: str) -> list[Difference]:
    """The differences of two reports.

    Args:
        root: The store.
        first: A report's file, or an experiment: a name in the store or its beginning, a file, or a bundled one.
        second: The other report or experiment.

    Raises:
        UserError: If one of them does not exist, or has an older format.
    """
    return diff_summaries(_summary(root, first), _summary(root, second))


def _summary(root: Path, name: str) -> Summary:
    path = Path(name)
    if not path.is_file() or path.suffix in (".yaml", ".yml"):
        store = Store(root)
        record = store.experiment(find_experiment(store, name))
        if record.outdated:
            raise UserError("outdated-record", f"{record.folder}: {record.cause}.")
        experiment = study(store, record)
        return summarize_study(experiment, judge(experiment))
    parser = _Embedded()
    try:
        parser.feed(path.read_text(encoding="utf-8"))
        return read_summary(json.loads("".join(parser.texts)))
    except (OSError, ValueError):
        message = f"{format_value(name)}: not a fathomlab report. Regenerate it with: fathomlab report"
        raise UserError("not-a-report", message) from None


class _Embedded(HTMLParser):
    """Extracts the JSON that a report embeds."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag == "script" and dict(attrs).get("type") == "application/json"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.texts.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "script"
