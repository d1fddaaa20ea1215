"""A server that has torch loaded and forks `fathomlab` commands, so that a run begins in milliseconds.

It has one thread and never trains itself. Each command runs in a process group of its own, as from a shell.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

ROOT = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class Running:
    """A command in a child of the server."""

    def __init__(self, server: "Server", pid: int, output: Path):
        """Process `pid`, which prints to `output`."""
        self.server, self.pid, self.output, self.status = server, pid, output, None

    def wait(self, seconds: float) -> int | None:
        """The exit status (negative: the signal that ended it), or None if it is still running."""
        if self.status is None and self.server.ready(seconds):
            self.status = self.server.answer()["status"]
        return self.status

    def signal(self, signum: int) -> None:
        """Send a signal to its process group, as a terminal does, unless it has ended."""
        if self.status is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signum)

    def printed(self) -> str:
        """Its output."""
        return self.output.read_text(encoding="utf-8", errors="replace")


class Server:
    """A client of the server, for one command at a time."""

    def __init__(self, folder: Path):
        """Start it; output of commands goes to files in `folder`."""
        self.folder, self.number = folder, 0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=ENVIRONMENT,
        )
        self.answer()

    def answer(self) -> dict[str, Any]:
        """Its next line."""
        line = cast(IO[bytes], self.process.stdout).readline()
        assert line, "the fork server has died"
        return json.loads(line)

    def ready(self, seconds: float) -> bool:
        """Whether it answers within this time."""
        return bool(select.select([cast(IO[bytes], self.process.stdout)], [], [], max(0.0, seconds))[0])

    def start(
        self,
        arguments: Sequence[str],
        output: Path | None = None,
        report: bool = True,
        leases: dict[str, Any] | None = None,
    ) -> Running:
        """Start a command; its output goes to `output`, by default a file in the server's folder.

        Without `report` no report is written at the end, which takes longer than small trials. With `leases`, the arguments of
        `lease_setup.apply`, it trains with leases.
        """
        self.number += 1
        path = output or self.folder / f"{self.number}.txt"
        pipe = cast(IO[bytes], self.process.stdin)
        request = {"arguments": list(arguments), "output": str(path), "report": report, "leases": leases}
        pipe.write(json.dumps(request).encode() + b"\n")
        pipe.flush()
        return Running(self, self.answer()["pid"], path)

    def run(self, arguments: Sequence[str], seconds: float = 120.0, report: bool = True) -> tuple[int, str]:
        """Run a command; return its exit status and output."""
        running = self.start(arguments, report=report)
        status = running.wait(seconds)
        assert status is not None, f"{arguments} did not end in {seconds} s"
        return status, running.printed()

    def close(self) -> None:
        """End it."""
        cast(IO[bytes], self.process.stdin).close()
        self.process.wait(10)
        cast(IO[bytes], self.process.stdout).close()


class Servers:
    """Two servers that start when they are first used."""

    def __init__(self, folder: Path):
        """Output of commands goes to the folder."""
        self.folder, self.started = folder, dict[str, Server]()

    @property
    def first(self) -> Server:
        """The one that most tests use."""
        return self._server("first")

    @property
    def second(self) -> Server:
        """A second one, for two commands at once."""
        return self._server("second")

    def close(self) -> None:
        """End both."""
        for server in self.started.values():
            server.close()

    def _server(self, name: str) -> Server:
        if name not in self.started:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            self.started[name] = Server(self.folder / name)
        return self.started[name]


def has_ended(group: int, seconds: float = 5.0) -> bool:
    """Whether all processes of a group end within this time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.01)
    return False


def _serve() -> None:
    import torch

    from fathomlab.cli import main
    from fathomlab.prepare import machine

    machine.collect_provenance()
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _child(request, main)
        with suppress(OSError):  # here and in the child, because either may be first
            os.setpgid(pid, pid)
        print(json.dumps({"pid": pid}), file=answers, flush=True)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"status": os.waitstatus_to_exitcode(status)}), file=answers, flush=True)


def _child(request: dict[str, Any], main: Any) -> None:
    status = 70
    try:
        os.setpgid(0, 0)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        null, output = (
            os.open(os.devnull, os.O_RDONLY),
            os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        )
        os.dup2(null, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.closerange(3, 64)
        if not request["report"]:
            import fathomlab.api.running

            fathomlab.api.running.write_reports = lambda root, experiments: []
        if request["leases"] is not None:
            from tests.faults.lease_setup import apply

            apply(**request["leases"])
        main(request["arguments"])
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
        except OSError:
            status = 120
        os._exit(status)


if __name__ == "__main__":
    _serve()
