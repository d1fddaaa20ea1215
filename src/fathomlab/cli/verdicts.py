"""Verdicts in plain words, as `run` and `verify` print them."""

from collections.abc import Mapping, Sequence
from typing import Any

MARKS = (
    ("exploratory", "exploratory: the claim was added after results existed"),
    ("seeds_added_after_results", "seeds added after results"),
)


def print_verdicts(verdicts: Sequence[Mapping[str, Any]], details: bool = False) -> None:
    """Print one sentence per claim, its marks and notes below, and the statistics on request."""
    for verdict in verdicts:
        marks = [text for key, text in MARKS if verdict[key]]
        suffix = f" [{'; '.join(marks)}]" if marks else ""
        print(f"{verdict['verdict']}: {verdict['sentence']}{suffix}")
        for note in [*verdict["notes"], *(verdict["details"] if details else ())]:
            print(f"    {note}")
