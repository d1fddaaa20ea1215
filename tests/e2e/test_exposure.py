"""What must not leave or enter: no listening socket, no secret in the store, no library below its minimum version."""

import os
import re
import secrets
import subprocess
import sys
import time
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.helpers.commands import EXPERIMENT, ROOT, SOURCE

SECRET = secrets.token_hex(8)  # new for each run, so that it is not part of the source code, which a store may contain
VARIABLES = ("AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "HF_TOKEN", "PASSWORD", f"FATHOMLAB_{SECRET}", f"LC_{SECRET}")
# Writes down every address that Python code binds, connects to, or looks up.
WATCH = """
import os, sys
def hook(event, arguments):
    if event in ("socket.bind", "socket.connect", "socket.getaddrinfo"):
        address = arguments[1] if event != "socket.getaddrinfo" else arguments[0]
        if not isinstance(address, (str, bytes)) or event == "socket.getaddrinfo":
            with open(os.environ["FATHOMLAB_WATCH"], "a") as file:
                file.write(f"{event} {address!r}\\n")
sys.addaudithook(hook)
"""
COMMANDS = """
import sys
from fathomlab.cli import main
for line in sys.stdin.read().splitlines():
    try:
        main(line.split())
    except SystemExit as caught:
        assert caught.code in (0, 1, 2), (line, caught.code)
"""
LINES = (
    "run tiny.yaml run.pack=2 --workers 2 --progress plain",
    "plan tiny.yaml",
    "list",
    "report",
    "data list",
    "data download mnist",
)


def listening(group: int) -> list[str]:
    """Addresses on which a process of a group listens, according to Linux."""
    inodes: set[str] = set()
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split() if entry.name.isdigit() else []
            if fields and int(fields[2]) == group:
                links = (os.readlink(link) for link in (entry / "fd").iterdir())
                inodes |= {link[8:-1] for link in links if link.startswith("socket:[")}
        except OSError:
            continue
    addresses = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes and (fields[3] == "0A" or table.startswith("udp")):
                addresses.append(f"{table} {fields[1]}")
    return addresses


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which commands have run, watched, with secrets in their environment."""
    if sys.platform != "linux":
        pytest.skip("reads the socket table of Linux")
    folder = tmp_path_factory.mktemp("exposed")
    (folder / "tiny.yaml").write_text(EXPERIMENT)
    (folder / "watch").mkdir()
    (folder / "watch" / "sitecustomize.py").write_text(WATCH)
    environment = os.environ | dict.fromkeys(VARIABLES, SECRET)
    environment |= {"PYTHONPATH": os.pathsep.join([str(folder / "watch"), SOURCE]), "FATHOMLAB_OFFLINE": "1"}
    environment |= {"FATHOMLAB_RUNS": str(folder / "runs"), "FATHOMLAB_DATA": str(folder / "data")}
    environment |= {"FATHOMLAB_WATCH": str(folder / "addresses")}
    with (folder / "printed").open("w") as printed:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", COMMANDS],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=printed,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    assert process.stdin is not None
    process.stdin.write("\n".join(LINES))
    process.stdin.close()
    addresses: list[str] = []
    while process.poll() is None:
        addresses += listening(process.pid)
        time.sleep(0.05)
    assert process.returncode == 0, (folder / "printed").read_text()
    assert "Traceback" not in (folder / "printed").read_text()
    (folder / "listening").write_text("\n".join(addresses))
    return folder


def test_commands_open_no_network_address(exposed: Path):
    """TCP or UDP, in the command or in a worker: nothing listens, connects, or is looked up."""
    assert (exposed / "listening").read_text() == ""
    assert not (exposed / "addresses").exists()
    assert len(list((exposed / "runs" / "trials").iterdir())) == 4


def test_watch_detects_a_listening_socket(tmp_path: Path):
    """The control: an empty list is evidence."""
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    code = "import socket, time; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); print(1, flush=True); time.sleep(9)"
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "FATHOMLAB_WATCH": str(tmp_path / "addresses")}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    addresses = listening(process.pid)
    process.kill()
    process.communicate()
    assert len(addresses) == 1
    assert "socket.bind ('127.0.0.1', 0)" in (tmp_path / "addresses").read_text()


def test_environment_secrets_are_not_stored(exposed: Path):
    """Neither values nor names, in no file of the store and in no output."""
    files = [path for path in exposed.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def numbers(text: str) -> list[int]:
    """The first four numbers of a version."""
    return [int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:4]]


def test_locked_versions_meet_the_minimum():
    """The locked and the installed versions are at least those in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = {
        re.sub(r"[-_.]+", "-", name).lower(): pin for line in lines for name, _, pin in [line.partition("==")] if pin
    }
    minimum = dict(re.fullmatch(r"([A-Za-z0-9_.-]+)>=([0-9.]+)", text).groups() for text in project["dependencies"])  # type: ignore[union-attr]
    assert minimum.keys() >= {"torch", "safetensors", "jinja2", "PyYAML"}
    for name, lowest in minimum.items():
        locked = pins[re.sub(r"[-_.]+", "-", name).lower()].split()[0]
        assert numbers(locked) >= numbers(lowest), name
        assert numbers(version(name)) >= numbers(lowest), name
    assert numbers(minimum["torch"]) >= [2, 10]  # older releases load hostile checkpoints unsafely
    assert numbers(minimum["jinja2"]) >= [3, 1, 6]  # older releases escape less
    assert [line for line in lines if line and not line.startswith("#") and "==" not in line] == []
