"""Results of other people: where they are, and archives that are unpacked or refused."""

import stat
import zipfile
from pathlib import Path

import pytest

from fathomlab.base.errors import UserError
from fathomlab.store import sources
from fathomlab.store.sources import Source, find_sources, opened

FILES = {"runs/trials/a/trial.json": b"{}", "runs/experiments/b/experiment.json": b"{}"}


def archive(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught, opened(Source(path, "archive", "x")):
        pass
    return caught.value.code


def test_directories_are_searched(tmp_path: Path):
    """A results directory is not searched, links are not followed, and labels are relative to what all share."""
    for name in ("ada/runs/trials", "bob/experiments", "bob/trials/x/trials", ".hidden/trials", "__MACOSX/trials"):
        (tmp_path / "in" / name).mkdir(parents=True)
    archive(tmp_path / "in" / "cy.zip", FILES)
    (tmp_path / "in" / "dan.html").write_text("")
    (tmp_path / "in" / "eve").symlink_to(tmp_path / "in" / "ada")
    labels = {source.label: source.kind for source in find_sources([tmp_path / "in"])}
    assert labels == {"ada/runs": "store", "bob": "store", "cy.zip": "archive", "dan.html": "page"}
    assert [source.label for source in find_sources([tmp_path / "in/ada/runs", tmp_path / "in/bob"])] == [
        "ada/runs",
        "bob",
    ]


@pytest.mark.parametrize("name", ["empty", "none", "none.zip"])
def test_place_without_results_is_an_error(tmp_path: Path, name: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as caught:
        find_sources([tmp_path / name])
    assert caught.value.code == "no-such-store"


def test_archive_is_unpacked_and_removed(tmp_path: Path):
    path = archive(tmp_path / "ada.zip", FILES | {f"b/{name}": data for name, data in FILES.items()})
    with opened(Source(path, "archive", "ada.zip")) as stores:
        assert [store.label for store in stores] == ["ada.zip/b/runs", "ada.zip/runs"]
        assert (stores[1].path / "trials/a/trial.json").read_bytes() == b"{}"
        folder = stores[1].path.parent
    assert not folder.exists()


UNSAFE = ("../x", "a/../../x", "/etc/x", "a\\..\\x", "C:x", "a//x", "./x", "a/./x", "a\nb", "con. /x", "x.")


@pytest.mark.parametrize("name", UNSAFE)
def test_names_that_lead_outside_are_refused(tmp_path: Path, name: str):
    """Nothing of the archive is unpacked then."""
    path = archive(tmp_path / "a" / "ada.zip", {**FILES, name: b"outside"})
    assert refusal(path) == "unsafe-archive"
    assert [item.name for item in tmp_path.rglob("*")] == ["a", "ada.zip"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_are_refused(tmp_path: Path, kind: int):
    path = tmp_path / "ada.zip"
    with zipfile.ZipFile(path, "w") as file:
        entry = zipfile.ZipInfo("runs/trials")
        entry.external_attr = (kind | 0o777) << 16
        file.writestr(entry, "/etc")
    assert refusal(path) == "unsafe-archive"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicates_are_refused(tmp_path: Path):
    path = tmp_path / "ada.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("runs/x", "1")
        file.writestr("runs/x", "2")
    assert refusal(path) == "unsafe-archive"


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By the ratio of sizes, and by the number of files. An archive that lies about a size is damaged."""
    monkeypatch.setattr(sources, "MIN_UNPACKED", 1000)
    path = archive(tmp_path / "ada.zip", FILES | {"runs/zeros": bytes(10_000_000)})
    assert refusal(path) == "unsafe-archive"
    monkeypatch.setattr(sources, "MIN_UNPACKED", 10**9)
    data = path.read_bytes()
    claimed = (10_000_000).to_bytes(4, "little")
    assert data.count(claimed) == 2
    path.write_bytes(data.replace(claimed, (100).to_bytes(4, "little")))
    assert refusal(path) == "invalid-archive"
    monkeypatch.setattr(sources, "MAX_MEMBERS", 1)
    assert refusal(archive(tmp_path / "bob.zip", FILES)) == "unsafe-archive"


@pytest.mark.parametrize("size", [0, 10, -30])
def test_damaged_archives_are_reported(tmp_path: Path, size: int):
    path = archive(tmp_path / "ada.zip", FILES)
    path.write_bytes(path.read_bytes()[:size])
    assert refusal(path) == "invalid-archive"


def test_archive_without_results_is_reported(tmp_path: Path):
    assert refusal(archive(tmp_path / "ada.zip", {"notes.txt": b""})) == "no-such-store"
