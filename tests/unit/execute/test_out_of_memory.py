"""CUDA out of memory, simulated on a CPU: packs are halved once, and single trials fail with a remedy."""

import gc
import weakref
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

import fathomlab
from fathomlab.base.errors import UserError
from fathomlab.engine import loop
from fathomlab.execute.coordinator import run_jobs
from fathomlab.execute.events import Event, Failed, Finished, Started, Warned
from fathomlab.execute.executors import inline, local
from fathomlab.execute.executors.setting import Setting
from fathomlab.execute.pack import pack, recovery
from fathomlab.execute.pack.pack import train_job
from fathomlab.execute.signals import RunInterrupted, StopRequest
from fathomlab.plan import Trial
from fathomlab.prepare.jobs import Job, prepare_jobs
from fathomlab.store.checkpoints import latest_checkpoint
from fathomlab.store.inventory import take_inventory
from fathomlab.store.reading import Store
from tests.helpers.compilers import needs_compiler


class FullDevice:
    """Runs out of memory if more replicas than `limit` train, from a step on.

    Attributes:
        sizes: The replicas of each pack that took a step.
        error: Creates what is raised. A stored error would keep its traceback, and with it the pack.
    """

    def __init__(self) -> None:
        """A device on which everything fits."""
        self.limit, self.from_step = 99, 0
        self.sizes: list[int] = []
        self.error: Callable[[], Exception] = lambda: torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2 GiB."
        )

    def step(self, trainer: Any, *args: Any, real: Any = loop.train_steps) -> None:
        """Train a step."""
        if not self.sizes or self.sizes[-1] != len(trainer.recipes):
            self.sizes.append(len(trainer.recipes))
        if len(trainer.recipes) > self.limit and trainer.state.step >= self.from_step:
            raise self.error()
        real(trainer, *args)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> FullDevice:
    """The device of the test."""
    full = FullDevice()
    monkeypatch.setattr(loop, "train_steps", full.step)
    return full


def trials_of(source: dict[str, Any], count: int) -> tuple[Trial, ...]:
    """Trials with different seeds, which fit into one pack."""
    return tuple(fathomlab.load(source, [f"seed=0..{count - 1}"]).trials)


def train(trials: tuple[Trial, ...], root: Path, every: float | None = None) -> list[Event]:
    """Train a pack."""
    events: list[Event] = []
    train_job(Job(trials, root, "cpu", checkpoint_seconds=every), events.append, lambda: None)
    return events


def digests(root: Path, trials: tuple[Trial, ...]) -> list[str]:
    """The SHA-256 of the final weights of each trial."""
    records = [Store(root).trial(trial.hash) for trial in trials]
    assert [record.status for record in records] == ["finished"] * len(trials)
    return [record.files["checkpoint.safetensors"].sha256 for record in records]


def packs(root: Path, trials: tuple[Trial, ...]) -> list[int]:
    """The recorded number of trials in the pack of each trial."""
    slots = [Store(root).trial(trial.hash).provenance.pack for trial in trials]
    return [slot.size for slot in slots if slot is not None]


@pytest.mark.parametrize(("count", "limit", "sizes"), [(4, 2, [2, 2]), (5, 3, [3, 2])])
def test_pack_is_halved_with_one_warning(
    device: FullDevice, small: dict[str, Any], tmp_path: Path, count: int, limit: int, sizes: list[int]
):
    """Results are those of packs of that size, bit for bit, because nothing of the large pack was saved."""
    trials = trials_of(small, count)
    device.limit = limit
    events = train(trials, tmp_path / "halved")
    (warning,) = [event.text for event in events if isinstance(event, Warned)]
    assert f"run.pack={sizes[0]}" in warning
    assert [len(event.trials) for event in events if isinstance(event, Started)] == [count, *sizes]
    assert packs(tmp_path / "halved", trials) == [size for size in sizes for _ in range(size)]
    device.limit = 99
    train(trials[: sizes[0]], tmp_path / "planned")
    train(trials[sizes[0] :], tmp_path / "planned")
    assert digests(tmp_path / "halved", trials) == digests(tmp_path / "planned", trials)


def test_halves_that_run_out_train_one_by_one(device: FullDevice, small: dict[str, Any], tmp_path: Path):
    """The pack is halved only once, and that is the only warning."""
    trials = trials_of(small, 4)
    device.limit = 1
    events = train(trials, tmp_path / "single")
    assert [len(event.trials) for event in events if isinstance(event, Started)] == [4, 2, 1, 1, 2, 1, 1]
    assert len([event for event in events if isinstance(event, Warned)]) == 1
    device.limit = 99
    for trial in trials:
        train((trial,), tmp_path / "planned")
    assert digests(tmp_path / "single", trials) == digests(tmp_path / "planned", trials)


def test_single_trial_fails_with_the_remedy(device: FullDevice, small: dict[str, Any], tmp_path: Path):
    (trial,) = trials_of(small, 1)
    device.limit = 0
    (failure,) = [event for event in train((trial,), tmp_path) if isinstance(event, Failed)]
    assert [part for part in ("data.batch_size", "run.pack", "2 GiB") if part not in failure.cause] == []
    assert Store(tmp_path).trial(trial.hash).cause == failure.cause


def test_other_errors_are_not_halved(device: FullDevice, small: dict[str, Any], tmp_path: Path):
    """They belong to one trial, which is found one by one."""
    trials = trials_of(small, 4)
    device.limit, device.error = 1, lambda: RuntimeError("a fault")
    events = train(trials, tmp_path)
    assert [len(event.trials) for event in events if isinstance(event, Started)] == [4, 1, 1, 1, 1]
    assert not [event for event in events if isinstance(event, Warned)]


def raised_by_plugin() -> UserError:
    """As `user_code` reports errors of plugins."""
    try:
        raise UserError("plugin-error", "model.py:3: too large") from torch.OutOfMemoryError("CUDA out of memory.")
    except UserError as error:
        return error


@pytest.mark.parametrize(
    "error",
    [
        lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
        lambda: torch.AcceleratorError("CUDA error: out of memory"),
        raised_by_plugin,
    ],
    ids=["library", "driver", "plugin"],
)
def test_memory_errors_of_libraries_and_plugins_halve(
    device: FullDevice, small: dict[str, Any], tmp_path: Path, error: Callable[[], Exception]
):
    trials = trials_of(small, 2)
    device.limit, device.error = 1, error
    assert len([event for event in train(trials, tmp_path) if isinstance(event, Warned)]) == 1
    assert packs(tmp_path, trials) == [1, 1]


def test_halves_resume_from_the_checkpoint_of_their_pack(device: FullDevice, small: dict[str, Any], tmp_path: Path):
    """Hours of training are not thrown away; provenance names the pack that trained them."""
    trials = trials_of(small, 4)
    device.limit, device.from_step = 2, 6
    train(trials, tmp_path, every=0.0)
    for trial in trials:
        record = Store(tmp_path).trial(trial.hash)
        assert record.status == "finished"
        (resumed,) = record.provenance.resumed
        assert 0 < resumed.step <= 6
        assert len(resumed.members) == 4
    assert packs(tmp_path, trials) == [2] * 4


def test_interrupted_half_resumes_as_a_half(device: FullDevice, small: dict[str, Any], tmp_path: Path):
    """Its checkpoints name its trials, so that the next run does not form the large pack again."""
    plan = fathomlab.load(small, ["seed=0..3"])
    trials = tuple(plan.trials)
    device.limit = 2
    polls = iter(range(99))

    def stop() -> int | None:
        return 2 if len(device.sizes) > 1 and next(polls) == 3 else None

    with pytest.raises(RunInterrupted):
        train_job(Job(trials, tmp_path, "cpu"), lambda event: None, stop)
    saved = [latest_checkpoint(tmp_path / "trials" / trial.hash) for trial in trials]
    assert [checkpoint and len(checkpoint.members) for checkpoint in saved] == [2, 2, None, None]
    jobs = prepare_jobs(plan, trials, take_inventory(tmp_path, trials), "cpu", 1)
    assert [len(job.trials) for job in jobs] == [2, 2]
    for job in jobs:
        train(job.trials, tmp_path)
    device.limit = 99
    train(trials[:2], tmp_path / "planned")
    train(trials[2:], tmp_path / "planned")
    assert digests(tmp_path, trials) == digests(tmp_path / "planned", trials)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that receives, whenever a pack is created, the number of those still in memory."""
    alive: list[weakref.ref[Any]] = []
    counts: list[int] = []
    real = pack.PackTrainer

    def trainer(*args: Any) -> Any:
        counts.append(sum(ref() is not None for ref in alive))
        created = real(*args)
        alive.append(weakref.ref(created))
        return created

    monkeypatch.setattr(pack, "PackTrainer", trainer)
    return counts


@pytest.mark.parametrize("backend", ["reference", pytest.param("native", marks=needs_compiler)])
def test_memory_of_a_pack_is_free_before_the_next(
    small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
):
    """Without a search for cycles, which may come much later."""
    counts = counted(monkeypatch)
    gc.disable()
    try:
        for trial in trials_of(small, 2):
            train_job(Job((trial,), tmp_path, "cpu", backend=backend), lambda event: None, lambda: None)
            built = Store(tmp_path).trial(trial.hash).provenance.backend
            assert built is not None
            assert built.name == backend
    finally:
        gc.enable()
    assert counts == [0, 0]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_memory_of_a_pack_is_free_before_its_parts(
    device: FullDevice,
    small: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Callable[[], Exception],
):
    """The traceback of its error would keep it."""
    device.error = error
    counts = counted(monkeypatch)
    device.limit = 2
    gc.disable()
    try:
        train(trials_of(small, 4), tmp_path)
    finally:
        gc.enable()
    assert counts[:2] == [0, 0]


class BrokenCuda:
    """A CUDA device of which every later operation fails, as after an error in a kernel."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Simulate it."""
        self.works = True
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        monkeypatch.setattr(recovery, "choose_device", torch.device)
        monkeypatch.setattr(torch.cuda, "synchronize", self.operation)
        monkeypatch.setattr(torch.cuda, "empty_cache", self.operation)

    def operation(self, device: object = None) -> None:
        """Anything on the device."""
        assert device in (None, torch.device("cuda"))
        if not self.works:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCompile with ...")


@pytest.mark.parametrize("count", [1, 2])
def test_broken_device_ends_the_process(
    tmp_path: Path, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch, count: int
):
    """No other trial is blamed; only one that was alone is recorded as failed."""
    cuda = BrokenCuda(monkeypatch)
    job = Job(trials_of(small, count), tmp_path, "cuda")
    cuda.works = False
    events: list[Event] = []
    monkeypatch.setattr(pack, "_attempt", lambda *args: recovery.Problem("RuntimeError: illegal memory access"))
    with pytest.raises(UserError, match=r"illegal memory access was encountered \(after") as caught:
        train_job(job, events.append, lambda: None)
    assert caught.value.code == "cuda-broken"
    assert "run.executor=local" in str(caught.value)
    assert [type(event) for event in events] == [Failed] * (count == 1)


def test_working_device_continues(tmp_path: Path, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    """After an error that leaves the device intact, such as out of memory."""
    BrokenCuda(monkeypatch)
    recovery.release_memory(Job(trials_of(small, 1), tmp_path, "cuda"), recovery.Problem("", out_of_memory=True))


BROKEN = """
import sys
sys.path.append(sys.argv[1])
from fathomlab.base.errors import UserError
from fathomlab.execute.pack import pack, recovery
def release_memory(job, problem):
    raise UserError("cuda-broken", "it is broken")
def attempt(job, around, original=pack._attempt):
    if any(trial.seed == 1 for trial in job.trials):
        return recovery.Problem("a fault in a kernel")
    return original(job, around)
pack.release_memory, pack._attempt = release_memory, attempt
from fathomlab.execute.worker import main
main()
"""


@pytest.mark.slow  # six workers
def test_worker_with_a_broken_device_is_replaced(
    tmp_path: Path, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    """The pack is tried again in new processes, then trial by trial: only the one at fault fails."""
    monkeypatch.setattr(local, "START", BROKEN)
    trials = trials_of(small, 2)
    with closing(local.Local(Setting(tmp_path, 1, "cpu"))) as executor:
        events = list(run_jobs([Job(trials, tmp_path, "cpu")], executor, StopRequest()))
    assert [event.trial for event in events if isinstance(event, Finished)] == [trials[0].hash]
    assert [event.cause for event in events if isinstance(event, Failed)] == ["a fault in a kernel"]
    assert {Store(tmp_path).trial(trial.hash).status for trial in trials} == {"finished", "failed"}


def test_broken_device_in_this_process_ends_the_run(
    tmp_path: Path, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    """With the error that names the remedy."""
    BrokenCuda(monkeypatch).works = False
    monkeypatch.setattr(pack, "_attempt", lambda *args: recovery.Problem("a fault"))
    jobs = [Job(trials_of(small, 2), tmp_path, "cuda")]
    with closing(inline.Inline(Setting(tmp_path, 1))) as executor, pytest.raises(UserError) as caught:
        list(run_jobs(jobs, executor, StopRequest()))
    assert caught.value.code == "cuda-broken"
