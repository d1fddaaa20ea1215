"""Downloads that are killed, redirected, or without a network (more in tests/unit/data)."""

import gzip
import hashlib
import http.server
import io
import multiprocessing
import os
import random
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from fathomlab.data import folder as folder_module
from fathomlab.data import mirrors
from fathomlab.data.table import Facts, Layout, Pin, Remote

FACTS = Facts("toy", "Toy", 1, 2, 2, 2, ("a", "b"), 1, 1, (0.5,), (0.5,), "here", "none")
PIECES = {name: random.Random(name).randbytes(700_000) for name in ("a.bin", "b.bin", "c.bin")}


def _archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in PIECES.items():
            info = tarfile.TarInfo(f"set/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), 1, mtime=0)


ARCHIVE = _archive()


def pin_of(name: str, data: bytes) -> Pin:
    """The pin of these bytes."""
    return Pin(name, hashlib.sha256(data).hexdigest(), len(data))


class Slow(http.server.BaseHTTPRequestHandler):
    """Sends the archive in pieces; supports ranges."""

    protocol_version = "HTTP/1.1"
    requests: ClassVar[list[str]] = []
    released: ClassVar[threading.Event] = threading.Event()

    def log_message(self, format: str, *_: object) -> None:
        """Silence."""

    def do_GET(self) -> None:
        """Send half of it, and the rest when `released` is set; about 50 ms in all."""
        Slow.requests.append(self.headers.get("Range", ""))
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        body = ARCHIVE[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        for position in range(0, len(body), 65536):
            if position > len(body) // 2:
                Slow.released.wait(600)
            self.wfile.write(body[position : position + 65536])
            time.sleep(0.0015)
        self.close_connection = True


@pytest.fixture
def layout(monkeypatch: pytest.MonkeyPatch) -> Iterator[Layout]:
    """A dataset of three files in an archive on a local server; this test may use http."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "FATHOMLAB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    real: Any = mirrors.download_files
    monkeypatch.setattr(folder_module, "download_files", lambda *arguments: real(*arguments, "http"))
    monkeypatch.setattr(mirrors, "CONNECT_SECONDS", 60.0)  # a busy machine may need more than two seconds
    Slow.requests.clear()
    Slow.released.set()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    pins = [pin_of(name, data) for name, data in PIECES.items()]
    members = tuple((f"set/{pin.name}", pin) for pin in pins)
    remote = Remote(pin_of("set.tar.gz", ARCHIVE), (f"http://127.0.0.1:{server.server_port}/set.tar.gz",), members)
    yield Layout(("toy",), tuple((pin,) for pin in pins), (remote,))
    server.shutdown()
    server.server_close()
    thread.join()


def obtain(layout: Layout, root: Path) -> None:
    """Obtain the data like a run, without output."""
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - the process ends at once
    folder_module.obtain(FACTS, layout, root)


def start(layout: Layout, root: Path) -> Any:
    """Start a process that obtains the data."""
    process = multiprocessing.get_context("fork").Process(target=obtain, args=(layout, root))
    process.start()
    return process


def kill(process: Any) -> None:
    """Kill a process and wait for its end."""
    process.kill()
    process.join()


def kill_in_download(layout: Layout, root: Path) -> None:
    """Kill a process that has downloaded some of the archive."""
    Slow.released.clear()
    process = start(layout, root)
    part = root / "toy" / ".set.tar.gz.part"
    while process.is_alive() and not (part.exists() and part.stat().st_size):
        time.sleep(0.005)
    assert process.is_alive()
    kill(process)
    Slow.released.set()


def check_kills(layout: Layout, root: Path, times: int, chance: random.Random) -> None:
    """After each kill, files with a final name are intact; the next start resumes and completes."""
    for _ in range(times):
        shutil.rmtree(root, ignore_errors=True)
        Slow.requests.clear()
        kill_in_download(layout, root)
        for _ in range(chance.choice([0, 1, 2])):
            process = start(layout, root)
            process.join(chance.uniform(0.0, 0.12))
            kill(process)
            for name, data in PIECES.items():
                path = root / "toy" / name
                assert not path.exists() or path.read_bytes() == data
        process = start(layout, root)
        process.join()
        assert process.exitcode == 0
        contents = folder_module.read_files(FACTS, layout, root)
        assert [file.data for file in contents.verified] == list(PIECES.values())
        assert contents.unofficial == ()
        assert any(Slow.requests)


def test_killed_downloads_resume(layout: Layout, tmp_path: Path, chance: random.Random):
    """Ten datasets, killed in the download, and up to twice at random times (often in the extraction)."""
    check_kills(layout, tmp_path / "data", 10, chance)


@pytest.mark.slow
def test_killed_downloads_at_length(layout: Layout, tmp_path: Path, chance: random.Random):
    """A hundred."""
    check_kills(layout, tmp_path / "data", 100, chance)


def test_eight_processes_download_an_archive_once(layout: Layout, tmp_path: Path):
    """One downloads and extracts, seven wait and use the files."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=obtain, args=(layout, tmp_path)) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 8
    assert Slow.requests == [""]
    assert {path.name for path in (tmp_path / "toy").iterdir()} == {".download.lock", *PIECES}


@pytest.mark.parametrize(
    "target", ["http://127.0.0.1/x", "ftp://127.0.0.1/x", "file:///etc/passwd", "HTTP://x/", "data:,x"]
)
def test_redirects_to_other_schemes_are_rejected(tmp_path: Path, target: str):
    """Before they are followed."""

    class Response:
        is_redirect, status_code = True, 302
        headers: ClassVar[dict[str, str]] = {"location": target}

    part = mirrors._Part(tmp_path / "part", 100, "https", "https://localhost/x")
    try:
        with pytest.raises(OSError, match=re.escape(target)):
            part.check(Response())
        Response.headers = {"location": "https://localhost/y"}
        part.check(Response())
        Response.headers = {"location": "/y"}
        part.check(Response())
    finally:
        part.file.close()


def _no_network() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not _no_network(), reason="needs the right to make a network namespace (unshare -n)")
@pytest.mark.parametrize("arguments", [["data", "download", "mnist"], ["run", "exp.yaml"]], ids=["download", "run"])
@pytest.mark.parametrize("proxy", ["", "http://127.0.0.1:9"])
def test_commands_fail_without_a_network(tmp_path: Path, arguments: list[str], proxy: str):
    """With files, hashes, folder, and the dataset that needs no network; nothing is trained."""
    (tmp_path / "exp.yaml").write_text("model: {type: MLP}\ntraining: {epochs: 1}\n")
    environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    environment.pop("FATHOMLAB_OFFLINE", None)
    environment |= {"FATHOMLAB_DATA": str(tmp_path / "data"), "FATHOMLAB_RUNS": str(tmp_path / "runs")}
    environment |= {"https_proxy": proxy} if proxy else {}
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-m", "fathomlab", *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for part in ("train-images-idx3-ubyte.gz", "440fcabf", str(tmp_path / "data"), "mnist-sample", "data import"):
        assert part in done.stderr
    assert not list((tmp_path / "runs" / "trials").glob("*"))
