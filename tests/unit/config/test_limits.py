"""Files that exhaust other readers are rejected within a second of CPU and 200 MB, in a process without torch."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import fathomlab

MODEL = "model: {type: MLP}\ntraining: {epochs: 1}\n"
LIMIT = 2**18 - 200  # just below the largest file that is read at all
BOMBS: dict[str, str] = {
    "flow lists in lists": "a: " + "[" * 20_000,
    "flow sections in sections": "a: " + "{a: " * 20_000,
    "closed lists in lists": "a: " + "[" * 5000 + "]" * 5000,
    "dashes in dashes": "- " * (LIMIT // 2),
    "questions in questions": "? " * (LIMIT // 2),
    "ever deeper blocks": "".join(" " * depth + "a:\n" for depth in range(700)),
    "many small values": MODEL + "data: {augment: [" + "1," * ((LIMIT - 100) // 2) + "1]}\n",
    "many keys": MODEL + "".join(f"k{index}: 1\n" for index in range(20_000)),
    "many equal keys": MODEL + "a: 1\n" * 40_000,
    "many documents": "---\n" * (LIMIT // 4),
    "many empty documents": "--- a\n" * (LIMIT // 6),
    "a billion laughs": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{chr(98 + index)}: &{chr(98 + index)} [{','.join([f'*{chr(97 + index)}'] * 9)}]\n" for index in range(9)
    ),
    "a cycle": "a: &a [*a]\n",
    "merge keys": "a: &a {x: 1}\nb: {<<: [" + "*a," * 10_000 + "*a]}\n",
    "a comment": "#" * LIMIT,
    "blanks": " " * LIMIT,
    "line breaks": "\n" * LIMIT,
    "a long word": MODEL + "seed: " + "x" * (LIMIT - 100),
    "a long number": MODEL + "seed: " + "9" * (LIMIT - 100),
    "a long quoted number": MODEL.strip().replace("1}", "1, lr: '") + "1" * (LIMIT - 100) + "'}\n",
    "underscores": MODEL + "seed: 1" + "_" * (LIMIT - 100) + "x\n",
    "colons": MODEL + "seed: 1" + ":1" * ((LIMIT - 100) // 2) + "x\n",
    "points": MODEL + "seed: " + "1." * ((LIMIT - 100) // 2) + "\n",
    "zeros": MODEL + "seed: 0" + "0" * (LIMIT - 100) + "x\n",
    "a long key": MODEL + "x" * (LIMIT - 100) + ": 1\n",
    "a key of many parts": MODEL + "experiment: {factors: {? " + "a." * ((LIMIT - 100) // 2) + "a : [1]}}\n",
    "a long tag": "a: !" + "x" * (LIMIT - 10) + " 1\n",
    "a long anchor": "a: &" + "x" * (LIMIT - 10) + " 1\n",
    "escapes": 'seed: "' + "\\x41" * (LIMIT // 4 - 10) + '"\n',
    "a folded text": "seed: >\n" + "  a\n" * (LIMIT // 4 - 10),
    "directives": "%TAG ! x\n" * (LIMIT // 9),
    "50 MB": "a: 1\n" * 10_000_000,
}
READ = """
import json, resource, sys, time
import fathomlab
from pathlib import Path
from typing import Any
fathomlab.ConfigError, fathomlab.load({"model": {"type": "MLP"}, "training": {"epochs": 1}})
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 200 * 2**20, size + 200 * 2**20))
for path in sorted(Path(sys.argv[1]).iterdir()):
    started = time.process_time()
    try:
        fathomlab.load(path)
        said = "plan"
    except fathomlab.ConfigError as error:
        said = str(error)
    except BaseException as error:
        said = f"ESCAPED {type(error).__name__}: {error}"
    print(json.dumps([path.stem, time.process_time() - started, said]), flush=True)
assert "torch" not in sys.modules
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space as Linux counts it")
def test_huge_files_are_rejected_in_a_second(tmp_path: Path):
    """With a short message that names the file."""
    folder = tmp_path / "bombs"
    folder.mkdir()
    for name, text in BOMBS.items():
        (folder / f"{name}.yaml").write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(folder)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = {name: (seconds, message) for name, seconds, message in map(json.loads, done.stdout.splitlines())}
    assert result.keys() == BOMBS.keys()
    wrong = {
        name: (round(seconds, 2), len(message), message[:200])
        for name, (seconds, message) in result.items()
        if seconds > 1 or not message.startswith(f"{folder / name}.yaml: ") or len(message) > 10_000
    }
    assert wrong == {}


@pytest.mark.skipif(sys.platform != "linux", reason="reads a device and a pipe")
def test_devices_and_pipes_are_read_like_files():
    """A device without end is too large, not a full memory; a pipe is read like a file."""
    with pytest.raises(fathomlab.ConfigError, match="262,144 bytes"):
        fathomlab.load("/dev/zero")
    reading, writing = os.pipe()

    def write() -> None:
        time.sleep(0.05)
        os.write(writing, MODEL.encode())
        os.close(writing)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert len(fathomlab.load(f"/dev/fd/{reading}").trials) == 1
    finally:
        thread.join()
        os.close(reading)


def test_cyclic_deep_and_huge_mappings_are_rejected():
    """What aliases are to a file: cycles, depth, one list a thousand times."""
    base: dict[str, Any] = {"model": {"type": "MLP"}, "training": {"epochs": 1}}
    cycle: dict[str, Any] = dict(base)
    cycle["data"] = {"params": cycle}
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    shared: list[Any] = [0] * 10
    for _ in range(9):
        shared = [shared] * 10
    for value, words in (
        (cycle, "nested deeper"),
        (base | {"zzz": deep}, "nested deeper"),
        (base | {"zzz": shared}, "more than"),
    ):
        started = time.process_time()
        with pytest.raises(fathomlab.ConfigError, match=words):
            fathomlab.load(value)
        assert time.process_time() - started < 1
