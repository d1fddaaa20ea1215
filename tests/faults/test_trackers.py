"""Whatever happens to a tracker: training gives the same bits, ends soon, warns once, and an export completes the runs."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab import api
from fathomlab.execute.events import Emit, EpochDone, Event, Note, Warned
from fathomlab.execute.signals import StopRequest
from fathomlab.export import live
from fathomlab.store.reading import Store
from tests.helpers.commands import SOURCE, START
from tests.helpers.wandb_files import logged_runs

EPOCHS, SEEDS = 6, 2
CONFIG = {
    "seed": 3,
    "data": {"name": "shapes", "limit": 64, "batch_size": 16},
    "model": {"type": "MLP", "params": {"input_size": 3072, "layers_dim": 8, "hidden_layers_num": 1}},
    "training": {"epochs": EPOCHS, "lr": 0.01},
    "experiment": {"seeds": SEEDS, "analyze_gradients": True},
    "logging": {"project_name": "P", "log_gradients": True},
}


def bits(root: Path) -> dict[str, Any]:
    """What a tracker must not change: curves without times, weights, and predictions."""
    store = Store(root)
    records = {trial: store.trial(trial) for trial in store.trials()}
    assert {record.status for record in records.values()} == {"finished"}
    names = ("checkpoint.safetensors", "best.safetensors", "predictions.bin", "gradients.jsonl")
    return {
        trial: (
            {name: values for name, values in record.curves.items() if name != "seconds"},
            [record.files[name].sha256 for name in names],
            dict(record.metrics),
        )
        for trial, record in records.items()
    }


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same training without a tracker."""
    root = tmp_path_factory.mktemp("reference")
    fathomlab.run(CONFIG, runs=root, progress="off", device="cpu", log="none")
    return bits(root)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """What is reported to the user, and short limits for the end."""
    reported: list[Event] = []
    create = live.Live.__init__

    def recorded(
        self: live.Live, names: Sequence[str], root: Path, experiment: str, report: Emit, stop: StopRequest
    ) -> None:
        def both(event: Event) -> None:
            reported.append(event)
            report(event)

        create(self, names, root, experiment, both, stop)

    monkeypatch.setattr(live.Live, "__init__", recorded)
    monkeypatch.setattr(live, "SILENT_SECONDS", 4.0)
    return reported


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real client, which writes files."""
    pytest.importorskip("wandb", reason="needs the extra wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")


def when_training(monkeypatch: pytest.MonkeyPatch, act: Callable[[live.Child], None]) -> None:
    """Call `act` at the second epoch of a trial."""
    send, acted = live.Child.send, list[bool]()

    def sending(self: live.Child, value: Any) -> None:
        if isinstance(value, EpochDone) and value.epoch == 2 and not acted:
            acted.append(True)
            act(self)
        send(self, value)

    monkeypatch.setattr(live.Child, "send", sending)


def process(child: live.Child) -> int:
    """Process ID of a child, once it has reported where it logs."""
    wait_until(lambda: not child.messages.empty())
    assert child._process is not None
    return child._process.pid


def services(child: int) -> list[int]:
    """Process IDs of the services of wandb that belong to a child."""
    pids = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0") if folder.name.isdigit() else []
            if words and words[0].endswith(b"wandb-core") and str(child).encode() in words:
                pids.append(int(folder.name))
    return pids


def wait_until(condition: Callable[[], Any]) -> Any:
    """The first true value of a condition; fails after a minute."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    return pytest.fail("waited for a minute")


def run(root: Path) -> str:
    """Train with the tracker; returns the name of the experiment."""
    return fathomlab.run(CONFIG, runs=root, progress="off", device="cpu", log="wandb").summary.experiment


def check(root: Path, events: list[Event], reference: dict[str, Any]) -> None:
    """Equal bits, and one warning with the number of missing trials and the command."""
    assert bits(root) == reference
    warnings = [event.text for event in events if isinstance(event, Warned)]
    assert len(warnings) == 1
    assert f"{SEEDS} trials" in warnings[0]
    assert "fathomlab export wandb" in warnings[0]


def check_export(root: Path, experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The export logs each trial once, a second one logs nothing."""
    pytest.importorskip("wandb", reason="needs the extra wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert api.export_experiment("wandb", experiment, runs=root) == (root / "wandb",)
    assert api.export_experiment("wandb", experiment, runs=root) == ()
    runs = logged_runs(root)
    assert [run.name.split()[-1] for run in runs] == [f"seed={3 + index}" for index in range(SEEDS)]
    for logged in runs:
        assert [step for step, _ in logged.rows] == [*range(EPOCHS + 1)]
        assert logged.exit_code == 0


def test_killed_service_of_wandb(
    tmp_path: Path, events: list[Event], reference: Any, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(child: live.Child) -> None:
        identity = process(child)
        (service,) = wait_until(lambda: services(identity))
        os.kill(service, signal.SIGKILL)

    when_training(monkeypatch, kill)
    experiment = run(tmp_path)
    check(tmp_path, events, reference)
    check_export(tmp_path, experiment, monkeypatch)


def test_killed_child(
    tmp_path: Path, events: list[Event], reference: Any, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    def kill(child: live.Child) -> None:
        started.append(process(child))
        wait_until(lambda: services(started[0]))
        os.kill(started[0], signal.SIGKILL)

    when_training(monkeypatch, kill)
    experiment = run(tmp_path)
    check(tmp_path, events, reference)
    check_export(tmp_path, experiment, monkeypatch)
    wait_until(lambda: not services(started[0]))  # the service ends by itself


def test_child_that_never_reads(
    tmp_path: Path, events: list[Event], reference: Any, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "QUEUE_SIZE", 3)
    monkeypatch.setattr(live, "SILENT_SECONDS", 1.0)
    send = live.Child.send

    def stop(child: live.Child) -> None:
        os.kill(process(child), signal.SIGSTOP)
        for _ in range(1000):  # more than the pipe and the queue can hold
            send(child, Note("x" * 1000))

    when_training(monkeypatch, stop)
    experiment = run(tmp_path)
    check(tmp_path, events, reference)
    check_export(tmp_path, experiment, monkeypatch)


def test_directory_that_cannot_be_written(
    tmp_path: Path, events: list[Event], reference: Any, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb").write_text("a file")
    experiment = run(tmp_path)
    check(tmp_path, events, reference)
    with pytest.raises(fathomlab.UserError) as caught:
        api.export_experiment("wandb", experiment, runs=tmp_path)
    assert caught.value.code == "unwritable"
    (tmp_path / "wandb").unlink()
    check_export(tmp_path, experiment, monkeypatch)


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.slow
def test_server_that_never_answers(
    tmp_path: Path,
    events: list[Event],
    reference: Any,
    offline: None,
    silent_server: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.delenv("WANDB_MODE")
        patch.setenv("WANDB_BASE_URL", silent_server)
        patch.setenv("WANDB_API_KEY", "0" * 40)
        experiment = run(tmp_path)
    assert [event.text for event in events if isinstance(event, Note)] == ["W&B: project P, online"]
    check(tmp_path, events, reference)
    check_export(tmp_path, experiment, monkeypatch)


def test_broken_wandb(tmp_path: Path, events: list[Event], reference: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed, but it raises an error when it is imported."""
    packages = tmp_path / "packages"
    (packages / "wandb").mkdir(parents=True)
    (packages / "wandb/__init__.py").write_text("raise RuntimeError('broken')")
    (packages / "wandb-9.9.dist-info").mkdir()
    (packages / "wandb-9.9.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: wandb\nVersion: 9.9\n")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(packages)
        patch.setenv("PYTHONPATH", os.pathsep.join((str(packages), os.environ.get("PYTHONPATH", ""))))
        experiment = run(tmp_path / "runs")
        trained = list(events)
        run(tmp_path / "runs")  # cached trials count as well
    shutil.rmtree(packages)
    check(tmp_path / "runs", trained, reference)
    check(tmp_path / "runs", events[len(trained) :], reference)
    assert "RuntimeError: broken" in next(event.text for event in events if isinstance(event, Warned))
    check_export(tmp_path / "runs", experiment, monkeypatch)


@pytest.mark.slow
def test_killed_parent(tmp_path: Path, offline: None) -> None:
    """Nothing survives a parent that is killed, and its output is not mixed with that of the tracker."""
    (tmp_path / "x.yaml").write_text(json.dumps(CONFIG | {"training": {"epochs": 100_000}}))
    command = [sys.executable, "-P", "-c", START, "run", "x.yaml", "--workers", "1", "--device", "cpu", "--json"]
    with subprocess.Popen(
        [*command, "--progress", "json"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": SOURCE},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as parent:
        wait_until(lambda: len(list(tmp_path.glob("runs/wandb/offline*/*.wandb"))) == SEEDS)
        (child,) = children(parent.pid)
        assert len(services(child)) == 1
        parent.kill()
        out, err = parent.communicate()
    assert out == b""
    lines = [json.loads(line) for line in err.splitlines()[:-1]]  # the last one may be cut off
    assert "offline" in next(line["text"] for line in lines if line["event"] == "note")
    wait_until(lambda: not services(child) and not Path(f"/proc/{child}").exists())
    assert [run.summary["status"] for run in logged_runs(tmp_path / "runs")] == ["interrupted"] * SEEDS


def children(parent: int) -> list[int]:
    """Process IDs of the children of a process that are trackers."""
    pids = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and (folder / "stat").read_text().rpartition(")")[2].split()[1] == str(parent):
                pids.append(int(folder.name))
    return [pid for pid in pids if b"fathomlab.export.child" in Path(f"/proc/{pid}/cmdline").read_bytes()]
