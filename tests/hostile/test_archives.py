"""Archives made to harm, with the check of their hash left out: nothing outside, little memory, an error of ours."""

import gzip
import hashlib
import io
import resource
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from fathomlab.base.problems import UserError
from fathomlab.data.archive import extract
from fathomlab.data.table import Pin

CONTENT = b"pixels" * 100
PIN = Pin("a.bin", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
MEMBERS = (("set/a.bin", PIN),)


def header(name: str, size: int, kind: bytes = b"0", link: str = "") -> bytes:
    """A tar header by hand, for what tarfile would not write."""
    length = f"{size:011o}\0".encode() if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    made = struct.pack(
        "100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12s",
        *(name.encode(), b"0000644\0", b"0000000\0", b"0000000\0", length, b"00000000000\0", b" " * 8, kind),
        *(link.encode(), b"ustar\0", b"00", b"", b"", b"0000000\0", b"0000000\0", b"", b""),
    )
    return made[:148] + f"{sum(made):06o}\0 ".encode() + made[156:]


def padded(data: bytes) -> bytes:
    """To whole blocks."""
    return data + bytes(-len(data) % 512)


GOOD = header("set/a.bin", len(CONTENT)) + padded(CONTENT)
END = bytes(1024)
CRAFTED: dict[str, bytes] = {
    "an extended header of 8 GB": header("x", 8 * 2**30, b"x") + bytes(2**20),
    "a long name of 10 GB": header("x", 10 * 2**30, b"L") + bytes(2**20),
    "a member of 10 GB": header("set/a.bin", 10 * 2**30) + bytes(2**20),
    "another member of 10 GB": header("x", 10 * 2**30) + bytes(2**20),
    "a chain of long names": (header("x", 5, b"L") + padded(b"name\0")) * 5000 + GOOD + END,
    "a chain of extended headers": (header("x", 12, b"x") + padded(b"12 path=../a\n"[:12])) * 5000 + GOOD + END,
    "an extended header that renames": header("x", 28, b"x") + padded(b"28 path=../../../../outside\n") + GOOD + END,
    "an extended size": header("x", 20, b"x") + padded(b"20 size=99999999999\n") + GOOD + END,
    "a size below zero": header("x", 12, b"x") + padded(b"12 size=-99\n") + GOOD + END,
    "numbers that are none": header("x", 13, b"x") + padded(b"13 mtime=nan\n") + GOOD + END,
    "a sparse member": header("set/a.bin", len(CONTENT), b"S") + padded(CONTENT) + END,
    "a link to the member": header("set/a.bin", 0, b"2", "../../outside") + GOOD + END,
    "a folder that is a link": header("set", 0, b"2", "../../outside") + GOOD + END,
    "a hard link out": header("set/a.bin", 0, b"1", "/etc/passwd") + END,
    "an absolute name": header("/set/a.bin", len(CONTENT)) + padded(CONTENT) + END,
    "a name with a NUL": header("set/a.bin\0/../../x", len(CONTENT) + 1) + padded(CONTENT + b"0") + END,
    "nothing": b"",
    "garbage": bytes(range(256)) * 100,
}


def tree(folder: Path) -> set[str]:
    """Everything below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_archive_writes_nothing_outside(tmp_path: Path, name: str):
    """It is refused in words, or only the listed member, under its fixed name and with its bytes, is written."""
    inside = tmp_path / "in" / "deep"
    inside.mkdir(parents=True)
    path = inside / "x.tar.gz"
    path.write_bytes(gzip.compress(CRAFTED[name]))
    before = tree(tmp_path)
    try:
        extract(path, MEMBERS, inside / "out")
    except UserError as error:
        assert "x.tar.gz" in str(error)  # noqa: PT017
        assert tree(tmp_path) == before
    else:
        assert tree(tmp_path) - before == {"in/deep/out", "in/deep/out/a.bin"}
        assert (inside / "out" / "a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("kind", ["headers", "members"])
def test_a_bomb_takes_little_memory(tmp_path: Path, kind: str):
    """A thousand times smaller on disk; read by a process that may have 200 MB more than at its start."""
    path = tmp_path / "bomb.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header("x", 400 * 2**20, b"x" if kind == "headers" else b"0"))
        for _ in range(400):
            file.write(bytes(2**20))
    code = """
import resource, sys
from pathlib import Path
from fathomlab.base.problems import UserError
from fathomlab.data.archive import extract
from fathomlab.data.table import Pin
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 200 * 2**20, size + 200 * 2**20))
try:
    extract(Path(sys.argv[1]), (("set/a.bin", Pin("a.bin", "0" * 64, 600)),), Path(sys.argv[1]).parent / "out")
except UserError as error:
    print(error)
"""
    if not hasattr(resource, "RLIMIT_AS") or sys.platform != "linux":
        pytest.skip("limits the address space as Linux counts it")
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert "bomb.tar.gz: cannot be read as an archive: " in done.stdout, done.stderr
    assert "published" in done.stdout
    assert not (tmp_path / "out").exists()


def test_the_headers_made_by_hand_are_right():
    """tarfile reads them, so that the cases above are refused for what they are."""
    with tarfile.open(fileobj=io.BytesIO(GOOD + END)) as tar:
        (member,) = tar.getmembers()
        assert (member.name, member.size) == ("set/a.bin", len(CONTENT))
        assert tar.extractfile(member).read() == CONTENT  # type: ignore[union-attr]
