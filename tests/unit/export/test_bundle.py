"""One file to hand in: the same bytes for the same results, without weights, and a results directory when unpacked."""

import json
import os
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from fathomlab.analysis.study import Study, study
from fathomlab.base.errors import UserError
from fathomlab.base.identity import content_hash
from fathomlab.export.bundle import Bundle
from fathomlab.report.page import write_report
from fathomlab.store.reading import Store
from tests.helpers import stores

pytestmark = pytest.mark.usefixtures("no_charts")


def read(root: Path, name: str) -> Study:
    """An experiment of a store."""
    store = Store(root)
    return study(store, store.experiment(name))


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A store with two trials and everything that a trial's folder can contain."""
    root = tmp_path / "runs"
    pairs = [(seed, stores.write_trial(root, "x", {"model.params.residual": True}, seed, 0.9)) for seed in (1, 2)]
    stores.write_experiment(root, "x", "X", [stores.condition("residual=true", {"residual": True}, None, pairs)])
    for _, trial in pairs:
        for name in ("predictions.bin", "checkpoint.safetensors", "state-8.sealed", ".trial.json.7.tmp", "notes.txt"):
            (root / "trials" / trial / name).write_bytes(b"\0\1")
    (root / "experiments" / "x" / "log.txt").write_text("/home/me")
    return root


def names(path: Path) -> list[str]:
    """The files of a bundle."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def test_equal_results_give_equal_bytes(small: Path, tmp_path: Path):
    first, second = tmp_path / "a.zip", tmp_path / "b.zip"
    assert Bundle().export(read(small, "x"), first) == (first,)
    copy = Path(shutil.copytree(small, tmp_path / "elsewhere", copy_function=shutil.copy))
    for path in copy.rglob("*"):
        os.utime(path, (0, 0))
        path.chmod(0o700)
    Bundle().export(read(copy, "x"), second)
    assert first.read_bytes() == second.read_bytes()


def test_content(small: Path, tmp_path: Path):
    path = tmp_path / "a.zip"
    Bundle().export(read(small, "x"), path)
    files = ("result.json", "metrics.jsonl", "predictions.bin", "provenance.json", "trial.json")
    trials = [f"trials/{trial}/{name}" for trial in sorted(os.listdir(small / "trials")) for name in files]
    texts = ["README.txt", "config_expx.yaml", "report.html", "experiments/x/experiment.json"]
    assert names(path) == [f"x/{name}" for name in [*texts, *trials, "left-out.txt"]]
    headers = {
        (item.date_time[0], item.external_attr >> 16, item.create_system) for item in zipfile.ZipFile(path).filelist
    }
    assert headers == {(1980, 0o100644, 3)}


def test_experiment_of_a_mapping_has_no_file(small: Path, tmp_path: Path):
    stores.change(small / "experiments" / "x" / "experiment.json", yaml="")
    Bundle().export(read(small, "x"), tmp_path / "a.zip")
    assert names(tmp_path / "a.zip")[:3] == ["x/README.txt", "x/report.html", "x/experiments/x/experiment.json"]
    assert b"fathomlab run" not in zipfile.ZipFile(tmp_path / "a.zip").read("x/README.txt")


def test_unpacked_bundle_is_a_store(small: Path, tmp_path: Path):
    path = tmp_path / "a.zip"
    Bundle().export(read(small, "x"), path)
    zipfile.ZipFile(path).extractall(tmp_path)
    records = [
        [replace(record, folder=small) for _, _, record in read(root, "x").trials] for root in (small, tmp_path / "x")
    ]
    assert records[0] == records[1]
    page = write_report(Store(small), "x").read_bytes()
    assert page == (tmp_path / "x" / "report.html").read_bytes()


def test_what_trials_refer_to_is_included(small: Path, tmp_path: Path):
    """A teacher that belongs to no condition of the experiment, and files that trials share. Others stay."""
    teacher = stores.write_trial(small, "teacher", {}, 1, 0.9)
    path = next((small / "trials").glob("*/trial.json"))
    path = next(path for path in (small / "trials").glob("*/trial.json") if path.parent.name != teacher)
    content = json.loads(path.read_text())["content"] | {"parents": {"teacher": [teacher], "start": "../../outside"}}
    student = content_hash(content)
    folder = path.parent.rename(path.parent.with_name(student))
    stores.change(folder / "trial.json", trial=student, content=content)
    labels = {"data": "a" * 64, "sha256": "b" * 64}
    stores.change(folder / "result.json", trial=student, labels=labels)
    plugins = [{"name": "my.py", "sha256": "e" * 64}, {"name": "x.py", "sha256": "../outside"}]
    git = {"commit": "c", "dirty": True, "patch": "d" * 64}
    stores.change(folder / "provenance.json", git=git, plugins=plugins)
    shared = [f"labels/{'a' * 64}.bin", f"patches/{'d' * 64}.patch"]
    shared += [f"plugins/{'e' * 64}/my.py", f"plugins/{'e' * 64}/parts/block.py"]
    for name in (*shared, f"plugins/{'f' * 64}/x.py", f"labels/{'b' * 64}.bin", "outside/x.py"):
        (small / name).parent.mkdir(parents=True, exist_ok=True)
        (small / name).write_bytes(b"shared")
    conditions = [stores.condition("residual=true", {}, None, [(1, student)])]
    stores.write_experiment(small, "x", "X", conditions)
    Bundle().export(read(small, "x"), tmp_path / "a.zip")
    files = names(tmp_path / "a.zip")
    assert {name.split("/")[2] for name in files if name.startswith("x/trials/")} == {student, teacher}
    assert files[-len(shared) - 1 :] == [f"x/{name}" for name in [*shared, "left-out.txt"]]
    assert len(files) == 4 + 2 * 4 + 1 + len(shared) + 1


@pytest.mark.parametrize("source", ["../../x.yaml", "/etc/passwd", "report.html", "a\0.yaml", "c:\\x.yaml"])
def test_names_stay_inside(small: Path, tmp_path: Path, source: str):
    """A record of somebody else cannot name a file outside of the folder. Links are left out."""
    stores.change(small / "experiments" / "x" / "experiment.json", source=source)
    outside = tmp_path / "secret.json"
    outside.write_text("secret")
    folder = next((small / "trials").iterdir())
    (folder / "link.json").symlink_to(outside)
    Bundle().export(read(small, "x"), tmp_path / "a.zip")
    files = names(tmp_path / "a.zip")
    assert files[1] in ("x/experiment.yaml", "x/x.yaml")
    assert all(".." not in name and "\\" not in name and not name.endswith("link.json") for name in files)


def test_existing_file_is_kept(small: Path, tmp_path: Path):
    path = tmp_path / "a.zip"
    path.write_text("mine")
    with pytest.raises(UserError) as caught:
        Bundle().export(read(small, "x"), path)
    assert (caught.value.code, path.read_text()) == ("target-exists", "mine")
    with pytest.raises(UserError) as caught:
        Bundle(overwrite=True).export(read(small, "x"), tmp_path)
    assert caught.value.code == "target-exists"
    Bundle(overwrite=True).export(read(small, "x"), path)
    assert zipfile.is_zipfile(path)
