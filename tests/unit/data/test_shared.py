"""Datasets in the user's cache: verified when they are opened, and one copy for all processes of a machine."""

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fathomlab.base.errors import UserError
from fathomlab.data import shared
from fathomlab.data.array_files import ALIGNMENT, map_arrays, write_arrays
from fathomlab.data.arrays import FIELDS
from fathomlab.data.mnist import Mnist
from fathomlab.data.mnist_sample import MnistSample
from fathomlab.data.shared import load_shared
from fathomlab.data.table import DatasetArrays
from tests.unit.data.conftest import Files, compress

SMAPS = Path("/proc/self/smaps")
LOAD = """
import sys, torch
from pathlib import Path
from fathomlab.data.shapes import Shapes
from fathomlab.execute.pack.inputs import load_dataset
arrays, device = load_dataset(Shapes(), Path(), "cpu", torch.float32)
assert device.images.data_ptr() == arrays.train_images.ctypes.data
for start in range(0, 10000, 100):
    device.batch(torch.arange(start, start + 100).unsqueeze(0))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; returns the folder with the datasets."""
    monkeypatch.setattr(shared, "user_cache_path", lambda name: tmp_path / name)
    return tmp_path / "fathomlab" / "data"


def assert_equal(arrays: DatasetArrays, expected: DatasetArrays) -> None:
    """The same numbers in the same formats, of the same origin."""
    for name in FIELDS:
        one, other = getattr(arrays, name), getattr(expected, name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert (arrays.files, arrays.modified, arrays.notes) == (expected.files, expected.modified, expected.notes)


def is_mapped(arrays: DatasetArrays) -> bool:
    """Whether the images are those of a file."""
    base = arrays.train_images.base
    return isinstance(base, np.memmap)


def install(folder: Path, datas: tuple[bytes, ...]) -> None:
    """Put the files of MNIST into the data folder."""
    (folder / "mnist").mkdir(parents=True, exist_ok=True)
    for name, data in zip(shared_names(), datas, strict=True):
        (folder / "mnist" / name).write_bytes(compress(data))


def shared_names() -> list[str]:
    """The names of the compressed files of MNIST."""
    assert Mnist.layout is not None
    return [spellings[0].name for spellings in Mnist.layout.files]


def test_arrays_are_those_of_the_dataset() -> None:
    """The first process decodes, later ones map, and both get the same numbers and the same origin."""
    expected = MnistSample().load()
    for _ in range(2):
        arrays = load_shared(MnistSample())
        assert is_mapped(arrays)
        assert_equal(arrays, expected)


def test_changes_stay_in_the_process() -> None:
    """What code writes into the images reaches neither the file nor other processes."""
    first, second = load_shared(MnistSample()), load_shared(MnistSample())
    first.train_images[0] = 255
    assert int(second.train_images[0].max()) == int(load_shared(MnistSample()).train_images[0].max())
    assert (second.train_images[0] != first.train_images[0]).any()


@pytest.mark.parametrize("fault", ["a pixel", "half", "empty", "facts", "missing"])
def test_corrupted_files_are_replaced(cache: Path, fault: str) -> None:
    """A process never trains on what another one did not write."""
    expected = MnistSample().load()
    load_shared(MnistSample())
    (path,), (facts,) = cache.glob("*.npz"), cache.glob("*.json")
    intact = path.read_bytes()
    middle = len(intact) // 2
    faults: dict[str, Callable[[], object]] = {
        "a pixel": lambda: path.write_bytes(intact[:middle] + bytes([intact[middle] ^ 1]) + intact[middle + 1 :]),
        "half": lambda: path.write_bytes(intact[:middle]),
        "empty": lambda: path.write_bytes(b""),
        "facts": lambda: facts.write_text('{"sha256": "../../x", "files": []}'),
        "missing": path.unlink,
    }
    faults[fault]()
    assert_equal(load_shared(MnistSample()), expected)
    assert path.read_bytes() == intact


def test_intact_arrays_are_not_written_again(cache: Path) -> None:
    """A second file with the same images would be a second copy in memory while a process maps the first one."""
    load_shared(MnistSample())
    (path,), (facts,) = cache.glob("*.npz"), cache.glob("*.json")
    before = path.stat().st_ino
    facts.unlink()
    load_shared(MnistSample())
    assert path.stat().st_ino == before


def test_arrays_belong_to_their_source_files(files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other trusted files are other arrays; corrupted or missing files are an error although the cache has the images."""
    root = tmp_path / "sources"
    monkeypatch.setenv("FATHOMLAB_DATA", str(root))
    install(root, files.mnist)
    assert_equal(load_shared(Mnist()), Mnist().load())
    install(root, files.fashion)
    with pytest.raises(UserError) as raised:
        load_shared(Mnist())
    assert raised.value.code == "checksum-mismatch"
    sums = [f"{shared.sha256_of(root / 'mnist' / name, root)}  {name}" for name in shared_names()]
    (root / "mnist" / "SHA256SUMS").write_text("\n".join(sums))
    other = load_shared(Mnist())
    assert other.modified
    assert_equal(other, Mnist().load())
    (root / "mnist" / shared_names()[0]).unlink()
    with pytest.raises(UserError) as raised:
        load_shared(Mnist())
    assert raised.value.code == "download-failed"


def test_cache_that_cannot_be_written_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one of another user, or on a read-only file system."""
    load_shared(MnistSample())

    def refuse(path: Path) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(shared.os, "utime", refuse)
    assert is_mapped(load_shared(MnistSample()))


def test_corrupted_bytes_are_a_value_error(tmp_path: Path) -> None:
    """Whatever NumPy and zipfile raise for them: a parser's error, a missing name, an unknown version of the format."""
    arrays = {name: np.zeros((2, 1), np.uint8) for name in FIELDS}
    path = tmp_path / "a.npz"
    with open(path, "wb") as file:
        write_arrays(file, arrays)
    intact = path.read_bytes()
    outcomes = set()
    for index, byte in itertools.product(range(0, len(intact), 3), b"(\xff"):
        path.write_bytes(intact[:index] + bytes([byte]) + intact[index + 1 :])
        try:
            outcomes.add(len(map_arrays(path)))
        except (OSError, ValueError) as error:
            outcomes.add(type(error.__cause__).__name__)
    assert {4, "TokenError", "KeyError", "NotImplementedError"} <= outcomes


def test_without_a_cache_the_arrays_are_private(tmp_path: Path) -> None:
    """A cache that cannot be written costs memory, and nothing else."""
    (tmp_path / "fathomlab").write_text("a file where the folder would be")
    arrays = load_shared(MnistSample())
    assert not is_mapped(arrays)
    assert_equal(arrays, MnistSample().load())


def test_unused_files_are_removed(cache: Path) -> None:
    """What no process has opened for two months goes when something is written."""
    load_shared(MnistSample())
    (path,) = cache.glob("*.npz")
    stale = cache / f"{'0' * 64}.npz"
    partial = cache / f".{path.name}.01234567.1.tmp"
    for file in (stale, partial):
        file.write_bytes(b"")
    for file, days in ((stale, 61), (partial, 61), (path, 61)):
        seconds = path.stat().st_mtime - days * 24 * 3600
        os.utime(file, (seconds, seconds))
    load_shared(MnistSample())  # opens its file, which therefore counts as used
    (facts,) = cache.glob("*.json")
    facts.unlink()
    load_shared(MnistSample())
    assert not stale.exists()
    assert not partial.exists()
    assert path.exists()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_files_are_aligned_and_readable_by_numpy(tmp_path: Path, dtype: type) -> None:
    """They are what `numpy.savez` writes, up to spaces in the headers. Older files are read, too."""
    images = np.arange(5 * 3 * 3, dtype=dtype).reshape(5, 1, 3, 3)
    columns = (images, np.arange(5), images[:2], np.arange(2))
    arrays: dict[str, np.ndarray] = dict(zip(FIELDS, columns, strict=True))
    path = tmp_path / "a.npz"
    with open(path, "wb") as file:
        write_arrays(file, arrays)
    with np.load(path) as stored:
        for name in FIELDS:
            np.testing.assert_array_equal(stored[name], arrays[name])
    for name, array in map_arrays(path).items():
        assert array.ctypes.data % ALIGNMENT == 0
        assert isinstance(array.base, np.memmap)
        np.testing.assert_array_equal(array, arrays[name])
    np.savez(path, **arrays)  # type: ignore[arg-type]
    for name, array in map_arrays(path).items():
        assert array.flags.aligned
        np.testing.assert_array_equal(array, arrays[name])


@pytest.mark.skipif(not SMAPS.exists(), reason="needs /proc/PID/smaps")
def test_two_workers_hold_one_copy(tmp_path: Path) -> None:
    """Both see all images in their memory (Rss), and each is charged half of them (Pss); both start with an empty cache."""
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LOAD]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) for _ in range(2)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"ready\n"
        memory = [mapped_memory(worker.pid) for worker in workers]
    finally:
        for worker in workers:
            worker.communicate()
    size = 12_000 * 32 * 32 * 3
    for resident, proportional in memory:
        assert resident >= size
        assert proportional == pytest.approx(resident / 2, rel=0.01)


def mapped_memory(pid: int) -> tuple[int, int]:
    """Rss and Pss of the images that a process maps (bytes)."""
    text = Path(f"/proc/{pid}/smaps").read_text()
    areas = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", text, flags=re.MULTILINE)
    images = [area for area in areas if ".npz" in area.partition("\n")[0]]
    resident, proportional = (
        sum(int(number) for area in images for number in re.findall(rf"^{key}: +(\d+) kB", area, re.MULTILINE))
        for key in ("Rss", "Pss")
    )
    return resident * 1024, proportional * 1024
