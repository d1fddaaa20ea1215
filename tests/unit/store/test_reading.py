"""The reader of the store: right numbers from intact files, no error from corrupted ones."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fathomlab.base.errors import UserError
from fathomlab.base.identity import content_hash
from fathomlab.store.directory import TrialFolder, write_experiment
from fathomlab.store.lock import store_lock
from fathomlab.store.reading import Store
from fathomlab.store.records import ConditionRecord, Provenance, TrialRecord
from tests.helpers import stores

TRIAL = "ab" * 32
EPOCHS = [{"epoch": 1, "step": 375, "val/loss": 0.5, "val/accuracy": 0.9}, {"epoch": 2, "step": 750, "val/loss": None}]
SNAPSHOT = {"step": 0, "epoch": 0, "layers": ["in", "out"], "weight": [0.1, None], "points": ["in"], "activation": [2]}
RESULT = {"status": "finished", "cause": None, "parameters": 10, "seconds": 2.5, "metrics": {"test/accuracy": 0.91}}


def write(root: Path, trial: str = TRIAL) -> Path:
    """The directory of a trial as the first release wrote it: no checksums anywhere."""
    folder = root / "trials" / trial
    folder.mkdir(parents=True)
    (folder / "trial.json").write_text(json.dumps({"format": 1, "trial": trial, "content": {"seed": 42}}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in EPOCHS))
    (folder / "gradients.jsonl").write_text(json.dumps(SNAPSHOT) + "\n")
    (folder / "result.json").write_text(json.dumps({"trial": trial, **RESULT}))
    (folder / "provenance.json").write_text(json.dumps({"versions": {"torch": "2.13.0"}}))
    return folder


def test_store_reads_a_trial_of_the_first_release(tmp_path: Path):
    """Every field, with null as None and missing values of an epoch as None."""
    folder = write(tmp_path)
    record = Store(tmp_path).trial(TRIAL)
    assert record == TrialRecord(
        trial=TRIAL,
        content={"seed": 42},
        status="finished",
        cause=None,
        parameters=10,
        metrics={"test/accuracy": 0.91},
        curves={"epoch": [1, 2], "step": [375, 750], "val/loss": [0.5, None], "val/accuracy": [0.9, None]},
        gradients=[SNAPSHOT],
        probes={"gradients": [SNAPSHOT]},
        provenance={"versions": {"torch": "2.13.0"}},
        seconds=2.5,
        folder=folder,
    )


def test_store_returns_the_status_of_unfinished_trials(tmp_path: Path):
    """Running while a process trains into the store; waiting without a directory."""
    folder = write(tmp_path)
    (folder / "result.json").unlink()
    (folder / "provenance.json").unlink()
    store = Store(tmp_path)
    assert (store.trial(TRIAL).status, store.trial(TRIAL).cause) == ("interrupted", None)
    with store_lock(tmp_path, False, lambda text: None):
        assert Store(tmp_path).trial(TRIAL).status == "running"
    (tmp_path / "trials" / ("ef" * 32)).mkdir()
    assert store.trial("ef" * 32).status == "waiting"
    assert (store.trial("cd" * 32).status, store.trial("cd" * 32).cause) == ("waiting", None)


@pytest.mark.parametrize("name", ["metrics.jsonl", "gradients.jsonl"])
def test_store_drops_an_incomplete_last_line(tmp_path: Path, name: str):
    """Wherever the last line is cut."""
    folder = write(tmp_path)
    lines = (folder / name).read_bytes().splitlines(keepends=True)
    for cut in range(1, len(lines[-1]) - 1):
        (folder / name).write_bytes(b"".join(lines[:-1]) + lines[-1][:cut])
        record = Store(tmp_path).trial(TRIAL)
        assert record.status == "finished", f"cut after {cut} bytes: {record.cause}"
        read = record.gradients if name == "gradients.jsonl" else record.curves.get("epoch", [])
        assert len(read) == len(lines) - 1


DAMAGE: list[tuple[str, Callable[[Path], object]]] = [
    ("trial.json", lambda file: file.unlink()),
    ("provenance.json", lambda file: file.unlink()),
    *((name, lambda file: file.write_text("")) for name in ("trial.json", "result.json", "provenance.json")),
    *((name, lambda file: file.write_text('{"a": [1, ')) for name in ("trial.json", "result.json")),
    ("result.json", lambda file: file.write_bytes(b"\xff\xfe\x00")),
    ("result.json", lambda file: file.write_text("[]")),
    ("result.json", lambda file: file.write_text('{"status": "perhaps"}')),
    ("result.json", lambda file: file.write_text("[" * 100_000)),
    ("trial.json", lambda file: file.write_text(json.dumps({"trial": "cd" * 32}))),
    ("metrics.jsonl", lambda file: file.write_text('{"epoch": 1\n{"epoch": 2}\n')),
    ("gradients.jsonl", lambda file: file.write_text('{"layers": ["a"], "weight": []}\n')),
    ("gradients.jsonl", lambda file: file.write_text('{"layers":["a"],"weight":[],"points":[],"activation":[]}\n')),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGE)
def test_store_names_and_isolates_corrupted_files(tmp_path: Path, name: str, damage: Callable[[Path], object]):
    """The cause names the file; another trial is not affected."""
    other = "cd" * 32
    damage(write(tmp_path) / name)
    write(tmp_path, other)
    store = Store(tmp_path)
    record = store.trial(TRIAL)
    assert record.status == "damaged"
    assert name in (record.cause or "")
    assert store.trial(other).status == "finished"
    assert store.trials() == [TRIAL, other]


def test_store_reads_values_that_are_not_numbers_as_none(tmp_path: Path):
    """NaN, infinities, numbers that exceed a float, truth values, text."""
    folder = write(tmp_path)
    (folder / "metrics.jsonl").write_text('{"epoch": 1, "a": NaN, "b": -Infinity, "c": 1e999, "d": true, "e": "x"}\n')
    record = Store(tmp_path).trial(TRIAL)
    assert record.status == "finished"
    assert record.curves == {"epoch": [1], "a": [None], "b": [None], "c": [None], "d": [None], "e": [None]}


@pytest.mark.parametrize("name", ["../../etc", "", "AB" * 32, "a" * 63, "\0", "/"])
def test_store_reads_nothing_outside_of_it(tmp_path: Path, name: str):
    """A name that is not a hash is damaged, whatever is at that path."""
    assert Store(tmp_path).trial(name).status == "damaged"
    with pytest.raises(UserError, match="no experiment"):
        Store(tmp_path).experiment(name)


def test_store_follows_no_links(tmp_path: Path):
    """The directory of a trial that is a link is not listed, and is damaged."""
    write(tmp_path / "elsewhere")
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / TRIAL).symlink_to(tmp_path / "elsewhere" / "trials" / TRIAL)
    store = Store(tmp_path)
    assert store.trials() == []
    assert store.trial(TRIAL).status == "damaged"


def test_find_returns_the_trial_of_a_prefix(tmp_path: Path):
    """Four digits or more, and unique."""
    for trial in (TRIAL, "abab12" + "0" * 58, "cdef" + "0" * 60):
        write(tmp_path, trial)
    store = Store(tmp_path)
    assert store.find("CDEF") == "cdef" + "0" * 60
    assert store.find("ababa") == TRIAL
    for prefix, text in (("cde", "too short"), ("abab", "2 trials"), ("ffff", "no trial")):
        with pytest.raises(UserError, match=text):
            store.find(prefix)


@pytest.mark.parametrize("name", ["trial.json", "result.json", "experiment.json"])
def test_store_rejects_a_newer_format_with_both_versions(tmp_path: Path, name: str):
    """The cause names the file and the version of its writer."""
    content = {"seed": 1}
    folder = TrialFolder(tmp_path, content_hash(content))
    folder.create(content)
    folder.write("provenance.json", {})
    folder.finish("finished", None, {}, {"parameters": 1, "epochs": 1, "steps": 1, "seconds": 0.5})
    experiment = write_experiment(tmp_path, "exp", {})
    path = (experiment if name == "experiment.json" else folder.path) / name
    path.write_text(path.read_text().replace('"format": 2', '"format": 99'))
    store = Store(tmp_path)
    cause = store.experiment("exp").cause if name == "experiment.json" else store.trial(folder.trial).cause
    assert cause is not None
    assert [part for part in (name, "99", "2", "newer") if part not in cause] == []


@pytest.mark.parametrize("text", ['{"format": 2, "seal": "x", "a": 1e999}', '{"seal": "x", "a": "\\ud800"}'])
def test_store_rejects_checksums_of_invalid_values(tmp_path: Path, text: str):
    """Numbers that exceed a float and lone surrogates are corruption, not errors."""
    (write(tmp_path) / "result.json").write_text(text)
    record = Store(tmp_path).trial(TRIAL)
    assert (record.status, "result.json" in str(record.cause)) == ("damaged", True)


def test_store_requires_checksums_since_format_2(tmp_path: Path):
    """The first release wrote none."""
    (write(tmp_path) / "result.json").write_text(json.dumps({"format": 2, "trial": TRIAL, **RESULT}))
    assert Store(tmp_path).trial(TRIAL).status == "damaged"


def test_store_reads_an_experiment_and_suggests_names(tmp_path: Path):
    """With defaults for missing keys."""
    folder = tmp_path / "experiments" / "depth"
    folder.mkdir(parents=True)
    pair = {"seed": 42, "trial": TRIAL}
    condition = {"label": "x", "role": "supervised", "factors": {"a.b": 1}, "depth": 5, "trials": [pair]}
    document = {"title": "Depth", "yaml": "seed: 42", "headline": "best", "conditions": [condition], "later": 1}
    (folder / "experiment.json").write_text(json.dumps(document))
    store = Store(tmp_path)
    record = store.experiment("depth")
    assert (record.name, record.folder, record.cause) == ("depth", folder, None)
    assert (record.title, record.yaml, record.headline, record.seeds) == ("Depth", "seed: 42", "best", ())
    assert record.conditions == (ConditionRecord("x", "supervised", {"a.b": 1}, 5, ((42, TRIAL),)),)
    with pytest.raises(UserError, match="Did you mean 'depth'"):
        store.experiment("depht")


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("seeds", {"seeds": "no"}),
    ("seeds", {"seeds": [1, "2"]}),
    ("conditions", {"conditions": [7]}),
    ("conditions", {"conditions": 7}),
    ("conditions", {"conditions": [{"label": "x", "trials": [{"seed": 1}]}]}),
    ("title", {"title": 7}),
    ("quick", {"quick": "yes"}),
    ("seconds", {"seconds": True}),
]


@pytest.mark.parametrize(("key", "document"), WRONG)
def test_store_names_the_key_of_a_wrong_type(tmp_path: Path, key: str, document: dict[str, Any]):
    """An experiment with content that fathomlab never writes has a cause and no conditions."""
    write_experiment(tmp_path, "exp", document)
    record = Store(tmp_path).experiment("exp")
    assert record.conditions == ()
    assert record.cause is not None
    assert [part for part in ("experiment.json", key) if part not in record.cause] == []


@pytest.mark.parametrize(
    ("name", "key", "change"),
    [
        ("result.json", "metrics.test/accuracy", {"metrics": {"test/accuracy": "high"}}),
        ("result.json", "seconds", {"seconds": True}),
        ("result.json", "outcome.examples", {"outcome": {"examples": 1.5}}),
        ("result.json", "files.x", {"files": {"x": "y"}}),
        ("result.json", "status", {"status": "running"}),
        ("result.json", "top level", {"seconds": float("1e999")}),
        ("provenance.json", "threads", {"threads": "1"}),
        ("provenance.json", "pack", {"pack": [1]}),
    ],
)
def test_store_returns_damaged_for_a_wrong_type(tmp_path: Path, name: str, key: str, change: dict[str, Any]):
    """The cause names the file and the key."""
    path = write(tmp_path) / name
    path.write_text(json.dumps(json.loads(path.read_text()) | change).replace("Infinity", "1e999"))
    record = Store(tmp_path).trial(TRIAL)
    assert record.status == "damaged"
    assert record.cause is not None
    assert [part for part in (name, key) if part not in record.cause] == []


def test_provenance_reads_by_attribute_and_by_key(tmp_path: Path):
    """A key that the file lacks is missing, as in its JSON object."""
    write(tmp_path)
    provenance = Store(tmp_path).trial(TRIAL).provenance
    assert isinstance(provenance, Provenance)
    assert provenance.versions == provenance["versions"] == {"torch": "2.13.0"}
    assert (list(provenance), "threads" in provenance, provenance.get("threads", 7)) == (["versions"], False, 7)
    with pytest.raises(KeyError):
        provenance["threads"]
    with pytest.raises(KeyError):
        provenance["get"]


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_store_lists_corrupted_experiments(tmp_path: Path, text: str):
    """With a cause that names the file. A directory without the file is not an experiment."""
    folder = tmp_path / "experiments" / "broken"
    folder.mkdir(parents=True)
    (tmp_path / "experiments" / "foreign").mkdir()
    (folder / "experiment.json").write_text(text)
    records = Store(tmp_path).experiments()
    assert [item.name for item in records] == ["broken"]
    assert "experiment.json" in (records[0].cause or "")


def test_store_reads_an_empty_directory(tmp_path: Path):
    store = Store(tmp_path / "nowhere")
    assert (store.trials(), store.experiments()) == ([], [])


def test_store_reads_a_thousand_trials_per_second(tmp_path: Path):
    """Ten epochs each, in CPU time; the best of three."""
    for seed in range(1000):
        stores.write_trial(tmp_path, "many", {}, seed, 0.9, epochs=10)
    times: list[float] = []
    for _ in range(3):
        start = time.process_time()
        store = Store(tmp_path)
        assert sum(store.trial(trial).status == "finished" for trial in store.trials()) == 1000
        times.append(time.process_time() - start)
    assert min(times) < 1


def test_import_does_not_load_torch():
    """Commands that only read start quickly."""
    code = "import sys, fathomlab.store.reading; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
