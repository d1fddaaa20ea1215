"""The Ray executor as far as no cluster is needed. What needs one is in tests/cluster."""

import importlib.util
import io
import socket
from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.base.errors import UserError
from fathomlab.execute.events import Died, Refused, Started
from fathomlab.execute.executors import EXECUTORS, resolve_executor
from fathomlab.execute.executors.ray import Ray, driver
from fathomlab.execute.executors.ray.messages import Progress, Workers, receive, send
from fathomlab.execute.executors.setting import Setting
from fathomlab.prepare.jobs import Job

CONFIG = {"data": {"name": "mnist-sample"}, "model": {"type": "MLP"}, "training": {"epochs": 1}}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses are checked as if Ray was installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)


def test_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        Ray(Setting(tmp_path, 1))
    assert caught.value.code == "missing-extra"
    assert "fathomlab[ray]" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:port", ":6379", "http://head:8265"])
def test_addresses_that_are_not_host_and_port_are_refused(installed: None, address: str):
    with pytest.raises(UserError) as caught:
        driver.check_address(address)
    assert caught.value.code == "ray-address"


def test_closed_port_is_reported_at_once(installed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Ray itself tries for minutes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    with pytest.raises(UserError) as caught:
        Ray(Setting(tmp_path, 1))
    assert caught.value.code == "ray-unreachable"
    assert str(port) in str(caught.value)


def test_auto_is_ray_only_with_an_address(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert resolve_executor("auto") == "local"
    assert EXECUTORS[resolve_executor("ray")] is Ray
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert resolve_executor("auto") == "ray"
    assert resolve_executor("local") == "local"


def test_preview_counts_packs_and_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Nothing is started for it where no cluster is named."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    trials = fathomlab.load(CONFIG, ["seed=0..4"]).trials
    text = Ray.preview([Job(trials[:3], tmp_path), Job(trials[3:], tmp_path)], Setting(tmp_path, 2))
    for part in ("2 packs", "5 trials", "2 workers", "1 CPU", "this machine"):
        assert part in text
    assert Ray.count_workers(Setting(tmp_path, 1), 7, 2) == 7
    assert 1 <= Ray.count_workers(Setting(tmp_path, 1), "auto", 2) <= 2


def test_cluster_of_this_machine_has_one_worker_per_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Packs are formed for them, as for `local`."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("fathomlab.prepare.gpus.gpu_count", lambda device: 0 if device == "cpu" else 3)
    monkeypatch.setattr("fathomlab.prepare.machine.cores", lambda: 16)
    counts = [Ray.count_workers(Setting(tmp_path, 1, device), "auto", 99) for device in ("cuda", "cpu")]
    assert counts == [EXECUTORS["local"].count_workers(Setting(tmp_path, 1, "cuda"), "auto", 99), 16] == [3, 16]


def test_cluster_of_this_machine_is_private(monkeypatch: pytest.MonkeyPatch):
    """No usage statistics, loopback only, and another token for each; the user's cluster keeps the user's settings."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", "mine")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/mine")
    first, second = (driver.environment("local") for _ in range(2))
    assert first["RAY_AUTH_TOKEN"] not in ("mine", second["RAY_AUTH_TOKEN"])
    assert "RAY_AUTH_TOKEN_PATH" not in first
    assert (first["RAY_AUTH_MODE"], first["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"]) == ("token", "0")
    theirs = driver.environment("head:6379")
    assert (theirs["RAY_AUTH_TOKEN"], theirs["RAY_AUTH_TOKEN_PATH"]) == ("mine", "/mine")
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in theirs
    assert {env["RAY_USAGE_STATS_ENABLED"] for env in (first, theirs)} == {"0"}


def test_messages_arrive_unless_they_are_cut_off():
    message = Progress(3, (Started(("a",), 2, node="b"), Refused("c", ""), Died("d", lost=True)))
    stream = io.BytesIO()
    for value in (message, Workers(1, 2, 3, 4)):
        send(stream, value)
    data = stream.getvalue()
    stream.seek(0)
    assert [receive(stream) for _ in range(3)] == [message, Workers(1, 2, 3, 4), None]
    cut: Any = io.BytesIO(data[:-1])
    assert receive(cut) == message
    assert receive(cut) is None
