"""The fairness audit: what differs between the levels of each claim, and whether that follows from the factor."""

from collections.abc import Sequence
from dataclasses import dataclass

from fathomlab.analysis.audit import Audit, Finding, summarize
from fathomlab.analysis.study import Study
from fathomlab.analysis.verdicts import Verdict
from fathomlab.report.section import Section
from fathomlab.report.tables import Table, table


@dataclass(frozen=True)
class AuditTable:
    """The comparison of a claim's two levels. `confounded` if a difference does not follow from the factor."""

    claim: str
    summary: str
    table: Table
    confounded: bool


def section(study: Study, verdicts: Sequence[Verdict], audits: Sequence[Audit]) -> Section | None:
    """The audits that compare two levels."""
    tables = audit_tables(audits)
    return Section("audit", "Fairness audit", tables) if tables else None


def audit_tables(audits: Sequence[Audit]) -> list[AuditTable]:
    """The audits that compare two levels, in the order of the claims."""
    return [
        AuditTable(audit.claim, summarize(audit), _table(f"audit-{number}", audit), bool(audit.unexpected))
        for number, audit in enumerate(audits, start=1)
        if audit.findings
    ]


def _table(name: str, audit: Audit) -> Table:
    rows = [[item.property, item.first, item.second, _result(item)] for item in audit.findings]
    return table(name, ["property", *audit.levels, "result"], rows, texts=4)


def _result(finding: Finding) -> str:
    if not finding.differs:
        return "same"
    return "expected" if finding.expected else "unexpected"
