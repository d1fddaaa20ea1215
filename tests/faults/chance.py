"""The seed of everything random here: printed, and replayed by FATHOMLAB_FAULT_SEED."""

import os
import random
import secrets

USED: dict[str, int] = {}


def chance(name: str, fresh: bool = False) -> random.Random:
    """A stream for one gate; the quick tests always draw the same, full runs (`fresh`) others each time."""
    given = os.environ.get("FATHOMLAB_FAULT_SEED")
    seed = int(given) if given else secrets.randbelow(2**32) if fresh else 1
    USED[name] = seed
    print(f"{name}: FATHOMLAB_FAULT_SEED={seed}", flush=True)
    return random.Random(f"{name} {seed}")
