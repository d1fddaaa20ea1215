"""Verdicts in plain words, as `run` and `verify` print them."""

from collections import Counter
from collections.abc import Sequence

from fathomlab.analysis import wording
from fathomlab.analysis.verdicts import Verdict
from fathomlab.base.labels import count


def print_verdicts(verdicts: Sequence[Verdict], details: bool = False) -> None:
    """Print one sentence per claim, its marks and notes below, and the statistics on request."""
    for verdict in verdicts:
        marks = ["exploratory: the claim was added after results existed"] * verdict.exploratory
        marks += ["seeds added after results"] * verdict.looks.changed
        suffix = f" [{'; '.join(marks)}]" if marks else ""
        print(f"{verdict.decision}: {wording.sentence(verdict)}{suffix}")
        for text in [*wording.notes(verdict), *(wording.details(verdict) if details else ())]:
            print(f"    {text}")


def tally(verdicts: Sequence[Verdict]) -> str:
    """How many claims have which verdict: "3 claims: 1 supported, 2 undecided"."""
    decisions = Counter(verdict.decision for verdict in verdicts)
    texts = [f"{decisions[name]} {name}" for name in ("supported", "refuted", "undecided") if decisions[name]]
    return f"{count(len(verdicts), 'claim')}: {', '.join(texts)}"
