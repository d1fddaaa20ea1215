"""The harness itself detects what it is meant to detect."""

from pathlib import Path

from tests.faults.injection import points
from tests.faults.kills import differences, digest


def test_differences_names_what_differs(tmp_path: Path):
    """Another number in a line, an additional line, and another weight; times are ignored."""
    for name in ("one", "two"):
        folder = tmp_path / name / "trials" / ("ab" * 32)
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text('{"epoch": 1, "seconds": 1}\n{"epoch": 2, "seconds": 2}\n')
        (folder / "best.safetensors").write_bytes(b"x")
    golden, log = digest(tmp_path / "one"), folder / "metrics.jsonl"
    log.write_text(log.read_text().replace('"seconds": 1', '"seconds": 7'))
    assert differences(golden, digest(tmp_path / "two")) == []
    log.write_text(log.read_text() + '{"epoch": 2}\n')
    (folder / "best.safetensors").write_bytes(b"y")
    assert [line.split()[0] for line in differences(golden, digest(tmp_path / "two"))] == [
        "abababab/best.safetensors",
        "abababab/metrics.jsonl",
    ]


def test_faults_are_injected_without_strace(ram_dir: Path):
    """The functions of `os` raise or kill instead."""
    result = points("replace", ram_dir / "w", ("fsync", "rename"), ("KILL", "EIO"), traced=False)
    assert (result.counts["KILL"], result.counts["EIO"]) == (3, 3)
    result.raise_failures()
