"""Inputs of jobs in Ray's object store. Only the process with Ray's driver uses this."""

import threading
from pathlib import Path
from typing import Any

from fathomlab.execute.executors.ray.transfer import Inputs, dataset_inputs, job_inputs, unfinished_trials
from fathomlab.prepare.jobs import Job


class ObjectInputs:
    """Files in the object store. Those that never change are put there once per run."""

    def __init__(self, ray: Any):
        """Nothing is there yet."""
        self._ray, self._lock = ray, threading.Lock()
        self._placed: dict[tuple[Path, int, int], Any] = {}

    def of(self, actor: Any, shared: bool, job: Job) -> tuple[dict[str, object], list[str]]:
        """References to the files that the node of an actor lacks for a job, and the trials to train there.

        Raises:
            RayError: If the node is lost.
        """
        if shared:
            inputs, trials = Inputs(dataset_inputs(job), {}), []
        else:
            inputs, trials = job_inputs(job), unfinished_trials(job)
        sizes = {key: path.stat().st_size for key, path in inputs.fixed.items()}
        missing = self._ray.get(actor.missing.remote(sizes)) if sizes else []
        files = {key: self._put(inputs.fixed[key]) for key in missing}
        return files | {key: self._ray.put(path.read_bytes()) for key, path in inputs.current.items()}, trials

    def _put(self, path: Path) -> Any:
        status = path.stat()
        key = path, status.st_size, status.st_mtime_ns
        with self._lock:
            if key not in self._placed:
                self._placed[key] = self._ray.put(path.read_bytes())
            return self._placed[key]
