"""Downloads from a local server: fail-over, one download for many processes, clear failures."""

import hashlib
import http.server
import multiprocessing
import os
import resource
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from filelock import FileLock

from fathomlab.base.errors import UserError
from fathomlab.data import checksums, mnist
from fathomlab.data.cache import ensure_downloaded, read_files
from fathomlab.data.download import DownloadError, download_files
from fathomlab.data.table import FileLayout, PinnedFile, RemoteFile

CONTENT = bytes(range(256)) * 4000


SHA256 = hashlib.sha256(CONTENT).hexdigest()


PUBLISHED = PinnedFile("toy.bin", SHA256, len(CONTENT))


download = sys.modules["fathomlab.data.download"]


class Handler(http.server.BaseHTTPRequestHandler):
    """Behaves as the first part of the path says."""

    protocol_version = "HTTP/1.1"
    requests: ClassVar[Counter[str]] = Counter()
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
            return self.answer(302, b"", {"Location": "https://127.0.0.1:9/toy.bin"})
        if kind == "moved":
            return self.answer(302, b"", {"Location": "/good/toy.bin"})
        if kind == "silent":
            self.over.wait(600)
        if kind == "drip":
            return self.drip()
        bodies = {"html": b"<html>log in</html>", "wrong": CONTENT[::-1], "long": CONTENT + b"0", "silent": b""}
        body = bodies.get(kind, CONTENT)
        return self.answer(200, body, {"Content-Length": str(2 * len(body))} if kind == "short" else {})

    def drip(self) -> None:
        """Send a byte now and then until the test is over, faster than any timeout of a single read."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        while not self.over.wait(0.01):
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
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """Its address. The counts start at zero, and no proxy is used."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "FATHOMLAB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(checksums, "user_cache_dir", lambda _: str(tmp_path / "cache"))
    monkeypatch.setattr(download, "SCHEME", "http")
    monkeypatch.setattr(download, "CONNECT_TIMEOUT", 60.0)  # a busy machine may need more than two seconds
    monkeypatch.setattr(download, "READ_TIMEOUT", 60.0)
    Handler.requests.clear()
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


def fetch(server: str, folder: Path, *kinds: str) -> None:
    """Download the toy from mirrors of these kinds unless it is there."""
    remote = RemoteFile(PUBLISHED, tuple(f"{server}/{kind}/toy.bin" for kind in kinds))
    path = folder / PUBLISHED.name
    download_files([remote], folder, lambda: set() if path.exists() else {PUBLISHED.name})


@pytest.mark.parametrize("kind", ["403", "503", "html", "wrong", "long", "short", "silent", "drip", "redirect"])
def test_download_tries_the_next_mirror(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A mirror that is silent or drips would block until the test is over; no partial file remains."""
    if kind == "drip":
        monkeypatch.setattr(download, "CHUNK_BYTES", 16)
        monkeypatch.setattr(download, "SLOW_AFTER", 0.3)
    elif kind == "silent":
        monkeypatch.setattr(download, "READ_TIMEOUT", 0.3)
    for attempt in range(5):  # the limits are short here, so a busy machine may miss them with the good mirror, too
        try:
            fetch(server, tmp_path / "toy", kind, "good")
            break
        except DownloadError:
            if attempt == 4:
                raise
    assert not Handler.over.is_set()
    assert (tmp_path / "toy" / "toy.bin").read_bytes() == CONTENT
    assert Handler.requests["good"] >= 1
    assert Handler.requests[kind] >= 1
    assert sorted(path.name for path in (tmp_path / "toy").iterdir()) == [".download.lock", "toy.bin"]


def test_download_uses_mirrors_in_order(server: str, tmp_path: Path) -> None:
    """The first that works is the last that is asked. A redirect on the same scheme is followed."""
    fetch(server, tmp_path, "moved", "403")
    assert Handler.requests == {"moved": 1, "good": 1}


def test_download_reports_every_mirror(server: str, tmp_path: Path) -> None:
    """One cause per mirror, and no file."""
    kinds = ("403", "wrong", "redirect", "long")
    with pytest.raises(DownloadError) as caught:
        fetch(server, tmp_path, *kinds)
    parts = ("403", hashlib.sha256(CONTENT[::-1]).hexdigest(), "https://127.0.0.1:9/toy.bin", f"{len(CONTENT):,}")
    for kind, part, cause in zip(kinds, parts, caught.value.causes, strict=True):
        assert f"{server}/{kind}/" in cause
        assert part in cause
    assert [path.name for path in tmp_path.iterdir()] == [".download.lock"]


def test_download_prints_a_line_per_mirror(server: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """On standard error, nothing else."""
    fetch(server, tmp_path, "403", "good")
    out, err = capfd.readouterr()
    assert out == ""
    assert [line.split()[1] for line in err.splitlines()] == [f"{server}/{kind}/toy.bin" for kind in ("403", "good")]


def test_download_never_uses_http(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only tests accept another scheme than https. No request is made."""
    monkeypatch.undo()
    with pytest.raises(DownloadError) as caught:
        fetch(server, tmp_path, "good")
    assert server in caught.value.causes[0]
    assert not Handler.requests


@pytest.mark.parametrize(
    "target", ["http://127.0.0.1/x", "ftp://127.0.0.1/x", "file:///etc/passwd", "HTTP://x/", "data:,x"]
)
def test_redirects_to_other_schemes_are_rejected(target: str) -> None:
    """Before they are followed."""

    class Response:
        is_redirect = True
        headers: ClassVar[dict[str, str]] = {"location": target}

    with pytest.raises(OSError) as caught:  # noqa: PT011
        download._check_redirect(Response())
    assert target in str(caught.value)
    for allowed in ("https://localhost/y", "/y", "//localhost/y"):
        Response.headers = {"location": allowed}
        download._check_redirect(Response())


def fetch_to_a_full_disk(server: str, folder: Path) -> None:
    """Download with files limited to half of the toy."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(CONTENT) // 2, len(CONTENT) // 2))
    try:
        fetch(server, folder, "good")
    except DownloadError as error:
        os._exit(3 if "File too large" in error.causes[0] else 4)


def test_download_leaves_nothing_on_a_full_disk(server: str, tmp_path: Path) -> None:
    """The cause is reported, and the next download works."""
    process = multiprocessing.get_context("fork").Process(target=fetch_to_a_full_disk, args=(server, tmp_path))
    process.start()
    process.join()
    assert process.exitcode == 3
    assert [path.name for path in tmp_path.iterdir()] == [".download.lock"]
    fetch(server, tmp_path, "good")
    assert (tmp_path / "toy.bin").read_bytes() == CONTENT


def test_download_removes_partial_files(server: str, tmp_path: Path) -> None:
    """What a killed process has left neither counts nor stays."""
    (tmp_path / ".download").mkdir()
    (tmp_path / ".download" / "tmp123").write_bytes(CONTENT[:700_000])
    (tmp_path / ".download" / "toy.bin").write_bytes(CONTENT[:700_000])
    fetch(server, tmp_path, "good")
    assert (tmp_path / "toy.bin").read_bytes() == CONTENT
    assert sorted(path.name for path in tmp_path.iterdir()) == [".download.lock", "toy.bin"]


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


def test_download_replaces_corrupted_files(server: str, tmp_path: Path) -> None:
    """The command of the error message downloads the file again."""
    layout = FileLayout(("toy",), ((PUBLISHED,),), (RemoteFile(PUBLISHED, (f"{server}/good/toy.bin",)),))
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "toy.bin").write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(UserError, match="fathomlab data download mnist") as caught:
        read_files(mnist.INFO, layout, tmp_path)
    assert caught.value.code == "checksum-mismatch"
    ensure_downloaded(mnist.INFO, layout, tmp_path)
    assert read_files(mnist.INFO, layout, tmp_path).files[0].data == CONTENT


def test_download_does_not_wait_for_silent_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No host responds until the test is over: every cause, the manual steps, and the datasets that need no network."""
    over = threading.Event()

    def never(*_: object) -> None:
        over.wait()
        raise OSError

    monkeypatch.delenv("FATHOMLAB_OFFLINE", raising=False)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr("socket.create_connection", never)
    monkeypatch.setattr("pooch.retrieve", lambda *_, **__: pytest.fail("connected"))
    monkeypatch.setattr(download, "CONNECT_TIMEOUT", 0.2)
    with pytest.raises(UserError) as caught:
        mnist.Mnist().load(tmp_path)
    over.set()
    assert caught.value.code == "download-failed"
    for part in ("ossci-datasets", "cvdf-datasets", "440fcabf", "mnist-sample", "fathomlab data import"):
        assert part in str(caught.value)
