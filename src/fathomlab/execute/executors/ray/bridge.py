"""The process with Ray's driver.

It is a process of its own because Ray replaces signal handlers, prints to standard output, and ends its process when the head
of the cluster is gone.
"""

import os
import shutil
import sys
import tempfile
import threading
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import IO, Any

from fathomlab.execute.executors.ray.fleet import RayWorkers
from fathomlab.execute.executors.ray.messages import Cancel, Problem, Stop, Submit, receive, send
from fathomlab.execute.executors.ray.setup import LOCAL, RaySetup

REFRESH_SECONDS = 1.0
OBJECT_STORE = 200 * 2**20  # bytes; a cluster of one machine shares the file system, so that no data travels


def main() -> None:
    """Connect to a cluster, or start one, and train what the coordinator sends until its stream ends."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.dup2(2, 1)
    lock = threading.Lock()

    def reply(message: object) -> None:
        with lock, suppress(OSError):  # the coordinator is gone: the stream of requests ends, too
            send(replies, message)

    setup: RaySetup = receive(requests)
    import ray  # type: ignore[import-not-found]

    folder = _start(ray, setup) if setup.address == LOCAL else _connect(ray, setup)
    workers = RayWorkers(ray, setup, reply)
    try:
        _serve(workers, requests)
    except Exception as error:
        reply(Problem(f"Ray failed: {error}", "ray-failed"))
        raise
    finally:
        with suppress(Exception):
            workers.close()
        ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _start(ray: Any, setup: RaySetup) -> str:
    """Start a cluster of this machine, which only listens on the loopback interface; returns its folder."""
    # paths of sockets must be short
    folder = tempfile.mkdtemp(prefix="fathomlab-cluster-", dir="/tmp" if os.path.isdir("/tmp") else None)
    ray.init(
        address=LOCAL,
        num_cpus=setup.workers,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=OBJECT_STORE,
        _temp_dir=folder,
    )
    address = ray.util.get_node_ip_address()
    if not address.startswith("127."):
        ray.shutdown()
        raise RuntimeError(f"Ray listens on {address}, not only on this machine")
    return folder


def _connect(ray: Any, setup: RaySetup) -> None:
    ray.init(address=setup.address, log_to_driver=False, logging_level="ERROR")


def _serve(workers: RayWorkers, requests: IO[bytes]) -> None:
    """Handle requests, and look for changes of the cluster every second."""
    queue: SimpleQueue[Any] = SimpleQueue()

    def read() -> None:
        while (message := receive(requests)) is not None:
            queue.put(message)
        queue.put(None)

    threading.Thread(target=read, daemon=True).start()
    next_look = 0.0
    while True:
        if time.monotonic() >= next_look:
            workers.refresh()
            next_look = time.monotonic() + REFRESH_SECONDS
        try:
            message = queue.get(timeout=max(0.01, next_look - time.monotonic()))
        except Empty:
            continue
        match message:
            case Submit(number, job):
                workers.submit(number, job)
            case Cancel(number):
                workers.cancel(number)
            case Stop(signum):
                workers.stop(signum)
            case _:
                return


if __name__ == "__main__":
    sys.exit(main())
