"""The fairness audit: what differs between the levels of each claim, and whether that follows from the factor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fathomlab.report.loose import entries, mapping
from fathomlab.report.tables import Table, table


@dataclass(frozen=True)
class Audit:
    """The comparison of a claim's two levels. `unfair` if a difference does not follow from the factor."""

    claim: str
    summary: str
    table: Table
    unfair: bool


def audit_tables(audits: Sequence[Mapping[str, Any]]) -> list[Audit]:
    """The audits that compare two levels, in the order of the claims."""
    found: list[Audit] = []
    for place, audit in enumerate(audits, start=1):
        rows = [mapping(row) for row in entries(audit.get("rows"))]
        first, second = [*map(str, entries(audit.get("levels"))), "first level", "second level"][:2]
        words = [_word(row) for row in rows]
        cells = [
            [str(row.get("what", "")), str(row.get("first", "")), str(row.get("second", "")), said]
            for row, said in zip(rows, words, strict=True)
        ]
        shown = table(f"audit-{place}", ["property", first, second, "result"], cells, texts=4)
        if rows:
            name, summary = str(audit.get("name", "")), str(audit.get("summary", ""))
            found.append(Audit(name, summary, shown, "unexpected" in words))
    return found


def _word(row: Mapping[str, Any]) -> str:
    if row.get("differs") is not True:
        return "same"
    return "expected" if row.get("expected") is True else "unexpected"
