"""Runs on a Ray cluster of several nodes on this machine: lost nodes, killed workers, killed runs, and a private network."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import fathomlab
from fathomlab.base.errors import UserError
from fathomlab.execute.events import Event, FleetChanged, Started, Warned
from fathomlab.execute.executors.ray import Ray
from fathomlab.execute.executors.ray.node import PREFIX
from fathomlab.execute.executors.setting import Setting
from fathomlab.store.lease_files import has_leases
from fathomlab.store.reading import Store
from tests.cluster.conftest import Nodes
from tests.cluster.runs import OFTEN, SMALL, bits, train, when_saved

LONG = tuple(text.replace("epochs=20", "epochs=100000") for text in SMALL)
pytestmark = pytest.mark.slow
pytest.importorskip("ray", reason="the extra ray is not installed")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the same experiment is on this machine with as many workers."""
    root = tmp_path_factory.mktemp("local")
    train(root, "local")
    return bits(root)


def kill_first(root: Path, kill: Callable[[str], object], times: int = 1) -> Callable[[Event], None]:
    """Kill what trains a pack, given the name of its node, when the pack has a checkpoint; `times` different packs."""
    seen = set[tuple[str, ...]]()

    def watch(event: Event) -> None:
        if isinstance(event, Started) and len(seen) < times and event.trials not in seen:
            seen.add(event.trials)
            when_saved(root, event.trials, lambda: kill(event.node))

    return watch


@pytest.mark.parametrize("shared", [True, False], ids=["shared folder", "no shared folder"])
def test_lost_node_changes_no_bits(
    nodes: Nodes, local: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
):
    """The other node resumes from the last checkpoint, and nothing stays on the nodes."""
    if not shared:
        monkeypatch.setattr(Ray, "show_token", lambda self, secret: None)
    scratch = set(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))
    summary, events = train(tmp_path, "ray", kill_first(tmp_path, lambda node: nodes.kill(node.rsplit("-", 1)[1])))
    assert (summary.failed, summary.trained) == (0, len(local))
    assert bits(tmp_path) == local
    fleet = [event for event in events if isinstance(event, FleetChanged)]
    assert fleet[-1].retried == fleet[-1].lost == 1
    assert any(isinstance(event, Warned) for event in events)
    trials = Store(tmp_path).trials()
    resumed = [trial for trial in trials if Store(tmp_path).trial(trial).provenance.resumed]
    assert len(resumed) == 1
    assert {Store(tmp_path).trial(trial).provenance.node.rpartition("-")[2] for trial in trials}
    assert not has_leases(tmp_path)
    assert set(Path(tempfile.gettempdir()).glob(f"{PREFIX}*")) <= scratch


def test_killed_workers_change_no_bits(nodes: Nodes, local: dict[str, object], tmp_path: Path):
    """SIGKILL for the processes that train three packs."""
    killed = set[tuple[str, ...]]()

    def watch(event: Event) -> None:
        if isinstance(event, Started) and len(killed) < 3 and event.trials not in killed:
            killed.add(event.trials)
            (worker,) = [
                pid for pid in processes("execute.worker") if f"FATHOMLAB_NODE={event.node}\0" in environment(pid)
            ]
            os.kill(worker, signal.SIGKILL)

    summary, events = train(tmp_path, "ray", watch)
    assert summary.failed == 0
    assert bits(tmp_path) == local
    warnings = [event.text for event in events if isinstance(event, Warned)]
    assert len(warnings) == 3
    assert all("SIGKILL" in text for text in warnings)


def test_killed_run_is_finished_on_this_machine(nodes: Nodes, local: dict[str, object], tmp_path: Path):
    """SIGKILL for the coordinator: Ray's driver ends with it, and its leases are free."""
    command = [sys.executable, "-m", "fathomlab", "run", "1_2", "--quick", *SMALL, OFTEN, "--executor", "ray"]
    before = set(processes("executors.ray.bridge"))
    process = subprocess.Popen(
        [*command, "--workers", "2", "--runs", str(tmp_path), "--progress", "off"], stdout=subprocess.DEVNULL
    )
    wait(lambda: any((tmp_path / "trials").glob("*/state-*.sealed")))
    process.kill()
    process.wait()
    assert 0 < len(Store(tmp_path).trials()) <= len(local)
    wait(lambda: set(processes("executors.ray.bridge")) <= before and not has_leases(tmp_path))
    summary, _ = train(tmp_path, "local")
    assert summary.failed == 0
    assert bits(tmp_path) == local


def test_new_nodes_get_workers(nodes: Nodes, tmp_path: Path):
    """A run starts without nodes, waits, and trains on the node that joins."""
    for name in list(nodes.names):
        nodes.kill(name)
    joined: list[str] = []

    def watch(event: Event) -> None:
        if event.event == "note" and not joined:
            joined.append(nodes.add())
            nodes.names.append(joined[0])

    time.sleep(20)  # until Ray has noticed that the nodes are gone
    summary, events = train(tmp_path, "ray", watch)
    assert summary.failed == 0
    assert joined
    assert next(event.nodes for event in events if isinstance(event, FleetChanged)) == 0
    assert {event.node.rsplit("-", 1)[1] for event in events if isinstance(event, Started)} == {joined[0][:8]}


def test_wrong_token_is_one_error(nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Within seconds, where Ray tries for 20 s and prints a line for each second."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    started, before = time.monotonic(), set(processes("executors.ray.bridge"))
    with pytest.raises(UserError) as caught:
        Ray(Setting(tmp_path, 1))
    assert caught.value.code == "ray-token"
    assert time.monotonic() - started < 15
    assert set(processes("executors.ray.bridge")) <= before


def test_nodes_with_other_code_are_refused(nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The error names the nodes; no trial is recorded as failed."""
    monkeypatch.setattr("fathomlab.execute.executors.ray.code_digest", lambda: "other")
    with pytest.raises(UserError) as caught:
        train(tmp_path, "ray")
    assert caught.value.code == "ray-nodes-unfit"
    assert Store(tmp_path).trials() == []


def test_cluster_of_this_machine_is_private_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It listens on 127.0.0.1 only, and Ctrl-C leaves checkpoints, but no process, folder, or token in the home folder."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    home = tmp_path / "home"
    home.mkdir()
    before, open_before, folders = (
        set(processes("ray")),
        set(listening()),
        set(Path("/tmp").glob("fathomlab-cluster-*")),
    )
    command = [sys.executable, "-m", "fathomlab", "run", "1_2", "--quick", *LONG, OFTEN]
    process = subprocess.Popen(
        [*command, "--executor", "ray", "--workers", "2", "--runs", str(tmp_path / "runs"), "--progress", "off"],
        env=dict(os.environ) | {"HOME": str(home)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait(lambda: any((tmp_path / "runs" / "trials").glob("*/state-*.sealed")))
    addresses = set(listening()) - open_before
    assert len(addresses) >= 4
    assert [address for address in addresses if "127.0.0.1" not in address] == []
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 128 + signal.SIGINT
    wait(lambda: set(processes("ray")) <= before)
    assert set(Path("/tmp").glob("fathomlab-cluster-*")) <= folders
    assert not (home / ".ray").exists()
    assert {record.status for record in map(Store(tmp_path / "runs").trial, Store(tmp_path / "runs").trials())} == {
        "interrupted"
    }


def test_api_trains_on_a_cluster(nodes: Nodes, tmp_path: Path):
    """As in a notebook: Ray's handlers of signals are not those of this process, and nothing runs afterwards."""
    handler, before = signal.getsignal(signal.SIGTERM), set(processes("executors.ray.bridge"))
    config = {"data": {"name": "mnist-sample", "limit": 100, "batch_size": 50}, "model": {"type": "MLP"}}
    results = fathomlab.run(config | {"training": {"epochs": 1}}, runs=tmp_path, executor="ray", progress="off")
    assert len(results.table()) >= 1
    assert signal.getsignal(signal.SIGTERM) is handler
    assert set(processes("executors.ray.bridge")) <= before


def wait(condition: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def processes(text: str) -> list[int]:
    """Processes of this user whose command line contains a text."""
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if text in command and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def environment(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def listening() -> list[str]:
    """Addresses at which processes listen."""
    output = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=True).stdout
    return [line.split()[3] for line in output.splitlines()]
