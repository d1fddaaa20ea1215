"""Downloads from a server on the loopback: fail-over, resumption, one download for many processes, clear failures."""

import gzip
import hashlib
import http.server
import io
import multiprocessing
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from fathomlab.base.problems import UserError
from fathomlab.data import folder as folder_module
from fathomlab.data import mirrors, mnist
from fathomlab.data.mirrors import Refused, download_files
from fathomlab.data.table import Facts, Layout, Pin, Remote

CONTENT = bytes(range(256)) * 4000
SHA = hashlib.sha256(CONTENT).hexdigest()
PIN = Pin("toy.bin", SHA, len(CONTENT))


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by the first part of the path."""

    protocol_version = "HTTP/1.1"
    requests: ClassVar[Counter[str]] = Counter()
    ranges: ClassVar[list[str]] = []

    def log_message(self, format: str, *_: object) -> None:
        """Silence."""

    def do_GET(self) -> None:
        """One behaviour for each kind of mirror."""
        kind = self.path.split("/")[1]
        Handler.requests[kind] += 1
        if kind in ("403", "503"):
            return self.answer(int(kind), b"no")
        if kind == "redirect":
            return self.answer(302, b"", {"Location": "ftp://127.0.0.1/toy.bin"})
        if kind == "slow":
            time.sleep(1.0)
        bodies = {"html": b"<html>log in</html>", "wrong": CONTENT[::-1], "long": CONTENT + b"0", "slow": b""}
        Handler.ranges.append(self.headers.get("Range", ""))
        start = int(self.headers.get("Range", "bytes=0-")[6:-1])
        if start and kind == "good":
            return self.answer(206, CONTENT[start:])
        body = bodies.get(kind, CONTENT)
        return self.answer(200, body, {"Content-Length": str(2 * len(body))} if kind == "short" else {})

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
    """Its address; the counts start at zero, and no proxy stands between."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    Handler.requests.clear()
    Handler.ranges.clear()
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()
    thread.join()


def fetch(server: str, folder: Path, *kinds: str, stall: float = 5.0) -> None:
    """Download the toy from mirrors of these kinds, as long as it is not there."""
    remote = Remote(PIN, tuple(f"{server}/{kind}/toy.bin" for kind in kinds))
    path = folder / PIN.name
    download_files([remote], folder, lambda: set() if path.exists() else {PIN.name}, "http", stall)


@pytest.mark.parametrize("kind", ["403", "503", "html", "wrong", "long", "short", "slow", "redirect"])
def test_the_next_mirror_is_tried(server: str, tmp_path: Path, kind: str) -> None:
    """Whatever the first one does; no part is left over."""
    started = time.monotonic()
    fetch(server, tmp_path, kind, "good", stall=0.3)
    assert time.monotonic() - started < 0.9
    assert (tmp_path / "toy.bin").read_bytes() == CONTENT
    assert Handler.requests["good"] >= 1
    assert Handler.requests[kind] >= 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".download.lock", "toy.bin"]


def test_all_causes_are_listed(server: str, tmp_path: Path) -> None:
    """A line for each mirror, and nothing in place."""
    with pytest.raises(Refused) as caught:
        fetch(server, tmp_path, "403", "wrong", "redirect", "long")
    assert len(caught.value.causes) == 4
    for part, cause in zip(
        ("403", "wrong content", "redirects to ftp", "longer than"), caught.value.causes, strict=True
    ):
        assert part in cause
    assert not (tmp_path / "toy.bin").exists()


def test_a_published_md5_is_checked_too(server: str, tmp_path: Path) -> None:
    """Where a pin has both, both must be right."""
    remote = Remote(Pin(PIN.name, PIN.sha256, PIN.size, "0" * 32), (f"{server}/good/toy.bin",))
    with pytest.raises(Refused, match="wrong content"):
        download_files([remote], tmp_path, lambda: {PIN.name}, "http")
    assert not (tmp_path / "toy.bin").exists()


def test_http_is_never_used(server: str, tmp_path: Path) -> None:
    """The scheme of the mirrors is https unless a test says otherwise; no request is made."""
    remote = Remote(PIN, (f"{server}/good/toy.bin",))
    with pytest.raises(Refused, match="refused, not https"):
        download_files([remote], tmp_path, lambda: {PIN.name})
    assert not Handler.requests


def test_a_cut_transfer_is_resumed(server: str, tmp_path: Path) -> None:
    """By range where the server can; a part with other bytes is thrown away."""
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
    fetch(server, tmp_path, "whole")
    assert (tmp_path / "toy.bin").read_bytes() == CONTENT


def test_eight_processes_download_once(server: str, tmp_path: Path) -> None:
    """The others wait for the lock, and find the file."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=fetch, args=(server, tmp_path, "good")) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 8
    assert Handler.requests == {"good": 1}


def test_an_archive_in_the_data_folder_is_used_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the manual steps ask for: the archive, put there by hand."""
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
    with pytest.raises(UserError, match=r"toy\.tar\.gz"):
        folder_module.read_files(facts, layout, tmp_path)
    (tmp_path / "toy.tar.gz").write_bytes(packed)
    contents = folder_module.read_files(facts, layout, tmp_path)
    assert contents.verified[0].data == CONTENT
    assert contents.unofficial == ()


def test_a_damaged_file_is_repaired(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the refusal's command does: fetch again, replace."""
    monkeypatch.delenv("FATHOMLAB_OFFLINE", raising=False)
    real: Any = download_files
    monkeypatch.setattr(folder_module, "download_files", lambda *arguments: real(*arguments, "http"))
    layout = Layout(("toy",), ((PIN,),), (Remote(PIN, (f"{server}/good/toy.bin",)),))
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "toy.bin").write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(UserError, match="not the published file"):
        folder_module.read_files(mnist.FACTS, layout, tmp_path)
    folder_module.obtain(mnist.FACTS, layout, tmp_path)
    assert folder_module.read_files(mnist.FACTS, layout, tmp_path).verified[0].data == CONTENT


def _never(*_: object) -> None:
    """A network that answers nobody; its thread ends like one that has given up, long after the test."""
    time.sleep(60)
    raise OSError


def test_without_a_network_the_answer_comes_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No host answers: within the limit, every cause, the manual steps, the data sets that need none."""
    monkeypatch.delenv("FATHOMLAB_OFFLINE", raising=False)
    monkeypatch.setattr(mirrors.urllib.request, "getproxies", dict)
    monkeypatch.setattr(mirrors.socket, "create_connection", _never)
    monkeypatch.setattr(mirrors, "CONNECT_SECONDS", 0.2)
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        mnist.Mnist().load(tmp_path)
    assert time.monotonic() - started < 2
    for part in ("no connection", "ossci-datasets", "cvdf-datasets", "440fcabf", "mnist-sample", "data import"):
        assert part in str(caught.value)


def test_offline_never_tries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FATHOMLAB_OFFLINE=1 makes no connection."""
    monkeypatch.setenv("FATHOMLAB_OFFLINE", "1")
    monkeypatch.setattr(mirrors.socket, "create_connection", lambda *_: pytest.fail("tried"))
    with pytest.raises(UserError, match="FATHOMLAB_OFFLINE"):
        mnist.Mnist().load(tmp_path)
