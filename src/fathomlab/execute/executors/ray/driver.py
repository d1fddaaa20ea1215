"""The coordinator's side of the process with Ray's driver."""

import contextlib
import importlib.util
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any, cast

from fathomlab.base.errors import UserError, format_value
from fathomlab.base.output import escape_control_chars
from fathomlab.execute.executors.ray.messages import receive, send
from fathomlab.execute.executors.ray.setup import LOCAL, RaySetup

PACKAGE = Path(__file__).parents[4]
# As workers of this machine, it finds the same fathomlab as this process, after everything else.
START = "import sys; sys.path.append(sys.argv[1]); from fathomlab.execute.executors.ray.bridge import main; main()"
TAIL_LINES = 8
LINE_LENGTH = 300
CONNECT_SECONDS = 90.0
PORT_SECONDS = 5.0
SHUTDOWN_SECONDS = 30.0
UNAUTHENTICATED = "InvalidAuthToken"


def cluster_address() -> str:
    """The cluster that `RAY_ADDRESS` names; `local` without one."""
    return os.environ.get("RAY_ADDRESS") or LOCAL


class Driver:
    """The process, which is started with the first message."""

    def __init__(self, setup: RaySetup):
        """Start it.

        Raises:
            UserError: If Ray is not installed, or `RAY_ADDRESS` does not name a cluster that can be reached.
        """
        check_address(setup.address)
        self._address = setup.address
        self._messages: SimpleQueue[Any] = SimpleQueue()
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._connected = self._rejected = self._closing = False
        self._deadline = time.monotonic() + CONNECT_SECONDS
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-P", "-c", START, str(PACKAGE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(setup.address),
            cwd=os.path.abspath(os.sep),  # Ray puts the working directory on the module search path of workers
            start_new_session=True,  # a terminal sends Ctrl-C to its process group; the coordinator decides
        )
        self._errors = threading.Thread(target=self._read_errors, daemon=True)
        self._errors.start()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.send(setup)

    def send(self, message: object) -> None:
        """Send a message. If the process has ended, `receive` raises an error."""
        with contextlib.suppress(OSError, ValueError):
            send(cast(IO[bytes], self._process.stdin), message)

    def receive(self, timeout_seconds: float) -> Any:
        """The next message; None if there is none for this time.

        Raises:
            UserError: If the cluster refuses the token, or if the process has ended.
        """
        try:
            message = self._messages.get(timeout=timeout_seconds)
        except Empty:
            if self._rejected or (not self._connected and time.monotonic() > self._deadline):
                raise self._failure() from None
            return None
        if message is None:
            raise self._failure()
        self._connected = True
        return message

    def close(self) -> None:
        """End the process, which ends the workers, and the cluster if it has started it."""
        self._closing = True
        with contextlib.suppress(OSError, ValueError):
            cast(IO[bytes], self._process.stdin).close()
        if not self._connected and self._address != LOCAL:  # it may wait long for a cluster
            self._process.kill()
        try:
            self._process.wait(timeout=SHUTDOWN_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(1.0)

    def _failure(self) -> UserError:
        """Why there is no driver."""
        output = "".join(f"\n    {line}" for line in self._tail)
        if self._rejected:
            return UserError(
                "ray-token",
                f"RAY_ADDRESS: the Ray cluster at {self._address} refuses the authentication token. Set RAY_AUTH_MODE=token, and "
                "the cluster's token in RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token.",
            )
        if not self._connected:
            where = "start a Ray cluster on this machine" if self._address == LOCAL else f"connect to {self._address}"
            return UserError("ray-unreachable", f"cannot {where}. No trial was recorded as failed. Last lines:{output}")
        return UserError(
            "ray-lost",
            "the connection to the Ray cluster is lost. Progress is saved up to the last checkpoints; run the same command again "
            f"to resume. Last lines:{output}",
        )

    def _read(self) -> None:
        """Queue the messages of the process, and None when it has ended."""
        with contextlib.suppress(OSError, ValueError, EOFError), cast(IO[bytes], self._process.stdout) as stream:
            while (message := receive(stream)) is not None:
                self._messages.put(message)
        self._process.wait()
        self._errors.join(1.0)
        self._messages.put(None)

    def _read_errors(self) -> None:
        """Remember the last lines."""
        with contextlib.suppress(OSError, ValueError), cast(IO[bytes], self._process.stderr) as stream:
            while line := stream.readline(10 * LINE_LENGTH):
                text = escape_control_chars(line.decode("utf-8", "replace").rstrip())
                if UNAUTHENTICATED in text and not self._connected:
                    self._rejected = True
                if text:
                    self._tail.append(text[:LINE_LENGTH])


def check_address(address: str) -> None:
    """Check that Ray is installed and something listens at an address. Ray itself waits for minutes.

    Raises:
        UserError: If not.
    """
    if importlib.util.find_spec("ray") is None:
        raise UserError("missing-extra", 'Ray is not installed. Install it with: pip install "fathomlab[ray]"')
    if address in (LOCAL, "auto"):
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        text = f"RAY_ADDRESS must be HOST:PORT of the head of a Ray cluster, or auto, got {format_value(address)}."
        raise UserError("ray-address", text)
    try:
        socket.create_connection((host.strip("[]"), int(port)), PORT_SECONDS).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        text = f"RAY_ADDRESS: no Ray cluster answers at {address} ({reason}). Start one with `ray start --head`, or unset it."
        raise UserError("ray-unreachable", text) from None


def environment(address: str) -> dict[str, str]:
    """No usage statistics. A cluster of this machine only listens on the loopback interface, with a token of this run."""
    variables = dict(os.environ) | {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONSAFEPATH": "1"}
    if address == LOCAL:
        variables |= {
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # a switch of Ray that makes all its processes use 127.0.0.1
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }
        variables.pop("RAY_ADDRESS", None)
        variables.pop("RAY_AUTH_TOKEN_PATH", None)
    return variables
