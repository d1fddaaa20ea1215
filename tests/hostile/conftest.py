"""Seeds of random tests, printed at the end and replayed on request; a small trained store; commands in this process."""

import os
import random
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import fathomlab
from fathomlab.cli import main

TINY = """\
data: {name: mnist-sample, limit: 100, batch_size: 50}
model:
  type: MLP
  params: {layers_dim: 4, hidden_layers_num: 1}
training: {epochs: 1}
experiment:
  title: A tiny experiment
  analyze_gradients: true
  factors: {model.params.residual: [false, true]}
"""
SEEDS: dict[str, int] = {}


class Said(NamedTuple):
    """What a command left."""

    status: int
    out: str
    err: str


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """A stream of its own: FATHOMLAB_FUZZ_SEED replays one; the slow tests take a fresh one, the others always the same."""
    fresh = secrets.randbelow(2**32) if request.node.get_closest_marker("slow") else 2026
    seed = int(os.environ.get("FATHOMLAB_FUZZ_SEED") or fresh)
    SEEDS[request.node.name] = seed
    made = random.Random(seed)
    made.seed_of_test = seed  # type: ignore[attr-defined]
    return made


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Which seed each random test had."""
    if SEEDS:
        terminalreporter.section("seeds (FATHOMLAB_FUZZ_SEED=... replays one)")
        for name, seed in SEEDS.items():
            terminalreporter.write_line(f"{seed:>10}  {name}")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one experiment of two finished trials; do not change it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "exp.yaml").write_text(TINY)
    fathomlab.run(folder / "exp.yaml", runs=folder / "runs", workers=1, progress="off")
    return folder / "runs"


@pytest.fixture
def store(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it, in a working folder beside which nothing may appear."""
    inside = tmp_path / "work"
    inside.mkdir()
    (inside / "exp.yaml").write_text(TINY)
    shutil.copytree(trained, inside / "runs")
    monkeypatch.chdir(inside)
    monkeypatch.setenv("FATHOMLAB_RUNS", str(inside / "runs"))
    monkeypatch.setenv("FATHOMLAB_DATA", str(inside / "data"))
    monkeypatch.setenv("FATHOMLAB_OFFLINE", "1")
    yield inside / "runs"
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("work", "outside")] == []


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Runs a command in this process; a traceback leaves it as the exception that it is."""

    def run(*words: str) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as leaving:
            main(list(words))
        assert isinstance(leaving.value.code, int)
        return Said(leaving.value.code, *capsys.readouterr())

    return run
