"""Workers on the nodes of a Ray cluster: one actor per CPU, or per GPU. Only the process with Ray's driver uses this."""

import contextlib
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from fathomlab.base.codec import to_plain
from fathomlab.execute.events import Died, Event, Idle, Refused, Stopped
from fathomlab.execute.executors.ray import slot
from fathomlab.execute.executors.ray.delivery import Delivery, leased
from fathomlab.execute.executors.ray.inputs import ObjectInputs
from fathomlab.execute.executors.ray.messages import Problem, Progress, Workers
from fathomlab.execute.executors.ray.node import LAST, Batch, Hello
from fathomlab.execute.executors.ray.setup import RaySetup
from fathomlab.execute.pack.claim import NotClaimedError
from fathomlab.prepare.jobs import Job
from fathomlab.store.checksums import CorruptFileError
from fathomlab.store.leases import LeaseHeldError, LeaseLostError

PACKAGE = Path(__file__).parents[4]
START_SECONDS = 60.0  # after which a worker that has not started counts as absent: others may use its CPU
SUSPECT_SECONDS = 30.0  # Ray needs 15 s to notice that a node is gone
CLOSE_SECONDS = 3.0
MAX_ATTEMPTS_TO_START = 2
BACKLOG = 2  # batches that wait here; then a worker collects only what is newest
THREADS = 4  # of an actor: train, stop, close, and one more


@dataclass(eq=False)
class Worker:
    """An actor.

    Attributes:
        node: The id of its node.
        started: When it was requested.
        hello: What it reported; None while it starts.
        number: The number of its job, or None.
        jobs: Jobs for its thread; None to end.
    """

    node: str
    actor: Any
    started: float
    hello: Hello | None = None
    number: int | None = None
    jobs: "SimpleQueue[tuple[int, Job] | None]" = field(default_factory=SimpleQueue)


class RayWorkers:
    """The actors, each with a thread that waits for it. Ray restarts and retries nothing: the coordinator does."""

    def __init__(self, ray: Any, setup: RaySetup, send: Callable[[object], None]):
        """Start no actor yet; `send` takes messages for the coordinator."""
        self._ray, self._setup, self._send = ray, setup, send
        ray.cloudpickle.register_pickle_by_value(slot)
        self._lock = threading.RLock()
        self._workers: list[Worker] = []
        self._waiting: deque[tuple[int, Job]] = deque()
        self._jobs: dict[int, Job] = {}
        self._refused: dict[str, str] = {}
        self._suspect: dict[str, float] = {}
        self._failed_starts = Counter[str]()
        self._unfit: dict[tuple[str, ...], set[str]] = {}
        self._inputs = ObjectInputs(ray)
        self._shown: Workers | None = None
        self._closing = self._closed = False

    def refresh(self) -> None:
        """Start workers on nodes that have room for them, and forget those of dead nodes."""
        now, nodes = time.monotonic(), [node for node in self._ray.nodes() if node["Alive"]]
        gpus = self._setup.device != "cpu" and any(node["Resources"].get("GPU") for node in nodes)
        resource = "GPU" if gpus or self._setup.device.startswith("cuda") else "CPU"
        room = {node["NodeID"]: int(node["Resources"].get(resource, 0)) for node in nodes}
        with self._lock:
            for node in [node for node, until in self._suspect.items() if until < now]:
                del self._suspect[node]
            if not self._closing:
                self._start_workers({node: n for node, n in room.items() if node not in self._suspect}, resource)
        self._check_nodes({node["NodeID"]: node["NodeManagerHostname"] for node in nodes if room[node["NodeID"]]})
        self._show(sum(room.values()))

    def submit(self, number: int, job: Job) -> None:
        """Give a job to an idle worker, or to the next one that is."""
        with self._lock:
            self._jobs[number] = job
            self._waiting.append((number, job))
            self._assign()

    def cancel(self, number: int) -> None:
        """Kill the worker of a job. Its end is reported even if the node does not answer."""
        with self._lock:
            worker = next((worker for worker in self._workers if worker.number == number), None)
            self._waiting = deque(entry for entry in self._waiting if entry[0] != number)
            if worker is not None:
                self._suspect[worker.node] = time.monotonic() + SUSPECT_SECONDS
        if worker is not None:
            self._kill(worker)
        self._report(number, (Died("Nothing was heard from the worker", lost=True),))

    def stop(self, signum: int) -> None:
        """Forward a stop request. Jobs that no worker has got yet end at once."""
        with self._lock:
            waiting, self._waiting = list(self._waiting), deque()
            self._closing = True
            for worker in self._workers:
                if worker.hello is not None:
                    worker.actor.stop.remote(signum)
        for number, _ in waiting:
            self._report(number, (Stopped(),))

    def close(self) -> None:
        """End all workers; those that do not end by themselves are killed."""
        with self._lock:
            self._closing = self._closed = True
            workers = [worker for worker in self._workers if worker.hello is not None]
        ends = [worker.actor.close.remote() for worker in workers]
        if ends:
            with contextlib.suppress(Exception):
                self._ray.wait(ends, num_returns=len(ends), timeout=CLOSE_SECONDS)
        for worker in list(self._workers):
            self._kill(worker)

    def _start_workers(self, room: Mapping[str, int], resource: str) -> None:
        """Start one worker per node in turn, until the nodes are full or the run has its number of workers."""
        limit = sum(room.values()) if self._setup.workers is None else self._setup.workers
        used = {node: sum(worker.node == node for worker in self._workers) for node in room}
        free = [(used[node] + extra, node) for node, n in room.items() for extra in range(n - used[node])]
        for _, node in sorted(free)[: max(0, limit - sum(used.values()))]:
            if node not in self._refused:
                self._start(node, resource)

    def _start(self, node: str, resource: str) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # type: ignore[import-not-found]

        options: dict[str, Any] = {"num_cpus": 1} if resource == "CPU" else {"num_cpus": 0, "num_gpus": 1}
        kind = self._ray.remote(slot.Slot).options(
            **options,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=THREADS,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
        )
        worker = Worker(node, kind.remote(vars(self._setup), str(PACKAGE)), time.monotonic())
        self._workers.append(worker)
        threading.Thread(target=self._serve, args=(worker,), daemon=True).start()

    def _serve(self, worker: Worker) -> None:
        """The thread of a worker: waits until it is ready, then for its jobs."""
        try:
            hello = Hello(**self._ray.get(worker.actor.hello.remote()))
            if hello.problem:
                self._refuse(worker, hello.host, hello.problem)
                self._kill(worker)
                return
            with self._lock:
                worker.hello = hello
                self._assign()
            self._show()
            while (entry := worker.jobs.get()) is not None:
                self._train(worker, *entry)
                with self._lock:
                    worker.number = None
                    self._assign()
        except self._ray.exceptions.RayError as error:
            self._lose(worker, error)

    def _train(self, worker: Worker, number: int, job: Job) -> None:
        """Train a job with a worker.

        Raises:
            RayError: If the worker or its node is lost.
        """
        assert worker.hello is not None
        shared, node = worker.hello.shared, worker.hello.host
        last: tuple[Event, ...]
        try:
            with nullcontext() if shared else leased(job, node) as delivery:
                last = self._stream(worker, number, job, delivery)
        except LeaseHeldError as error:
            last = Refused(error.holder, error.lease), Idle()
        except NotClaimedError as error:
            last = Refused(str(error), ""), Idle()
        except LeaseLostError as error:
            self._kill(worker)
            last = Refused(str(error), ""), Idle()
        except (CorruptFileError, OSError) as error:  # on the way, or of this machine
            self._kill(worker)
            last = (Died(str(error), lost=True),)
        self._report(number, last)

    def _stream(self, worker: Worker, number: int, job: Job, delivery: Delivery | None) -> tuple[Event, ...]:
        """Report the events of a job except the last ones, which are returned: a lease is released before its job ends."""
        assert worker.hello is not None
        files, trials = self._inputs.of(worker.actor, worker.hello.shared, job)
        train = worker.actor.train.options(num_returns="streaming", _generator_backpressure_num_objects=BACKLOG)
        stream = train.remote(json.dumps(to_plain(job)), files, trials)
        events: tuple[Event, ...] = ()
        for reference in stream:
            batch: Batch = self._ray.get(reference)
            events = delivery.write(batch.events, batch.update) if delivery is not None else batch.events
            if any(isinstance(event, Refused) and event.lease is None for event in events):
                with self._lock:
                    self._unfit.setdefault(job.hashes, set()).add(worker.node)
            if events and not isinstance(events[-1], LAST):
                self._report(number, events)
        return events

    def _assign(self) -> None:
        """Give waiting jobs to idle workers, if possible on a node whose environment is that of the checkpoint."""
        while self._waiting:
            idle = [worker for worker in self._workers if worker.hello is not None and worker.number is None]
            if not idle:
                return
            number, job = self._waiting.popleft()
            unfit = self._unfit.get(job.hashes, set())
            worker = min(idle, key=lambda worker: worker.node in unfit)
            worker.number = number
            worker.jobs.put((number, job))

    def _lose(self, worker: Worker, error: Exception) -> None:
        """A worker has died, or its node does not answer any more."""
        if self._closed:
            return
        exceptions, text = self._ray.exceptions, str(error)
        memory = isinstance(error, exceptions.OutOfMemoryError)
        died = isinstance(error, exceptions.ActorDiedError | exceptions.RayTaskError)
        died = died and not getattr(error, "preempted", False)
        with contextlib.suppress(Exception):
            died = died and any(node["NodeID"] == worker.node and node["Alive"] for node in self._ray.nodes())
        host = worker.hello.host if worker.hello is not None else worker.node[:8]
        if not (memory or died):
            with self._lock:
                self._suspect[worker.node] = time.monotonic() + SUSPECT_SECONDS
        elif worker.hello is None:
            self._failed_starts[worker.node] += 1
            if self._failed_starts[worker.node] >= MAX_ATTEMPTS_TO_START:
                self._refuse(worker, host, f"its workers do not start: {text}")
        number = worker.number
        self._kill(worker)
        if number is not None:
            if memory:
                death = Died(f"Ray ended a worker on {host} because the memory was full", out_of_memory=True)
            elif isinstance(error, exceptions.RayTaskError):
                death = Died(f"The worker on {host} failed: {text.splitlines()[-1]}")
            else:
                death = Died(f"Ray worker on {host} died" if died else f"Ray node {host} is lost", lost=not died)
            self._report(number, (death,))

    def _refuse(self, worker: Worker, host: str, problem: str) -> None:
        """Start no more workers on a node, with one warning."""
        with self._lock:
            known, self._refused[worker.node] = worker.node in self._refused, problem
        if not known:
            self._send(Problem(f"Ray node {host} is not used: {problem}"))

    def _kill(self, worker: Worker) -> None:
        with contextlib.suppress(Exception):
            self._ray.kill(worker.actor, no_restart=True)
        worker.jobs.put(None)
        with self._lock:
            if worker in self._workers:
                self._workers.remove(worker)

    def _report(self, number: int, events: tuple[Event, ...]) -> None:
        """Send events of a job, unless its end was reported before."""
        with self._lock:
            if number not in self._jobs:
                return
            if isinstance(events[-1], LAST):
                del self._jobs[number]
        self._send(Progress(number, events))

    def _check_nodes(self, hosts: Mapping[str, str]) -> None:
        """End the run if nodes with CPUs are there, and none of them can be used."""
        with self._lock:
            refused = [f"{host}: {self._refused[node]}" for node, host in hosts.items() if node in self._refused]
            if not hosts or len(refused) < len(hosts) or self._workers:
                return
        self._send(Problem(f"no node of the Ray cluster can train. {' '.join(refused)}", "ray-nodes-unfit"))

    def _show(self, cpus: int | None = None) -> None:
        with self._lock:
            young = time.monotonic() - START_SECONDS
            there = [worker for worker in self._workers if worker.hello is not None or worker.started > young]
            before = self._shown or Workers()
            shown = Workers(len(there), len({worker.node for worker in there}), len(there), before.cpus)
            shown = shown if cpus is None else replace(shown, cpus=cpus)
            if shown != self._shown:
                self._shown = shown
                self._send(shown)
