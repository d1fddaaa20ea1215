"""The actor that Ray starts per worker. It is sent to nodes by value, so that a node without fathomlab can say so."""

import importlib
import os
import socket
import sys
from collections.abc import Iterator
from typing import Any


class Slot:
    """A worker. Ray calls its methods in several threads, so that a stop request arrives while a job trains."""

    def __init__(self, setup: dict[str, Any], package: str):
        """Take what `RaySetup` contains, and the folder with the coordinator's fathomlab, which this node may not have."""
        self._setup = setup
        self._trainer: Any = None
        if package not in sys.path and os.path.isdir(package):
            sys.path.append(package)

    def hello(self) -> dict[str, Any]:
        """Start the trainer; returns what `Hello` contains."""
        try:
            ray: Any = importlib.import_module("ray")
            from fathomlab.execute.executors.ray.node import Trainer
            from fathomlab.execute.executors.ray.setup import RaySetup

            node = f"{socket.gethostname()}-{ray.get_runtime_context().get_node_id()[:8]}"
            self._trainer = Trainer(RaySetup(**self._setup), node)
            return vars(self._trainer.hello())
        except ImportError as error:
            return {"host": socket.gethostname(), "problem": f"{error}. Install fathomlab there: the same version."}

    def missing(self, sizes: dict[str, int]) -> list[str]:
        """As `Trainer.missing`."""
        return self._trainer.missing(sizes)

    def train(self, job: str, files: dict[str, Any], trials: list[str]) -> Iterator[Any]:
        """As `Trainer.train`, of a job as JSON."""
        ray: Any = importlib.import_module("ray")
        from fathomlab.base.codec import from_json
        from fathomlab.prepare.jobs import Job

        yield from self._trainer.train(from_json(Job, job), files, trials, ray.get)

    def stop(self, signum: int) -> None:
        """As `Trainer.stop`."""
        self._trainer.stop(signum)

    def close(self) -> None:
        """As `Trainer.close`."""
        if self._trainer is not None:
            self._trainer.close()
