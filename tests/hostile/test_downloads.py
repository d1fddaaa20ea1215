"""Downloads that are killed, redirected or without a network; the rest of the behaviour is in tests/unit/data."""

import gzip
import hashlib
import http.server
import io
import multiprocessing
import os
import random
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
    """The archive, in pieces that take their time; ranges are honoured."""

    protocol_version = "HTTP/1.1"
    requests: ClassVar[list[str]] = []

    def log_message(self, format: str, *_: object) -> None:
        """Silence."""

    def do_GET(self) -> None:
        """Some 50 ms in all."""
        Slow.requests.append(self.headers.get("Range", ""))
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        body = ARCHIVE[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        for place in range(0, len(body), 65536):
            self.wfile.write(body[place : place + 65536])
            time.sleep(0.0015)
        self.close_connection = True


@pytest.fixture
def layout(monkeypatch: pytest.MonkeyPatch) -> Iterator[Layout]:
    """A data set of three files in an archive on a server of this machine; http is allowed to this test."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "FATHOMLAB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    real: Any = mirrors.download_files
    monkeypatch.setattr(folder_module, "download_files", lambda *arguments: real(*arguments, "http"))
    Slow.requests.clear()
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
    """What a run does first, in silence."""
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - the process ends at once
    folder_module.obtain(FACTS, layout, root)


def killed_after(seconds: float, layout: Layout, root: Path) -> bool:
    """Whether a process that obtains the data was still at it when it was killed."""
    process = multiprocessing.get_context("fork").Process(target=obtain, args=(layout, root))
    process.start()
    process.join(seconds)
    at_it = process.is_alive()
    process.kill()
    process.join()
    return at_it


def kills(layout: Layout, root: Path, times: int, chance: random.Random) -> int:
    """How many of so many kills came in time; after each, whatever bears a final name is whole, and the next repairs."""
    in_time = 0
    for _ in range(times):
        shutil.rmtree(root, ignore_errors=True)
        for _ in range(chance.choice([1, 2, 3])):
            in_time += killed_after(chance.uniform(0.0, 0.12), layout, root)
            for name, data in PIECES.items():
                path = root / "toy" / name
                assert not path.exists() or path.read_bytes() == data
        assert not killed_after(60, layout, root)
        contents = folder_module.read_files(FACTS, layout, root)
        assert [file.data for file in contents.verified] == list(PIECES.values())
        assert contents.unofficial == ()
    return in_time


def test_a_killed_download_or_extraction_is_repaired_by_the_next_start(
    layout: Layout, tmp_path: Path, chance: random.Random
):
    """Ten data sets, killed one to three times each at random instants; ranges are used where a part is there."""
    assert kills(layout, tmp_path / "data", 10, chance) >= 3
    assert any(Slow.requests)


@pytest.mark.slow
def test_killed_downloads_at_length(layout: Layout, tmp_path: Path, chance: random.Random):
    """A hundred."""
    assert kills(layout, tmp_path / "data", 100, chance) >= 30


def test_eight_processes_that_need_an_archive_fetch_it_once(layout: Layout, tmp_path: Path):
    """One downloads and extracts, seven wait and find the files."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=obtain, args=(layout, tmp_path)) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 8
    assert Slow.requests == [""]
    assert {path.name for path in (tmp_path / "toy").iterdir()} == {".download.lock", *PIECES}


@pytest.mark.parametrize(
    "target", ["http://127.0.0.1/x", "ftp://127.0.0.1/x", "file:///etc/passwd", "HTTP://x/", "data:,x"]
)
def test_https_never_becomes_anything_else(tmp_path: Path, target: str):
    """A redirect is judged before it is followed."""

    class Response:
        is_redirect, status_code = True, 302
        headers: ClassVar[dict[str, str]] = {"location": target}

    part = mirrors._Part(tmp_path / "part", 100, "https", "https://localhost/x")
    try:
        with pytest.raises(OSError, match="refused, redirects to"):
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
@pytest.mark.parametrize("words", [["data", "download", "mnist"], ["run", "exp.yaml"]], ids=["download", "run"])
@pytest.mark.parametrize("proxy", ["", "http://127.0.0.1:9"])
def test_without_a_network_the_message_comes_within_two_seconds(tmp_path: Path, words: list[str], proxy: str):
    """Files, hashes, folder, and the data set that needs none; nothing is trained."""
    (tmp_path / "exp.yaml").write_text("model: {type: MLP}\ntraining: {epochs: 1}\n")
    environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    environment.pop("FATHOMLAB_OFFLINE", None)
    environment |= {"FATHOMLAB_DATA": str(tmp_path / "data"), "FATHOMLAB_RUNS": str(tmp_path / "runs")}
    environment |= {"https_proxy": proxy} if proxy else {}
    started = time.monotonic()
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "-m", "fathomlab", *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    taken = time.monotonic() - started
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for part in ("train-images-idx3-ubyte.gz", "440fcabf", str(tmp_path / "data"), "mnist-sample", "data import"):
        assert part in done.stderr
    assert taken < 2
    assert not list((tmp_path / "runs" / "trials").glob("*"))
