"""Corruption is detected, reported, and isolated; interrupted trials resume from the previous checkpoint."""

import shutil
from pathlib import Path

import pytest

import fathomlab
from fathomlab.cli import main
from fathomlab.execute.events import Warned
from fathomlab.execute.experiment import RunOptions, run_experiment
from fathomlab.execute.pack.settings import deterministic_mode
from fathomlab.execute.signals import StopRequest
from fathomlab.store.checkpoints import checkpoint_path, checkpoint_steps
from fathomlab.store.checksums import decode_line
from fathomlab.store.maintenance import check_store
from fathomlab.store.reading import Store
from tests.faults.corruption import Target, create_target
from tests.faults.kills import differences, digest
from tests.faults.matrix import PLAIN, source


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Target:
    """A store that no test changes."""
    return create_target(tmp_path_factory.mktemp("whole") / "runs")


@pytest.fixture
def copy(intact: Target, tmp_path: Path) -> Target:
    """A copy of it."""
    root = tmp_path / "runs"
    shutil.copytree(intact.root, root)
    done, stopped = (
        tuple(root / folder.relative_to(intact.root) for folder in item) for item in (intact.finished, intact.stopped)
    )
    return Target(root, done, stopped, root / intact.experiment.relative_to(intact.root), intact.interrupted)


def command(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit status and output of a command."""
    with pytest.raises(SystemExit) as left:
        main([*words])
    printed = capfd.readouterr()
    assert "Traceback" not in printed.err
    return int(left.value.code or 0), printed.out + printed.err


def test_check_reports_nothing_for_an_intact_store(intact: Target):
    """The control."""
    assert check_store(intact.root).problems == ()


@pytest.mark.parametrize("name", ["metrics.jsonl", "gradients.jsonl"])
def test_truncated_log_loses_only_its_last_line(copy: Target, name: str):
    """It is not corrupted; if only the line end is missing, nothing is lost."""
    path = copy.stopped[0] / name
    data = path.read_bytes()
    start = data.rstrip(b"\n").rfind(b"\n") + 1
    intact = Store(copy.root).trial(path.parent.name).curves if name == "metrics.jsonl" else {}
    record = Store(copy.root).trial(path.parent.name)
    for length in range(start, len(data)):
        path.write_bytes(data[:length])
        record = Store(copy.root).trial(path.parent.name)
        assert record.status == "interrupted", length
        lines = len(record.probes["gradients"]) if name == "gradients.jsonl" else len(record.curves.get("epoch", ()))
        expected = data.count(b"\n") - (length < len(data) - 1)
        assert lines == expected, length
    assert name == "gradients.jsonl" or record.curves == intact


def resume(copy: Target) -> list[str]:
    """Finish the interrupted experiment; return the warnings."""
    printed: list[str] = []
    with deterministic_mode():
        run_experiment(
            copy.interrupted,
            copy.root,
            RunOptions("cpu", 1),
            lambda event: printed.append(event.text) if isinstance(event, Warned) else None,
            StopRequest(),
        )
    return printed


@pytest.mark.parametrize("corruption", ["none", "newest", "of one member", "both", "log", "log of one"])
def test_run_resumes_from_what_is_intact(copy: Target, intact: Target, tmp_path: Path, corruption: str):
    """The previous checkpoint of all members; logs that end before their checkpoint restart the pack."""
    other = tmp_path / "undisturbed"
    run_experiment(copy.interrupted, other, RunOptions("cpu", 1), lambda event: None, StopRequest())
    newest, before = checkpoint_steps(copy.stopped[0])
    for folder in copy.stopped if corruption in ("newest", "both") else copy.stopped[:1]:
        if corruption in ("newest", "of one member", "both"):
            checkpoint_path(folder, newest).write_bytes(b"")
        if corruption == "both":
            checkpoint_path(folder, before).write_bytes(checkpoint_path(folder, before).read_bytes()[:-1])
    if corruption == "log":
        for folder in copy.stopped:
            data = (folder / "gradients.jsonl").read_bytes()
            (folder / "gradients.jsonl").write_bytes(data[: len(data) // 2])
    if corruption == "log of one":
        path = copy.stopped[1] / "metrics.jsonl"
        path.write_bytes(path.read_bytes().replace(b"loss", b"lose", 1))
        assert Store(copy.root).trial(copy.stopped[1].name).cause in (None, "metrics.jsonl, line 1 is corrupted")
    printed = resume(copy)
    corrupt = {"newest": 2, "of one member": 1, "both": 4}.get(corruption, 0)
    assert sum("corrupted checkpoint" in text for text in printed) == corrupt
    assert ("from scratch" in " ".join(printed)) == (corruption in ("log", "log of one"))
    assert len(list(copy.root.glob("trials/*/*.corrupt"))) in (0, corrupt)
    expected, mine = digest(other), digest(copy.root)
    names = {folder.name[:8] for folder in copy.stopped}
    mine = {key: value for key, value in mine.items() if key[:8] in names and not key.endswith(".corrupt")}
    assert not differences(expected, mine)
    assert decode_line((copy.stopped[0] / "metrics.jsonl").read_text().splitlines()[0])


def test_missing_empty_and_extra_files_are_reported(copy: Target, capfd: pytest.CaptureFixture[str]):
    """list, show, report, and check name the problem, and work."""
    runs = ["--runs", str(copy.root)]
    status, printed = command(capfd, "store", "check", *runs)
    assert (status, "no problems found" in printed) == (0, True)
    seldom = {"result.json", "best.safetensors"}  # commands are slow, so they run for two files only
    for path in sorted(copy.finished[0].iterdir()):
        for emptied in (False, True):
            data = path.read_bytes()
            path.write_bytes(b"") if emptied else path.unlink()
            lost_result = (
                path.name == "result.json" and not emptied
            )  # then the trial is not finished, but not corrupted
            record = Store(copy.root).trial(copy.finished[0].name)
            if path.suffix in (".json", ".jsonl"):
                assert record.status == ("interrupted" if lost_result else "damaged"), path.name
            if not lost_result:
                faults = check_store(copy.root).problems
                assert any(path.name in f"{fault.path} {fault.problem}" for fault in faults), path.name
            if path.name in seldom:
                assert command(capfd, "store", "check", *runs)[0] == (0 if lost_result else 1)
                assert command(capfd, "show", copy.finished[0].name[:12], *runs)[0] in (0, 1)
                status, printed = command(capfd, "list", *runs)
                assert status == 0
            path.write_bytes(data)
    for name in ("notes.txt", ".hidden", "extra.jsonl.bak"):
        (copy.finished[0] / name).write_text("x")
    assert Store(copy.root).trial(copy.finished[0].name).status == "finished"
    (copy.finished[0] / "result.json").write_text("{")
    assert command(capfd, "report", *runs)[0] == 0
    assert command(capfd, "store", "check", *runs)[0] == 1


def test_repair_quarantines_what_the_next_run_trains(copy: Target, capfd: pytest.CaptureFixture[str]):
    """A corrupted trial is moved to `damaged/`; then the store has no problems, and the next run trains it."""
    golden = digest(copy.root)
    (copy.finished[0] / "metrics.jsonl").write_text("{}\n")
    log = copy.stopped[0] / "metrics.jsonl"
    log.write_bytes(log.read_bytes() + b'{"epoch": 9')
    (copy.stopped[0] / ".result.json.3999999.tmp").write_text("{")
    status, printed = command(capfd, "store", "repair", "--runs", str(copy.root))
    assert status == 0
    for word in ("moved to", "incomplete last line removed", "stale temporary file"):
        assert word in printed
    assert check_store(copy.root).problems == ()
    assert not copy.finished[0].exists()
    assert (copy.root / "damaged" / f"{copy.finished[0].name}-1" / "metrics.jsonl").exists()
    plan = fathomlab.load(source(PLAIN), ["run.pack=2"])
    run_experiment(plan, copy.root, RunOptions("cpu", 1), lambda event: None, StopRequest())
    assert Store(copy.root).trial(copy.finished[0].name).status == "finished"
    keys = {key for key in golden if key.startswith(copy.finished[1].name[:8])}
    mine = digest(copy.root)
    assert all(mine[key] == golden[key] for key in keys)
