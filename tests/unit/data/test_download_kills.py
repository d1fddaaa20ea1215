"""Downloads by processes that are killed, by eight processes, and without a network."""

import http.server
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from fathomlab.data.cache import ensure_downloaded, read_files
from fathomlab.data.table import FileLayout, RemoteFile
from tests.helpers.data_files import INFO, pinned, tar_gz

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
