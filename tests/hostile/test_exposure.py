"""What must not leave or enter: no listening socket, no secret in the store, no library below its floor."""

import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECRET = "s3cr3t-7d41c0ffee"
EXPERIMENT = """\
data: {name: mnist-sample, limit: 200, batch_size: 50}
model: {type: MLP, params: {layers_dim: 4, hidden_layers_num: 1}}
training: {epochs: 2}
experiment: {title: exposure, analyze_gradients: true, seeds: 2}
"""
# Says each address that any process of Python's is bound to, and each that is connected to.
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


def listening(group: int) -> list[str]:
    """Addresses on which a process of a group listens, as the kernel tells."""
    inodes: set[str] = set()
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split() if entry.name.isdigit() else []
            if fields and int(fields[2]) == group:
                links = (os.readlink(link) for link in (entry / "fd").iterdir())
                inodes |= {link[8:-1] for link in links if link.startswith("socket:[")}
        except OSError:
            continue
    found = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes and (fields[3] == "0A" or table.startswith("udp")):
                found.append(f"{table} {fields[1]}")
    return found


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every command has run, watched, with secrets in its environment."""
    if sys.platform != "linux":
        pytest.skip("asks the kernel which sockets listen")
    folder = tmp_path_factory.mktemp("exposed")
    (folder / "exp.yaml").write_text(EXPERIMENT)
    (folder / "watch").mkdir()
    (folder / "watch" / "sitecustomize.py").write_text(WATCH)
    secrets = ("AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "HF_TOKEN", "PASSWORD", "FATHOMLAB_CANARY", "LC_CANARY")
    environment = (
        os.environ
        | dict.fromkeys(secrets, SECRET)
        | {
            "PYTHONPATH": str(folder / "watch"),
            "FATHOMLAB_WATCH": str(folder / "addresses"),
            "FATHOMLAB_RUNS": str(folder / "runs"),
            "FATHOMLAB_DATA": str(folder / "data"),
            "FATHOMLAB_OFFLINE": "1",
        }
    )
    found: list[str] = []
    commands = (
        ["run", "exp.yaml", "--workers", "2", "run.pack=1", "--progress", "plain"],
        ["run", "exp.yaml", "training.lr=1e30", "training.optimizer=SGD", "--workers", "1"],
        ["plan", "exp.yaml"],
        ["list"],
        ["report"],
        ["data", "list"],
        ["data", "download", "mnist"],
    )
    for words in commands:
        process = subprocess.Popen(
            [sys.executable, "-m", "fathomlab", *words],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        while process.poll() is None:
            found += listening(process.pid)
            time.sleep(0.02)
        out, _ = process.communicate(timeout=60)
        assert process.returncode in (0, 1, 2), out
        (folder / f"said-{'-'.join(words[:2])}").write_text(out)
        assert "Traceback" not in out
    (folder / "listening").write_text("\n".join(found))
    return folder


def test_nothing_listens_during_any_command(exposed: Path):
    """TCP or UDP, in the command or in a worker; and the trials were trained."""
    assert (exposed / "listening").read_text() == ""
    assert len(list((exposed / "runs" / "trials").iterdir())) >= 4


def test_nothing_is_bound_or_asked_for(exposed: Path):
    """No address of the network by Python either: neither bound, nor connected to, nor looked up."""
    watched = exposed / "addresses"
    assert not watched.exists() or watched.read_text() == ""


def test_the_watch_sees_a_socket(tmp_path: Path):
    """So that an empty list means something."""
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    code = "import socket, time; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); print(1, flush=True); time.sleep(9)"
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "FATHOMLAB_WATCH": str(tmp_path / "addresses")}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    found = listening(process.pid)
    process.kill()
    process.communicate()
    assert len(found) == 1
    assert "socket.bind ('127.0.0.1', 0)" in (tmp_path / "addresses").read_text()


def test_secrets_of_the_environment_stay_there(exposed: Path):
    """In no file of the store and in nothing that was said, whole or in part."""
    files = [path for path in exposed.rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        data = path.read_bytes()
        assert SECRET.encode() not in data, path
        assert b"CANARY" not in data, path


def _parts(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:4]]


def test_no_library_is_below_its_floor():
    """The locked versions and the installed ones are what pyproject asks for; torch is past its hostile checkpoints."""
    from importlib.metadata import version

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = {
        re.sub(r"[-_.]+", "-", name).lower(): pin for line in lines for name, _, pin in [line.partition("==")] if pin
    }
    floors = dict(re.fullmatch(r"([A-Za-z0-9_.-]+)>=([0-9.]+)", text).groups() for text in project["dependencies"])  # type: ignore[union-attr]
    assert floors.keys() >= {"torch", "safetensors", "jinja2", "PyYAML"}
    for name, floor in floors.items():
        locked = pins[re.sub(r"[-_.]+", "-", name).lower()].split()[0]
        assert _parts(locked) >= _parts(floor), name
        assert _parts(version(name)) >= _parts(floor), name
    assert _parts(floors["torch"]) >= [2, 10]
    assert _parts(floors["jinja2"]) >= [3, 1, 6]
    assert [line for line in lines if line and not line.startswith("#") and "==" not in line] == []
