"""Downloads from a local server: fail-over, one download for many processes, clear failures."""

import hashlib
import http.server
import multiprocessing
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
import time
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
from tests.helpers.data_files import INFO, pinned, tar_gz

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


FILES = {name: random.Random(name).randbytes(700_000) for name in ("a.bin", "b.bin", "c.bin")}
ARCHIVE = tar_gz({f"set/{name}": data for name, data in FILES.items()})


class Slow(http.server.BaseHTTPRequestHandler):
    """Sends the archive in small parts."""

    protocol_version = "HTTP/1.1"
    requests: ClassVar[list[str]] = []
    released: ClassVar[threading.Event] = threading.Event()

    def log_message(self, format: str, *_: object) -> None:
        """Silence."""

    def do_GET(self) -> None:
        """Send half of it, and the rest when `released` is set; about 50 ms in all."""
        Slow.requests.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(ARCHIVE)))
        self.send_header("Connection", "close")
        self.end_headers()
        for position in range(0, len(ARCHIVE), 65536):
            if position > len(ARCHIVE) // 2:
                Slow.released.wait(600)
            self.wfile.write(ARCHIVE[position : position + 65536])
            time.sleep(0.0015)
        self.close_connection = True


@pytest.fixture
def layout(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileLayout]:
    """A dataset of three files in an archive on a local server; this test may use http."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "FATHOMLAB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    download = sys.modules["fathomlab.data.download"]
    monkeypatch.setattr(download, "SCHEME", "http")
    monkeypatch.setattr(download, "CONNECT_TIMEOUT", 60.0)  # a busy machine may need more than two seconds
    Slow.requests.clear()
    Slow.released.set()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    files = [pinned(name, data) for name, data in FILES.items()]
    members = tuple((f"set/{file.name}", file) for file in files)
    url = f"http://127.0.0.1:{server.server_port}/set.tar.gz"
    yield FileLayout(
        ("toy",), tuple((file,) for file in files), (RemoteFile(pinned("set.tar.gz", ARCHIVE), (url,), members),)
    )
    server.shutdown()
    server.server_close()
    thread.join()


def obtain(layout: FileLayout, root: Path) -> None:
    """Obtain the data like a run, without output."""
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - the process ends at once
    ensure_downloaded(INFO, layout, root)


def start(layout: FileLayout, root: Path) -> Any:
    """Start a process that obtains the data."""
    process = multiprocessing.get_context("fork").Process(target=obtain, args=(layout, root))
    process.start()
    return process


def kill(process: Any) -> None:
    """Kill a process and wait for its end."""
    process.kill()
    process.join()


def kill_in_download(layout: FileLayout, root: Path) -> None:
    """Kill a process that has downloaded some of the archive."""
    Slow.released.clear()
    requests = len(Slow.requests)
    process = start(layout, root)
    while len(Slow.requests) == requests:
        time.sleep(0.005)
    while process.is_alive() and not any(path.stat().st_size for path in (root / "toy").glob(".download/*")):
        time.sleep(0.005)
    assert process.is_alive()
    kill(process)
    Slow.released.set()


def check_kills(layout: FileLayout, root: Path, times: int, rng: random.Random) -> None:
    """After each kill, files with a final name are intact; one partial file remains; the next start completes."""
    for _ in range(times):
        shutil.rmtree(root, ignore_errors=True)
        kill_in_download(layout, root)
        kill_in_download(layout, root)
        assert len(list((root / "toy" / ".download").iterdir())) == 1
        for _ in range(rng.choice([0, 1, 2])):
            process = start(layout, root)
            process.join(rng.uniform(0.0, 0.12))
            kill(process)
            for name, data in FILES.items():
                path = root / "toy" / name
                assert not path.exists() or path.read_bytes() == data
        process = start(layout, root)
        process.join()
        assert process.exitcode == 0
        verified = read_files(INFO, layout, root)
        assert [file.data for file in verified.files] == list(FILES.values())
        assert verified.modified == ()
        assert not list((root / "toy").glob(".download/tmp*"))  # but the archive, if killed after the last file


@pytest.mark.parametrize("times", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_killed_downloads_are_repeated(layout: FileLayout, tmp_path: Path, rng: random.Random, times: int) -> None:
    """Each dataset is killed twice in the download, and up to twice at random times, often in the extraction."""
    check_kills(layout, tmp_path / "data", times, rng)


def test_eight_processes_download_once(layout: FileLayout, tmp_path: Path):
    """One downloads and extracts, seven wait and use the files."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=obtain, args=(layout, tmp_path)) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 8
    assert Slow.requests == ["/set.tar.gz"]
    assert {path.name for path in (tmp_path / "toy").iterdir()} == {".download.lock", *FILES}


def _no_network() -> bool:
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not _no_network(), reason="needs the right to make a network namespace (unshare -n)")
@pytest.mark.parametrize(
    ("arguments", "proxy"),
    [(["data", "download", "mnist"], ""), (["run", "exp.yaml"], "http://127.0.0.1:9")],
    ids=["download", "run"],
)
def test_commands_fail_without_a_network(tmp_path: Path, arguments: list[str], proxy: str) -> None:
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
