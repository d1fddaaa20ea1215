"""What a gate found: how much was done, and what went wrong."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Found:
    """Counts of a gate, by name, and a line for each failure."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def check(self, holds: bool, failure: str) -> None:
        """Note a failure unless it holds."""
        if not holds:
            self.failures.append(failure)

    def add(self, other: "Found") -> "Found":
        """Take in what another has found."""
        self.counts += other.counts
        self.failures += other.failures
        return self

    def must_hold(self) -> None:
        """Raise with all failures."""
        shown = "\n".join(self.failures[:20])
        assert not self.failures, f"{len(self.failures)} failures in {dict(self.counts)}:\n{shown}"
