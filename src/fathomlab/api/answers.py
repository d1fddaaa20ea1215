"""Verdicts from what the store holds, and the numbers of two reports side by side."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

from fathomlab.analysis.compare import differences, lines, summary
from fathomlab.analysis.verdicts import verdicts
from fathomlab.base.problems import UserError, shown
from fathomlab.plan import Plan
from fathomlab.run.experiment import experiment_name, known_seeds, unfinished
from fathomlab.run.resolve import with_seeds
from fathomlab.store.reading import Store


def verify(plan: Plan, root: Path) -> tuple[list[dict[str, Any]], int]:
    """The verdict on each claim of a plan, and how many of its trials are not finished.

    Raises:
        UserError: The plan has no claims, or the store has no such experiment.
    """
    if not plan.claims:
        raise UserError("no-claims", f"{plan.loaded.document.source}: has no claims, so there is nothing to verify.")
    name = experiment_name(plan, root)
    store = Store(root)
    if name not in [record.name for record in store.experiments()]:
        raise UserError(
            "no-such-experiment", f"{root}: holds no run of this experiment ({name}). Run it first: fathomlab run FILE"
        )
    missing = unfinished(with_seeds(plan, known_seeds(root, name)), store)
    return verdicts(store, store.experiment(name)), len(missing)


def compare(root: Path, first: str, second: str) -> tuple[list[dict[str, Any]], list[str]]:
    """What two reports say differently: rows of numbers, and lines for people.

    Args:
        root: The store in which names of experiments are looked for.
        first: A report's file, or the name of an experiment.
        second: Likewise.

    Raises:
        UserError: One of them is neither.
    """
    rows = differences(_numbers(root, first), _numbers(root, second))
    return rows, lines(rows)


def _numbers(root: Path, which: str) -> dict[str, Any]:
    path = Path(which)
    if not path.is_file():
        store = Store(root)
        return summary(store, store.experiment(which))
    parser = _Embedded()
    try:
        parser.feed(path.read_text(encoding="utf-8"))
        value = json.loads("".join(parser.found))
    except (OSError, ValueError):
        value = None
    if not isinstance(value, dict) or "conditions" not in value:
        raise UserError(
            "not-a-report",
            f"{shown(which)}: is no report of fathomlab with numbers in it. Write it again: fathomlab report",
        )
    return cast(dict[str, Any], value)


class _Embedded(HTMLParser):
    """Takes the JSON that a report embeds."""

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
