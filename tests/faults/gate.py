"""The result of a gate, and the seed of everything random in it, which FATHOMLAB_FAULT_SEED replays."""

import os
import random
import secrets
from collections import Counter
from dataclasses import dataclass, field

SEEDS: dict[str, int] = {}


@dataclass
class GateResult:
    """Counts by name, and a line per failure."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def check(self, passed: bool, failure: str) -> None:
        """Record a failure unless `passed`."""
        if not passed:
            self.failures.append(failure)

    def add(self, other: "GateResult") -> "GateResult":
        """Add the counts and failures of another result."""
        self.counts += other.counts
        self.failures += other.failures
        return self

    def raise_failures(self) -> None:
        """Raise AssertionError with the failures, if there are any."""
        lines = "\n".join(self.failures[:20])
        assert not self.failures, f"{len(self.failures)} failures in {dict(self.counts)}:\n{lines}"


def make_random(name: str, fresh: bool) -> random.Random:
    """Return the generator of a gate. Small sizes always draw the same numbers, full sizes (`fresh`) new ones."""
    given = os.environ.get("FATHOMLAB_FAULT_SEED")
    seed = int(given) if given else secrets.randbelow(2**32) if fresh else 1
    SEEDS[name] = seed
    print(f"{name}: FATHOMLAB_FAULT_SEED={seed}", flush=True)  # pytest shows it if the test fails
    return random.Random(f"{name} {seed}")
