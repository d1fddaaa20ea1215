"""The device that trains: numbers of GPUs, and what a resumed pack compares."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

import fathomlab
from fathomlab.base.errors import UserError
from fathomlab.execute.events import Event, Idle, Note
from fathomlab.execute.executors import local
from fathomlab.execute.executors.setting import Setting
from fathomlab.execute.pack import devices
from fathomlab.prepare import gpus
from fathomlab.prepare.gpus import Gpu
from fathomlab.prepare.jobs import Job


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch reports two GPUs of one name."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU of {torch.device(device).type}")
    monkeypatch.setattr(gpus, "visible_gpus", lambda: (Gpu("A", 2**36),) * 2)


@pytest.mark.usefixtures("two_gpus")
def test_choose_device_returns_one_of_several_gpus():
    """`auto:N` is the device of a worker, and its number may be too large for PyTorch."""
    for name, expected in (
        ("auto", "cuda"),
        ("cuda", "cuda"),
        ("cuda:1", "cuda:1"),
        ("auto:3", "cuda:1"),
        ("cpu", "cpu"),
    ):
        assert devices.choose_device(name) == torch.device(expected)
    with pytest.raises(UserError, match=r"cuda:2.* 2 CUDA devices") as caught:
        devices.choose_device("cuda:2")
    assert caught.value.code == "no-cuda"


def test_choose_device_without_gpus(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [str(devices.choose_device(name)) for name in ("auto", "auto:1", "cpu")] == ["cpu"] * 3
    for name in ("cuda", "cuda:0"):
        with pytest.raises(UserError) as caught:
            devices.choose_device(name)
        assert caught.value.code == "no-cuda"
        assert f"--device {name}: no CUDA device" in str(caught.value)


@pytest.mark.usefixtures("two_gpus")
def test_environment_has_no_number_of_a_gpu():
    """A pack may resume on any GPU of the same name."""
    environments = [devices.current_environment(name) for name in ("cuda", "cuda:0", "cuda:1")]
    assert environments[0] == environments[1] == environments[2]
    assert (environments[0]["device"], environments[0]["gpu"]) == ("cuda", "GPU of cuda")


@pytest.mark.usefixtures("two_gpus")
def test_on_device_selects_the_device(monkeypatch: pytest.MonkeyPatch):
    """Only if it has a number."""
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "device", current.append)
    for name in ("cpu", "cuda", "cuda:1"):
        devices.on_device(name)
    assert current == [torch.device("cuda:1")]


@pytest.mark.usefixtures("two_gpus")
def test_run_rejects_missing_gpus_before_training(tmp_path: Path, small: dict[str, Any]):
    with pytest.raises(UserError, match="2 CUDA devices") as caught:
        fathomlab.api.run(small, runs=tmp_path / "runs", progress="off", device="cuda:5")
    assert caught.value.code == "no-cuda"
    assert not list((tmp_path / "runs" / "trials").iterdir())


ECHO = """
import json, sys
print(json.dumps({"event": "ready"}), flush=True)
for line in sys.stdin:
    job = json.loads(line)
    if job["backend"] == "die":
        sys.exit(3)
    print(json.dumps({"event": "note", "text": job["device"]}), flush=True)
    if job["backend"] != "busy":
        print(json.dumps({"event": "idle"}), flush=True)
"""


def test_workers_train_on_their_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: dict[str, Any]):
    """Each on one, in turn; a worker that replaces another one takes its GPU."""
    monkeypatch.setattr(gpus, "visible_gpus", lambda: (Gpu("A", 2**36),) * 2)
    monkeypatch.setattr(local, "START", ECHO)
    trials = fathomlab.load(small).trials

    def answers(executor: local.Local, count: int) -> list[str]:
        collected: list[Event] = []
        while len(collected) < count:
            collected += [event for _, event in executor.events(60) if not isinstance(event, Idle)]
        return [event.text if isinstance(event, Note) else type(event).__name__ for event in collected]

    with closing(local.Local(Setting(tmp_path, 3, "cuda"))) as executor:
        assert [worker.slot for worker in executor.workers] == [0, 1, 2]
        for _ in range(3):
            executor.submit([Job(trials, tmp_path, "cuda", backend="busy")])
        assert sorted(answers(executor, 3)) == ["cuda:0", "cuda:0", "cuda:1"]
    with closing(local.Local(Setting(tmp_path, 2, "cuda"))) as executor:
        executor.submit([Job(trials, tmp_path, "cuda", backend="busy")])
        assert answers(executor, 1) == ["cuda:0"]
        executor.submit([Job(trials, tmp_path, "cuda", backend="die")])
        assert answers(executor, 1) == ["Died"]
        executor.submit([Job(trials, tmp_path, "cuda", backend="busy")])
        assert answers(executor, 1) == ["cuda:1"]
    with closing(local.Local(Setting(tmp_path, 1, "cuda"))) as executor:
        for device in ("cuda:1", "cpu"):
            executor.submit([Job(trials, tmp_path, device)])
            assert answers(executor, 1) == [device]
            list(executor.events(0.2))
