"""Trains jobs on the nodes of a Ray cluster."""

import os
import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from fathomlab.base.errors import UserError
from fathomlab.base.files import atomic_write
from fathomlab.base.labels import count
from fathomlab.execute.events import Event, Warned
from fathomlab.execute.executors.ray.driver import Driver, cluster_address
from fathomlab.execute.executors.ray.messages import Cancel, Problem, Progress, Stop, Submit, Workers
from fathomlab.execute.executors.ray.setup import LOCAL, RaySetup
from fathomlab.execute.executors.setting import Fleet, Setting
from fathomlab.execute.signals import WAKE_SECONDS
from fathomlab.prepare.drift import KERNEL_VARIABLES, code_digest
from fathomlab.prepare.jobs import Job
from fathomlab.prepare.packing import worker_count
from fathomlab.store.lease_files import FOLDER

VARIABLES = (*KERNEL_VARIABLES, "ATEN_CPU_CAPABILITY", "FATHOMLAB_OFFLINE")


class Ray:
    """Workers that Ray places: one per CPU, or per GPU, of each node. `RAY_ADDRESS` names the cluster."""

    spans_hosts: ClassVar[bool] = True
    stop_seconds: ClassVar[float] = 15.0

    def __init__(self, setting: Setting):
        """Connect to the cluster, or start one on this machine, and start workers."""
        if setting.device.startswith("cuda:"):
            text = f"--device {setting.device}: Ray chooses the GPU of each worker. Use --device cuda."
            raise UserError("invalid-option", text)
        root = _absolute(setting.root)
        self._token = root / FOLDER / f"ray-{secrets.token_hex(8)}"
        self._submitted = 0
        self._workers: Workers | None = None
        self._events: deque[tuple[int, Event]] = deque()
        setup = RaySetup(
            root=root,
            token=self._token,
            secret=secrets.token_hex(16),
            run=secrets.token_hex(8),
            device=setting.device,
            workers=None if setting.elastic and cluster_address() != LOCAL else setting.workers,
            code=code_digest(),
            variables={key: value for key, value in os.environ.items() if key.startswith(VARIABLES)},
            address=cluster_address(),
        )
        self._driver = Driver(setup)
        try:
            self.show_token(setup.secret)
            while self._workers is None:
                self._receive(WAKE_SECONDS)
        except BaseException:
            self.close()
            raise

    @staticmethod
    def count_workers(setting: Setting, requested: str | int, packs: int) -> int:
        """One per CPU or GPU of the cluster, at most one per pack."""
        number = worker_count(requested, packs)
        if str(requested) != "auto":
            return number
        if cluster_address() == LOCAL:
            return worker_count(requested, packs, setting.device)
        return max(1, min(_cluster_size(cluster_address(), setting.device), packs))

    @staticmethod
    def queued(setting: Setting) -> tuple[tuple[str, ...], ...]:
        """None: jobs end with the run."""
        return ()

    @staticmethod
    def preview(jobs: Sequence[Job], setting: Setting) -> str:
        """The cluster, its size, and the packs."""
        address, unit = cluster_address(), "GPU" if setting.device.startswith("cuda") else "CPU"
        if address == LOCAL:
            where = "a Ray cluster that is started on this machine (RAY_ADDRESS is not set)"
        else:
            where = f"the Ray cluster at {address} ({count(_cluster_size(address, setting.device), unit)} now)"
        trials = sum(len(job.trials) for job in jobs)
        return (
            f"{count(len(jobs), 'pack')} ({count(trials, 'trial')}) on {where}\n"
            f"{count(setting.workers, 'worker')}, each with 1 {unit}; Ray retries nothing (max_retries=0), fathomlab does"
        )

    def capacity(self) -> int:
        """One job per worker that is ready or starts."""
        return self._workers.capacity if self._workers is not None else 0

    def submit(self, jobs: Sequence[Job]) -> tuple[int, ...]:
        """Send jobs to the driver, which gives them to idle workers."""
        numbers = tuple(range(self._submitted + 1, self._submitted + len(jobs) + 1))
        self._submitted += len(jobs)
        for number, job in zip(numbers, jobs, strict=True):
            self._driver.send(Submit(number, replace(job, root=_absolute(job.root))))
        return numbers

    def events(self, timeout_seconds: float) -> Iterator[tuple[int, Event]]:
        """The next events.

        Raises:
            UserError: If the cluster is gone, or no node can train.
        """
        if not self._events:
            self._receive(timeout_seconds)
        while self._events:
            yield self._events.popleft()

    def cancel(self, number: int) -> None:
        """Have the worker of a job killed."""
        self._driver.send(Cancel(number))

    def fleet(self) -> Fleet:
        """The workers that the driver has reported last."""
        workers = self._workers or Workers()
        return Fleet(workers.nodes, workers.workers)

    def stop(self, signum: int) -> None:
        """Have a stop request sent to every worker."""
        self._driver.send(Stop(signum))

    def close(self) -> None:
        """End the workers, the driver, and the cluster if it was started here."""
        self._driver.close()
        self._token.unlink(missing_ok=True)

    def show_token(self, secret: str) -> None:
        """Write the file by which workers find out whether they share the file system of the store."""
        self._token.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(self._token, secret)

    def _receive(self, timeout_seconds: float) -> None:
        """Take one message of the driver."""
        match self._driver.receive(timeout_seconds):
            case Progress(number, events):
                self._events += [(number, event) for event in events]
            case Workers() as workers:
                self._workers = workers
            case Problem(text, ""):
                self._events.append((0, Warned(text)))
            case Problem(text, code):
                raise UserError(code, text)
            case _:
                return


def _absolute(root: Path) -> Path:
    return Path(os.path.normpath(Path.cwd() / root))


@lru_cache(maxsize=4)
def _cluster_size(address: str, device: str) -> int:
    """CPUs, or GPUs, of the alive nodes of a cluster that runs."""
    setup = RaySetup(Path(), Path(), "", "", device, 0, code_digest(), address=address)
    driver = Driver(setup)
    try:
        while not isinstance(message := driver.receive(WAKE_SECONDS), Workers):
            if isinstance(message, Problem):
                raise UserError(message.code, message.text)
        return message.cpus
    finally:
        driver.close()
