"""A1: death at random instants costs nothing but time."""

from pathlib import Path

import pytest

from tests.faults.chance import chance
from tests.faults.forks import Server
from tests.faults.kills import digest, kill_loop, unlike

WAYS = {"packed": (), "alone": ("run.pack=1",)}


@pytest.mark.parametrize("way", WAYS)
def test_six_kills_cost_nothing(forks: Server, fast: Path, way: str):
    """No finished trial lost or trained again, no bit different, nothing left over."""
    found = kill_loop(forks, fast, 6, chance(f"kills {way}"), *WAYS[way])
    assert found.counts["kills"] == 6
    found.must_hold()


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_two_hundred_kills_cost_nothing(forks: Server, fast: Path, way: str):
    """The same at other instants each time."""
    found = kill_loop(forks, fast, 100, chance(f"kills {way}", fresh=True), *WAYS[way])
    assert found.counts["kills"] == 100
    found.must_hold()


def test_a_difference_is_seen(tmp_path: Path):
    """The comparison can fail: another number in a line, a line twice, a changed weight."""
    for name in ("one", "two"):
        folder = tmp_path / name / "trials" / ("ab" * 32)
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text('{"epoch": 1, "seconds": 1}\n{"epoch": 2, "seconds": 2}\n')
        (folder / "best.safetensors").write_bytes(b"x")
    golden, log = digest(tmp_path / "one"), folder / "metrics.jsonl"
    assert not unlike(golden, digest(tmp_path / "two"))
    log.write_text(log.read_text().replace('"seconds": 1', '"seconds": 7'))
    assert not unlike(golden, digest(tmp_path / "two"))
    log.write_text(log.read_text() + '{"epoch": 2}\n')
    (folder / "best.safetensors").write_bytes(b"y")
    assert unlike(golden, digest(tmp_path / "two")) == [
        "abababab/best.safetensors",
        "abababab/metrics.jsonl from line its end of 2, 3",
    ]
