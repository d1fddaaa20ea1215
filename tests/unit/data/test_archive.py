"""Hostile archives: only the listed members are written, and nothing outside the target folder."""

import gzip
import hashlib
import io
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from fathomlab.base.errors import UserError
from fathomlab.data import archive
from fathomlab.data.archive import extract
from fathomlab.data.table import PinnedFile

CONTENT = b"pixels" * 100
PUBLISHED = PinnedFile("a.bin", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
MEMBERS = (("set/a.bin", PUBLISHED),)


def member(name: str, data: bytes = CONTENT, kind: bytes = tarfile.REGTYPE, target: str = "") -> tuple:
    """A member of a tar file, with its contents."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, target, len(data)
    return info, data


def packed(path: Path, *members: tuple) -> Path:
    """A tar.gz file with these members."""
    with tarfile.open(path, "w:gz") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data) if info.isreg() else None)
    return path


def files(folder: Path) -> list[str]:
    """Everything below the folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_extract_writes_only_listed_members(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.tar.gz", member("set/readme", b"text"), member("set/a.bin"))
    extract(path, MEMBERS, tmp_path / "out")
    assert files(tmp_path / "out") == ["a.bin"]
    assert (tmp_path / "out" / "a.bin").read_bytes() == CONTENT


OUTSIDE = ("../evil", "../../evil", "/tmp/evil-fathomlab", "set/../../evil", "..", "C:\\evil", "set/a.bin/../../x")


def test_extract_ignores_names_that_lead_outside(tmp_path: Path) -> None:
    path = packed(tmp_path / "x.tar.gz", *(member(name, b"evil") for name in OUTSIDE), member("set/a.bin"))
    extract(path, MEMBERS, tmp_path / "out")
    assert files(tmp_path) == ["out", "out/a.bin", "x.tar.gz"]
    assert not Path("/tmp/evil-fathomlab").exists()


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param([member("set/a.bin", kind=tarfile.SYMTYPE, target="/etc/passwd")], id="symlink"),
        pytest.param([member("set/a.bin", kind=tarfile.LNKTYPE, target="set/b")], id="hardlink"),
        pytest.param([member("set/a.bin", kind=tarfile.CHRTYPE)], id="device"),
        pytest.param([member("set/a.bin", kind=tarfile.FIFOTYPE)], id="fifo"),
        pytest.param([member("set/a.bin", kind=tarfile.DIRTYPE)], id="folder"),
        pytest.param([member("set/a.bin"), member("set/a.bin")], id="twice"),
        pytest.param([member("set/a.bin", CONTENT + b"0")], id="longer"),
        pytest.param([member("set/a.bin", CONTENT[:-1])], id="shorter"),
        pytest.param([member("set/b.bin")], id="missing"),
        pytest.param([member(f"n{index}", b"") for index in range(101)] + [member("set/a.bin")], id="crowd"),
    ],
)
def test_extract_rejects_wrong_members(tmp_path: Path, bad: list) -> None:
    """Before anything is written, with the name of the archive."""
    path = packed(tmp_path / "x.tar.gz", *bad)
    with pytest.raises(UserError, match=r"x\.tar\.gz") as caught:
        extract(path, MEMBERS, tmp_path / "out")
    assert caught.value.code == "invalid-data-file"
    assert not (tmp_path / "out").exists()


def test_extract_rejects_bombs_and_corruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member beyond the limit, a truncated file, and a file that is no archive."""
    monkeypatch.setattr(archive, "MAX_MEMBER_BYTES", 10**6)
    bomb = packed(tmp_path / "x.tar.gz", member("zeros", bytes(10**6 + 1)), member("set/a.bin"))
    cut = packed(tmp_path / "y.tar.gz", member("set/a.bin"))
    cut.write_bytes(cut.read_bytes()[:-60])
    none = tmp_path / "z.tar.gz"
    none.write_bytes(b"<html>not found</html>")
    for path in (bomb, cut, none):
        with pytest.raises(UserError, match=path.name):
            extract(path, MEMBERS, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_extract_lists_unpinned_members(tmp_path: Path) -> None:
    """The hash of the archive was right, so the actual hashes of its members go into a SHA256SUMS."""
    other = CONTENT[::-1]
    path = packed(tmp_path / "x.tar.gz", member("set/a.bin", other))
    extract(path, MEMBERS, tmp_path / "out")
    assert (tmp_path / "out" / "SHA256SUMS").read_text() == f"{hashlib.sha256(other).hexdigest()}  a.bin\n"


def header(name: str, size: int, kind: bytes = b"0", link: str = "") -> bytes:
    """A tar header that tarfile would not write."""
    length = f"{size:011o}\0".encode() if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    packed = struct.pack(
        "100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12s",
        *(name.encode(), b"0000644\0", b"0000000\0", b"0000000\0", length, b"00000000000\0", b" " * 8, kind),
        *(link.encode(), b"ustar\0", b"00", b"", b"", b"0000000\0", b"0000000\0", b"", b""),
    )
    return packed[:148] + f"{sum(packed):06o}\0 ".encode() + packed[156:]


def padded(data: bytes) -> bytes:
    """Pad to complete blocks."""
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


def test_extract_writes_nothing_outside(tmp_path: Path) -> None:
    """A crafted archive is rejected, or only the listed member is written."""
    for number, (name, data) in enumerate(CRAFTED.items()):
        root = tmp_path / str(number)
        inside = root / "in" / "deep"
        inside.mkdir(parents=True)
        path = inside / "x.tar.gz"
        path.write_bytes(gzip.compress(data))
        before = set(files(tmp_path))
        try:
            extract(path, MEMBERS, inside / "out")
        except UserError as error:
            assert (error.code, "x.tar.gz" in str(error)) == ("invalid-data-file", True), name  # noqa: PT017
            assert set(files(tmp_path)) == before, name
        else:
            assert set(files(tmp_path)) - before == {f"{number}/in/deep/out", f"{number}/in/deep/out/a.bin"}, name
            assert (inside / "out" / "a.bin").read_bytes() == CONTENT, name


@pytest.mark.parametrize("kind", ["headers", "members"])
def test_extract_limits_memory(tmp_path: Path, kind: str):
    """A bomb is read by a process that may allocate at most 200 MB."""
    if sys.platform != "linux":
        pytest.skip("limits the address space as Linux counts it")
    path = tmp_path / "bomb.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header("x", 400 * 2**20, b"x" if kind == "headers" else b"0"))
        for _ in range(400):
            file.write(bytes(2**20))
    code = """
import resource, sys
from pathlib import Path
from fathomlab.base.errors import UserError
from fathomlab.data.archive import extract
from fathomlab.data.table import PinnedFile
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 200 * 2**20, size + 200 * 2**20))
try:
    extract(Path(sys.argv[1]), (("set/a.bin", PinnedFile("a.bin", "0" * 64, 600)),), Path(sys.argv[1]).parent / "out")
except UserError as error:
    print(error.code, error)
"""
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("invalid-data-file "), done.stderr
    assert "bomb.tar.gz" in done.stdout
    assert "MemoryError" not in done.stdout
    assert not (tmp_path / "out").exists()


def test_crafted_headers_are_valid():
    """tarfile reads them, so the cases above are rejected for the right reason."""
    with tarfile.open(fileobj=io.BytesIO(GOOD + END)) as tar:
        (member,) = tar.getmembers()
        assert (member.name, member.size) == ("set/a.bin", len(CONTENT))
        assert tar.extractfile(member).read() == CONTENT  # type: ignore[union-attr]
