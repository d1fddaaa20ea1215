"""A Ray cluster on this machine: a head without CPUs, and nodes with one CPU each."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import pytest

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # all processes on 127.0.0.1
    "RAY_AUTH_MODE": "token",
}


class Nodes:
    """The cluster. Its processes end with this object."""

    def __init__(self, home: Path):
        self.token = secrets.token_hex(32)
        self.environment = SETTINGS | {"RAY_AUTH_TOKEN": self.token, "HOME": str(home)}
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("nodes.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(os.environ) | self.environment,
            text=True,
        )
        self.address = self._answer()
        self.names = [self.add(), self.add()]

    def add(self) -> str:
        return self._command("add")

    def kill(self, name: str) -> None:
        """As a power failure: nothing ends in order. `name` may be the start of the id."""
        full = self._command(f"kill {name}")
        self.names.remove(full)

    def variables(self) -> dict[str, str]:
        """The environment of a user of the cluster."""
        return self.environment | {"RAY_ADDRESS": self.address}

    def close(self) -> None:
        cast(IO[str], self._process.stdin).close()
        cast(IO[str], self._process.stdout).close()
        self._process.wait(60)

    def _command(self, text: str) -> Any:
        pipe = cast(IO[str], self._process.stdin)
        pipe.write(text + "\n")
        pipe.flush()
        return self._answer()

    def _answer(self) -> Any:
        return json.loads(cast(IO[str], self._process.stdout).readline())


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A head and two nodes, shared by the tests of a module."""
    pytest.importorskip("ray", reason="the extra ray is not installed")
    nodes = Nodes(tmp_path_factory.mktemp("ray"))
    yield nodes
    nodes.close()


@pytest.fixture
def nodes(cluster: Nodes, monkeypatch: pytest.MonkeyPatch) -> Nodes:
    """The cluster with two alive nodes, and the environment of its user."""
    while len(cluster.names) < 2:
        cluster.names.append(cluster.add())
    for name, value in cluster.variables().items():
        monkeypatch.setenv(name, value)
    return cluster
