"""Verdicts from the store, and the comparison of two reports."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

from fathomlab.analysis.compare import differences, lines, summary
from fathomlab.analysis.verdicts import verdicts
from fathomlab.api.planning import find_experiment
from fathomlab.base.problems import UserError, shown
from fathomlab.plan import Plan
from fathomlab.run.experiment import experiment_name, recorded_seed_count
from fathomlab.run.resolve import with_seeds
from fathomlab.store.inventory import take_inventory
from fathomlab.store.reading import Store


def verify(plan: Plan, root: Path) -> tuple[list[dict[str, Any]], int]:
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
    return verdicts(store, store.experiment(name)), len(missing)


def compare(root: Path, first: str, second: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The differences of two reports: rows of numbers, and lines of text.

    Args:
        root: The store.
        first: A report's file, or an experiment: a name in the store or its beginning, a file, or a bundled one.
        second: The other report or experiment.

    Raises:
        UserError: If one of them does not exist.
    """
    rows = differences(_numbers(root, first), _numbers(root, second))
    return rows, lines(rows)


def _numbers(root: Path, which: str) -> dict[str, Any]:
    path = Path(which)
    if not path.is_file() or path.suffix in (".yaml", ".yml"):
        store = Store(root)
        return summary(store, store.experiment(find_experiment(store, which)))
    parser = _Embedded()
    try:
        parser.feed(path.read_text(encoding="utf-8"))
        value = json.loads("".join(parser.found))
    except (OSError, ValueError):
        value = None
    if not isinstance(value, dict) or "conditions" not in value:
        raise UserError(
            "not-a-report",
            f"{shown(which)}: not a fathomlab report. Regenerate it with: fathomlab report",
        )
    return cast(dict[str, Any], value)


class _Embedded(HTMLParser):
    """Extracts the JSON that a report embeds."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag == "script" and dict(attrs).get("type") == "application/json"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.found.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "script"
