"""Every gate of the matrix, in small by default and in full with `-m slow`."""

from pathlib import Path

import pytest

from tests.faults.forks import Servers
from tests.faults.gates import GATES
from tests.faults.matrix import ALL, covering

SLOW = ("lease-stops", "lease-outages", "lease-workers", "dead-workers-native")  # also in small
ROWS = [
    pytest.param(name, gate.small, id=f"{name}-{gate.small}", marks=[pytest.mark.slow] * (name in SLOW))
    for name, gate in GATES.items()
]
ROWS += [
    pytest.param(name, gate.full, id=f"{name}-{gate.full}", marks=pytest.mark.slow) for name, gate in GATES.items()
]


@pytest.mark.parametrize(("name", "size"), ROWS)
def test_gate_passes(ram_dir: Path, servers: Servers, name: str, size: int):
    gate = GATES[name]
    if reason := gate.missing:
        pytest.skip(reason)
    result = gate.measure(name, ram_dir, servers, size)
    assert sum(result.counts.values()) >= size
    result.raise_failures()


def test_small_resume_gate_covers_every_level():
    """Every level of every axis occurs."""
    cases = covering(GATES["resume"].small)
    for axis in range(5):
        assert {list(vars(case).values())[axis] for case in cases} == {list(vars(case).values())[axis] for case in ALL}
