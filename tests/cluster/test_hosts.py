"""Two hosts: network namespaces with `ray start --head` and `ray start --address`. The second host does not see the store."""

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fathomlab.store.reading import Store
from tests.cluster.runs import OFTEN, SMALL, bits, train

pytestmark = pytest.mark.slow
pytest.importorskip("ray", reason="the extra ray is not installed")
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
HEAD, WORKER = "10.77.0.1", "10.77.0.2"


def has_rights() -> bool:
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        return False
    name = f"fl{secrets.token_hex(3)}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return False
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return subprocess.run(["unshare", "-m", "-u", "true"], capture_output=True, check=False).returncode == 0


@dataclass
class Host:
    """A network namespace, with a host name and folders of its own."""

    namespace: str
    name: str
    hidden: Path
    environment: dict[str, str]

    def run(self, *command: str) -> None:
        """Run a command on the host; an empty folder is in the place of the hidden one."""
        hide = f"mount -t tmpfs tmpfs {self.hidden} && " if self.name == "worker" else ""
        script = f'hostname {self.name} && {hide}exec "$@"'
        subprocess.run(
            ["ip", "netns", "exec", self.namespace, "unshare", "-m", "-u", "sh", "-c", script, "sh", *command],
            env=dict(os.environ) | self.environment,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=600,
        )

    def end(self) -> None:
        """End all processes in the namespace, and the namespace."""
        pids = subprocess.run(
            ["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=False
        ).stdout
        for pid in pids.split():
            subprocess.run(["kill", "-9", pid], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", self.namespace], check=False)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[Host, Host]]:
    if not has_rights():
        pytest.skip("needs the rights to create network and mount namespaces")
    ident, store = secrets.token_hex(3), tmp_path / "runs"
    store.mkdir()
    home = tmp_path / "home"
    home.mkdir()
    settings = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ADDRESS": f"{HEAD}:6379",
        "HOME": str(home),
    }
    pair = [Host(f"fl{ident}{letter}", name, store, settings) for letter, name in (("a", "head"), ("b", "worker"))]
    links = [f"v{ident}{letter}" for letter in "ab"]
    try:
        for host in pair:
            subprocess.run(["ip", "netns", "add", host.namespace], check=True)
        subprocess.run(["ip", "link", "add", links[0], "type", "veth", "peer", "name", links[1]], check=True)
        for host, link, address in zip(pair, links, (HEAD, WORKER), strict=True):
            subprocess.run(["ip", "link", "set", link, "netns", host.namespace], check=True)
            for command in (
                ["addr", "add", f"{address}/24", "dev", link],
                ["link", "set", link, "up"],
                ["link", "set", "lo", "up"],
            ):
                subprocess.run(["ip", "-n", host.namespace, *command], check=True)
        head, worker = pair
        common = ["--disable-usage-stats", "--object-store-memory", "100000000"]
        head.run(*RAY, "start", "--head", f"--node-ip-address={HEAD}", "--port=6379", "--num-cpus=0",
                 "--include-dashboard=false", f"--temp-dir=/tmp/fl{ident}", *common)  # fmt: skip
        worker.run(*RAY, "start", f"--address={HEAD}:6379", f"--node-ip-address={WORKER}", "--num-cpus=1", *common)
        yield head, worker
    finally:
        for host in pair:
            host.end()
        shutil.rmtree(f"/tmp/fl{ident}", ignore_errors=True)


def test_trial_on_another_host_without_the_store(hosts: tuple[Host, Host], tmp_path: Path):
    """Its node is the other host, and the results are in the store of the first with the bits of a local run."""
    head, _ = hosts
    command = [sys.executable, "-m", "fathomlab", "run", "1_2", "--quick", "--device", "cpu", *SMALL, OFTEN]
    head.run(*command, "--workers", "2", "--runs", str(tmp_path / "runs"), "--progress", "off")
    train(tmp_path / "local", "local")
    assert bits(tmp_path / "runs") == bits(tmp_path / "local")
    store = Store(tmp_path / "runs")
    nodes = {store.trial(trial).provenance.node for trial in store.trials()}
    assert all(node is not None and node.startswith("worker-") for node in nodes)
