"""Downloads from a local server: fail-over, resumption, one download for many processes, clear failures."""

import gzip
import hashlib
import http.server
import io
import multiprocessing
import subprocess
import sys
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from filelock import FileLock

from fathomlab.base.problems import UserError
from fathomlab.data import folder as folder_module
from fathomlab.data import mirrors, mnist
from fathomlab.data.mirrors import Refused, download_files
from fathomlab.data.table import Facts, Layout, Pin, Remote

CONTENT = bytes(range(256)) * 4000
SHA = hashlib.sha256(CONTENT).hexdigest()
PIN = Pin("toy.bin", SHA, len(CONTENT))


class Handler(http.server.BaseHTTPRequestHandler):
    """Behaves as the first part of the path says."""

    protocol_version = "HTTP/1.1"
    requests: ClassVar[Counter[str]] = Counter()
    ranges: ClassVar[list[str]] = []
    over: ClassVar[threading.Event] = threading.Event()

    def log_message(self, format: str, *_: object) -> None:
        """Silence."""

    def do_GET(self) -> None:
        """Send what this kind of mirror sends."""
        kind = self.path.split("/")[1]
        Handler.requests[kind] += 1
        if kind in ("403", "503"):
            return self.answer(int(kind), b"no")
        if kind == "redirect":
            return self.answer(302, b"", {"Location": "ftp://127.0.0.1/toy.bin"})
        if kind == "silent":
            self.over.wait(60)
        if kind == "drip":
            return self.drip()
        bodies = {"html": b"<html>log in</html>", "wrong": CONTENT[::-1], "long": CONTENT + b"0", "silent": b""}
        Handler.ranges.append(self.headers.get("Range", ""))
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        if start and kind == "good":
            return self.answer(206, CONTENT[start:])
        body = bodies.get(kind, CONTENT)
        return self.answer(200, body, {"Content-Length": str(2 * len(body))} if kind == "short" else {})

    def drip(self) -> None:
        """Send a byte now and then until the test is over, faster than any timeout of a single read."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        while not self.over.wait(0.02):
            self.wfile.write(b"x")
        self.close_connection = True

    def answer(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Send it, and close."""
        self.send_response(code)
        for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Its address. The counts start at zero, and no proxy is used."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(mirrors, "CONNECT_SECONDS", 60.0)  # a busy machine may need more than two seconds
    Handler.requests.clear()
    Handler.ranges.clear()
    Handler.over.clear()
    instance = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    instance.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=instance.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{instance.server_port}"
    Handler.over.set()
    instance.shutdown()
    instance.server_close()
    thread.join()


def fetch(server: str, folder: Path, *kinds: str, stall: float = 60.0) -> None:
    """Download the toy from mirrors of these kinds unless it is there."""
    remote = Remote(PIN, tuple(f"{server}/{kind}/toy.bin" for kind in kinds))
    path = folder / PIN.name
    download_files([remote], folder, lambda: set() if path.exists() else {PIN.name}, "http", stall)


@pytest.mark.parametrize("kind", ["403", "503", "html", "wrong", "long", "short", "silent", "drip", "redirect"])
def test_download_tries_the_next_mirror(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A mirror that is silent or drips would block until the test is over; no partial file remains."""
    if kind == "drip":
        monkeypatch.setattr(mirrors, "CHUNK_SECONDS", 0.3)
    for attempt in range(5):  # the limits must be short here, so a busy machine may miss them with the good mirror, too
        try:
            fetch(server, tmp_path, kind, "good", stall=0.3 if kind == "silent" else 60.0)
            break
        except Refused:
            if attempt == 4:
                raise
    assert not Handler.over.is_set()
    assert (tmp_path / "toy.bin").read_bytes() == CONTENT
    assert Handler.requests["good"] >= 1
    assert Handler.requests[kind] >= 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".download.lock", "toy.bin"]


def test_download_reports_every_mirror(server: str, tmp_path: Path) -> None:
    """One cause per mirror, and no file."""
    kinds = ("403", "wrong", "redirect", "long")
    with pytest.raises(Refused) as caught:
        fetch(server, tmp_path, *kinds)
    parts = ("403", hashlib.sha256(CONTENT[::-1]).hexdigest(), "ftp://127.0.0.1", f"{len(CONTENT):,}")
    for kind, part, cause in zip(kinds, parts, caught.value.causes, strict=True):
        assert f"{server}/{kind}/" in cause
        assert part in cause
    assert not (tmp_path / "toy.bin").exists()


def test_download_checks_the_published_md5(server: str, tmp_path: Path) -> None:
    """If a pin has both hashes, both must match."""
    remote = Remote(Pin(PIN.name, PIN.sha256, PIN.size, "0" * 32), (f"{server}/good/toy.bin",))
    with pytest.raises(Refused, match=PIN.sha256):
        download_files([remote], tmp_path, lambda: {PIN.name}, "http")
    assert not (tmp_path / "toy.bin").exists()


def test_download_never_uses_http(server: str, tmp_path: Path) -> None:
    """Only tests accept another scheme than https. No request is made."""
    remote = Remote(PIN, (f"{server}/good/toy.bin",))
    with pytest.raises(Refused, match=server):
        download_files([remote], tmp_path, lambda: {PIN.name})
    assert not Handler.requests


def test_download_resumes_a_partial_file(server: str, tmp_path: Path) -> None:
    """By range if the server can; a partial file with other bytes is discarded."""
    (tmp_path / ".toy.bin.part").write_bytes(CONTENT[:700_000])
    fetch(server, tmp_path, "good")
    assert (tmp_path / "toy.bin").read_bytes() == CONTENT
    assert Handler.ranges == ["bytes=700000-"]
    (tmp_path / "toy.bin").unlink()
    (tmp_path / ".toy.bin.part").write_bytes(b"x" * 700_000)
    fetch(server, tmp_path, "good")
    assert (tmp_path / "toy.bin").read_bytes() == CONTENT
    (tmp_path / "toy.bin").unlink()
    (tmp_path / ".toy.bin.part").write_bytes(CONTENT[:700_000])
    fetch(server, tmp_path, "no-ranges")
    assert (tmp_path / "toy.bin").read_bytes() == CONTENT


def test_eight_processes_download_once(server: str, tmp_path: Path) -> None:
    """The others wait for the lock and use the file."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=fetch, args=(server, tmp_path, "good")) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 8
    assert Handler.requests == {"good": 1}


def hold(folder: Path, ready: Any) -> None:
    """Hold the lock of a download until killed."""
    with FileLock(folder / ".download.lock"):
        ready.set()
        threading.Event().wait()


def test_a_killed_process_releases_the_lock(server: str, tmp_path: Path) -> None:
    """The next process waits while the holder lives, and downloads after its death."""
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    holder = context.Process(target=hold, args=(tmp_path, ready))
    waiter = context.Process(target=fetch, args=(server, tmp_path, "good"))
    holder.start()
    ready.wait()
    waiter.start()
    waiter.join(0.5)
    assert waiter.is_alive()
    assert not Handler.requests
    holder.kill()
    holder.join()
    waiter.join()
    assert waiter.exitcode == 0
    assert Handler.requests == {"good": 1}


def test_manually_installed_archives_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive of the manual steps, in the data folder."""
    monkeypatch.setenv("FATHOMLAB_OFFLINE", "1")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("set/toy.bin")
        info.size = len(CONTENT)
        tar.addfile(info, io.BytesIO(CONTENT))
    packed = gzip.compress(buffer.getvalue(), mtime=0)
    archive = Pin("toy.tar.gz", hashlib.sha256(packed).hexdigest(), len(packed))
    layout = Layout(("toy",), ((PIN,),), (Remote(archive, ("https://localhost/x",), (("set/toy.bin", PIN),)),))
    facts = Facts("toy", "Toy", 1, 2, 2, 2, ("a", "b"), 1, 1, (0.5,), (0.5,), "here", "none")
    with pytest.raises(UserError, match=r"toy\.tar\.gz") as caught:
        folder_module.read_files(facts, layout, tmp_path)
    assert caught.value.code == "download-failed"
    (tmp_path / "toy.tar.gz").write_bytes(packed)
    contents = folder_module.read_files(facts, layout, tmp_path)
    assert contents.verified[0].data == CONTENT
    assert contents.unofficial == ()


def test_download_replaces_corrupted_files(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command of the error message downloads the file again."""
    monkeypatch.delenv("FATHOMLAB_OFFLINE", raising=False)
    real: Any = download_files
    monkeypatch.setattr(folder_module, "download_files", lambda *arguments: real(*arguments, "http"))
    layout = Layout(("toy",), ((PIN,),), (Remote(PIN, (f"{server}/good/toy.bin",)),))
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "toy.bin").write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(UserError, match="fathomlab data download mnist") as caught:
        folder_module.read_files(mnist.FACTS, layout, tmp_path)
    assert caught.value.code == "checksum-mismatch"
    folder_module.obtain(mnist.FACTS, layout, tmp_path)
    assert folder_module.read_files(mnist.FACTS, layout, tmp_path).verified[0].data == CONTENT


def test_download_does_not_wait_for_silent_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No host responds until the test is over: every cause, the manual steps, and the datasets that need no network."""
    over = threading.Event()

    def never(*_: object) -> None:
        over.wait()
        raise OSError

    monkeypatch.delenv("FATHOMLAB_OFFLINE", raising=False)
    monkeypatch.setattr(mirrors.urllib.request, "getproxies", dict)
    monkeypatch.setattr(mirrors.socket, "create_connection", never)
    monkeypatch.setattr(mirrors, "CONNECT_SECONDS", 0.2)
    with pytest.raises(UserError) as caught:
        mnist.Mnist().load(tmp_path)
    over.set()
    assert caught.value.code == "download-failed"
    for part in ("ossci-datasets", "cvdf-datasets", "440fcabf", "mnist-sample", "fathomlab data import"):
        assert part in str(caught.value)


def test_offline_makes_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FATHOMLAB_OFFLINE", "1")
    monkeypatch.setattr(mirrors.socket, "create_connection", lambda *_: pytest.fail("tried"))
    with pytest.raises(UserError, match="FATHOMLAB_OFFLINE") as caught:
        mnist.Mnist().load(tmp_path)
    assert caught.value.code == "download-failed"


def test_download_module_needs_no_posix_calls() -> None:
    """The data layer imports on a system without fcntl, pwd, and resource."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['fcntl', 'pwd', 'grp', 'resource']));"
        "import filelock, fathomlab.data.importing, fathomlab.cli.data"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
