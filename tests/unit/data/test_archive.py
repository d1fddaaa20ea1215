"""Hostile archives: only the listed members are written, and nothing outside the target folder."""

import hashlib
import io
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


@pytest.mark.parametrize(
    "name", ["../evil", "../../evil", "/tmp/evil-fathomlab", "set/../../evil", "..", "C:\\evil", "set/a.bin/../../x"]
)
def test_extract_ignores_names_that_lead_outside(tmp_path: Path, name: str) -> None:
    path = packed(tmp_path / "x.tar.gz", member(name, b"evil"), member("set/a.bin"))
    before = files(tmp_path)
    extract(path, MEMBERS, tmp_path / "out")
    assert files(tmp_path) == sorted([*before, "out", "out/a.bin"])
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
