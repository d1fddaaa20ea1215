"""Trials of other stores: copied with verification, never over something, and again after a kill."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from fathomlab.base.errors import UserError
from fathomlab.base.identity import content_hash
from fathomlab.store import copying
from fathomlab.store.directory import TrialFolder, create_store
from fathomlab.store.maintenance import check_store
from fathomlab.store.merging import merge_store
from fathomlab.store.predictions import write_labels
from fathomlab.store.provenance import PluginDigest, Provenance
from fathomlab.store.reading import LEFT_OUT, Store
from fathomlab.store.records import Result
from fathomlab.store.target import Merge, Target
from tests.helpers import stores


def add_trial(root: Path, seed: int, accuracy: float = 0.9, parent: str = "", weights: bytes = b"weights") -> str:
    """A finished trial with every kind of file, and returns its hash."""
    content = {"seed": seed, "format": 3, **({"parents": {"teacher": [parent]}} if parent else {})}
    folder = TrialFolder(root, content_hash(content))
    folder.create(content)
    folder.append("metrics.jsonl", {"epoch": 1, "step": 1})
    (folder.path / "checkpoint.safetensors").write_bytes(weights)
    (folder.path / "logits-0.sealed").write_bytes(b"a cache")
    (folder.path / "notes.corrupt").write_bytes(b"")
    folder.write_provenance(Provenance(started="2026-11-22T10:00:00+00:00"))
    labels = write_labels(root, "data", np.array([1, 2, 3]))
    folder.finish(
        Result("finished", seconds=1.25, metrics={"test/accuracy": accuracy, "test/loss": 0.5}, labels=labels)
    )
    return folder.trial


def add_experiment(root: Path, name: str, trials: list[str], **also: object) -> None:
    conditions = [stores.condition("all", {"x": 1}, None, list(enumerate(trials)))]
    stores.write_experiment(root, name, "Title", conditions, **also)


def merged(source: Path, root: Path, dry_run: bool = False) -> Merge:
    return merge_store(Target(root, dry_run), source, "ada")


def codes(merge: Merge) -> list[str]:
    return [conflict.code for conflict in merge.conflicts]


def snapshot(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A teacher, its student, another trial, and an experiment."""
    root = create_store(tmp_path / "ada")
    teacher = add_trial(root, 1)
    trials = [teacher, add_trial(root, 2, parent=teacher), add_trial(root, 3)]
    add_experiment(root, "lab-00000001", trials)
    return root


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return create_store(tmp_path / "all")


def test_finished_trials_are_copied_completely(source: Path, target: Path):
    """With labels and the experiment; caches and files that no result lists stay. The source does not change."""
    before = snapshot(source)
    merge = merged(source, target)
    assert (len(merge.copied), merge.experiments, merge.conflicts) == (3, ("lab-00000001",), ())
    assert snapshot(source) == before
    expected = {name: data for name, data in before.items() if not name.endswith((".sealed", ".corrupt"))}
    assert snapshot(target) == expected
    assert merge.bytes == sum(map(len, expected.values()))
    assert check_store(target).problems == ()


def test_second_merge_changes_nothing(source: Path, target: Path):
    merged(source, target)
    before = snapshot(target)
    merge = merged(source, target)
    assert (merge.copied, merge.equal, merge.equal_experiments, merge.conflicts, merge.bytes) == ((), 3, 1, (), 0)
    assert snapshot(target) == before


def test_dry_run_changes_nothing_and_counts_the_same(source: Path, target: Path, tmp_path: Path):
    """Two sources with the same trials: the second would find those of the first."""
    planned = Target(tmp_path / "none", dry_run=True)
    first, second = (merge_store(planned, source, name) for name in ("ada", "bob"))
    assert not planned.root.exists()
    real = merged(source, target)
    assert first == real
    assert (second.copied, second.equal, second.completed, second.bytes) == ((), 3, 0, 0)


def test_other_result_is_a_conflict_that_names_the_metric(source: Path, target: Path):
    add_trial(target, 3, accuracy=0.8)
    before = snapshot(target)
    merge = merged(source, target)
    assert codes(merge) == ["result-differs"]
    assert merge.conflicts[0].reason == "test/accuracy: 0.8 (target), 0.9 (source)"
    assert (len(merge.copied), merge.refused) == (2, 1)
    assert before.items() <= snapshot(target).items()


def test_trial_of_another_teacher_is_not_copied(source: Path, target: Path):
    """The target has a teacher with the same options and another result."""
    add_trial(target, 1, accuracy=0.8)
    merge = merged(source, target)
    assert sorted(codes(merge)) == ["parent-missing", "result-differs"]
    assert len(merge.copied) == 1


def test_trial_of_a_damaged_teacher_is_not_copied(source: Path, target: Path):
    folder = source / "trials" / add_trial(source, 1)
    stores.change(folder / "trial.json", trial="0" * 64)
    merge = merged(source, target)
    assert sorted(codes(merge)) == ["damaged", "parent-missing"]
    assert len(merge.copied) == 1


def test_unfinished_trials_are_counted(source: Path, target: Path):
    trial = Store(source).trials()[0]
    (source / "trials" / trial / "result.json").unlink()
    failed = TrialFolder(source, content_hash({"seed": 9}))
    failed.create({"seed": 9})
    failed.write_provenance(Provenance())
    failed.finish(Result("failed", "no memory"))
    merge = merged(source, target)
    assert merge.unfinished == 2
    assert trial not in Store(target).trials()


def test_unfinished_trial_of_the_target_stays(source: Path, target: Path):
    trial = add_trial(target, 3)
    (target / "trials" / trial / "result.json").unlink()
    before = snapshot(target)
    assert codes(merged(source, target)) == ["target-unfinished"]
    assert before.items() <= snapshot(target).items()


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoint.safetensors", "result.json", "trial.json"])
def test_damaged_file_is_not_copied(source: Path, target: Path, name: str):
    trial = add_trial(source, 7)
    path = source / "trials" / trial / name
    path.write_bytes(path.read_bytes()[:-9] + b"tampered\n")
    merge = merged(source, target)
    assert codes(merge) == ["damaged"]
    assert trial not in Store(target).trials()


def test_damaged_labels_are_named_once(source: Path, target: Path):
    next((source / "labels").iterdir()).write_bytes(b"\0\0")
    merge = merged(source, target)
    assert (codes(merge), merge.refused, merge.copied) == (["damaged"], 3, ())


def test_older_format_is_a_conflict(source: Path, target: Path):
    for path in (source / "trials" / add_trial(source, 7)).glob("*.json"):
        document = {key: value for key, value in json.loads(path.read_text()).items() if key != "seal"} | {"format": 2}
        path.write_text(json.dumps(document | {"seal": content_hash(document)}))
    assert codes(merged(source, target)) == ["outdated"]


@pytest.mark.parametrize("name", ["../../../secret", "/etc/passwd", "sub/file", ".hidden", "a\0b", ""])
def test_listed_names_do_not_lead_outside(source: Path, target: Path, tmp_path: Path, name: str):
    """A result may list any name, and its checksum may be right."""
    (tmp_path / "secret").write_text("secret")
    path = source / "trials" / add_trial(source, 7) / "result.json"
    digest = {"sha256": copying.file_sha256(tmp_path / "secret"), "size": 6}
    stores.change(path, files={**json.loads(path.read_text())["files"], name: digest})
    assert codes(merged(source, target)) == ["damaged"]
    assert b"secret" not in snapshot(target).values()


def test_links_are_not_copied(source: Path, target: Path, tmp_path: Path):
    trial = source / "trials" / add_trial(source, 7)
    (tmp_path / "elsewhere").write_bytes((trial / "checkpoint.safetensors").read_bytes())
    (trial / "checkpoint.safetensors").unlink()
    (trial / "checkpoint.safetensors").symlink_to(tmp_path / "elsewhere")
    assert codes(merged(source, target)) == ["damaged"]


def test_weights_that_a_bundle_leaves_out_are_added_later(source: Path, target: Path, tmp_path: Path):
    bundle = Path(shutil.copytree(source, tmp_path / "bundle"))
    weights = sorted(bundle.glob("trials/*/*.safetensors"))
    for path in weights:
        path.unlink()
    (bundle / LEFT_OUT).write_text("".join(f"{path.relative_to(bundle).as_posix()}\n" for path in weights))
    assert len(merged(bundle, target).copied) == 3
    check = check_store(target)
    assert (check.problems, check.left_out) == ((), 3)
    merge = merged(source, target)
    assert (merge.equal, merge.completed, merge.conflicts) == (3, 3, ())
    check = check_store(target)
    assert (check.problems, check.left_out) == ((), 0)


def test_plugins_are_copied_and_do_not_run(tmp_path: Path, target: Path):
    source, text = create_store(tmp_path / "ada"), "raise SystemExit(1)\n"
    digest = copying.hashlib.sha256(text.encode()).hexdigest()
    for sha256 in (digest, "0" * 64):  # the second one is not what its name says
        (source / "plugins" / sha256).mkdir(parents=True)
        (source / "plugins" / sha256 / "mine.py").write_text(text)
        folder = TrialFolder(source, content_hash({"plugin": sha256}))
        folder.create({"plugin": sha256})
        folder.write_provenance(Provenance(plugins=(PluginDigest("mine.py", sha256),)))
        folder.finish(Result("finished"))
    merge = merged(source, target)
    assert [path.parent.name for path in (target / "plugins").rglob("*.py")] == [digest]
    assert (codes(merge), len(merge.copied)) == (["damaged"], 1)


HISTORY = {"seeds": [1, 2, 3], "claims_late": True, "looks": [{"n": 2, "of": 4}], "title": "Another"}


@pytest.mark.parametrize("key", HISTORY)
def test_other_history_is_a_conflict(source: Path, target: Path, key: str):
    """Of an experiment with the same plan, also if its file had another name. The target keeps its record."""
    add_experiment(target, "renamed-00000001", Store(source).trials(), created="2020", seconds=1.0)
    stores.change(target / "experiments" / "renamed-00000001" / "experiment.json", **{key: HISTORY[key]})
    stores.change(
        source / "experiments" / "lab-00000001" / "experiment.json",
        conditions=json.loads((target / "experiments/renamed-00000001/experiment.json").read_text())["conditions"],
        yaml=json.loads((target / "experiments/renamed-00000001/experiment.json").read_text())["yaml"],
        claims_hash=json.loads((target / "experiments/renamed-00000001/experiment.json").read_text())["claims_hash"],
    )
    before = snapshot(target)
    merge = merged(source, target)
    assert codes(merge) == ["experiment-differs"]
    assert merge.conflicts[0].reason.startswith(f"{key} differ")
    assert before.items() <= snapshot(target).items()


def test_time_of_a_run_is_no_conflict(source: Path, target: Path):
    merged(source, target)
    stores.change(target / "experiments/lab-00000001/experiment.json", created="2020", seconds=9.0, source="other.yaml")
    merge = merged(source, target)
    assert (merge.equal_experiments, merge.conflicts) == (1, ())


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Raise at the copy of the file with this number."""
    write, left = copying._write, [10**9]  # pyright: ignore[reportPrivateUsage]

    def write_or_die(copy: copying.FileCopy, file: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        write(copy, file)  # type: ignore[arg-type]

    monkeypatch.setattr(copying, "_write", write_or_die)
    return left


def test_killed_merge_continues(source: Path, target: Path, kills: list[int], monkeypatch: pytest.MonkeyPatch):
    """At every file: no trial is there in part, and the second call ends with what an undisturbed one gives."""
    monkeypatch.setattr("fathomlab.store.merging.WRITERS", 1)
    merged(source, target)
    complete = snapshot(target)
    for number in range(len(complete)):
        shutil.rmtree(target)
        create_store(target)
        kills[0] = number
        with pytest.raises(Killed):
            merged(source, target)
        assert check_store(target).problems == ()
        kills[0] = 10**9
        merged(source, target)
        assert snapshot(target) == complete
    kills[0] = len(complete)
    shutil.rmtree(target)
    assert merged(source, create_store(target)).conflicts == ()


def test_left_temporary_folder_is_removed(source: Path, target: Path):
    """Of a process that does not exist any more; a store check and a run do not see it."""
    folder = target / f".{'0' * 64}.{2**22 + 1}.tmp"
    folder.mkdir()
    (folder / "trial.json").write_text("{")
    assert Store(target).trials() == []
    os.utime(folder, (0, 0))
    merged(source, target)
    assert not folder.exists()


def test_disk_that_returns_other_data_is_reported(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch):
    sha256 = copying.file_sha256

    def broken(path: Path) -> str:
        return "0" * 64 if target in path.parents and path.name == "metrics.jsonl" else sha256(path)

    monkeypatch.setattr(copying, "file_sha256", broken)
    with pytest.raises(UserError) as caught:
        merged(source, target)
    assert caught.value.code == "corrupt-file"
    assert Store(target).trials() == []


def test_renames_of_folders_may_be_missing(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch):
    """On mounted drives."""
    rename = Path.rename

    def rename_files(self: Path, to: Path) -> Path:
        if self.is_dir():
            raise OSError(next(iter(copying.UNSUPPORTED)), "no rename of directories")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", rename_files)
    assert len(merged(source, target).copied) == 3
    assert check_store(target).problems == ()
