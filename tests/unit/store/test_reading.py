"""The reader of the store: right numbers from intact files, no error from corrupted ones."""

import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fathomlab.base.errors import UserError
from fathomlab.base.identity import content_hash
from fathomlab.probes.columns import Column, ProbeDescription
from fathomlab.probes.gradients import Gradients
from fathomlab.store.checksums import CRC_MARKER, encode_line, seal
from fathomlab.store.directory import TrialFolder, write_experiment
from fathomlab.store.lock import store_lock
from fathomlab.store.provenance import Provenance
from fathomlab.store.reading import Store
from fathomlab.store.records import ConditionRecord, ExperimentRecord, ProbeSnapshot, Result, SeedTrial, TrialRecord

DESCRIBED = ProbeDescription(Gradients.title, Gradients.note, Gradients.columns)
TRIAL = content_hash({"seed": 42})
OTHER = content_hash({"seed": 43})
EPOCHS = [{"epoch": 1, "step": 375, "val/loss": 0.5, "val/accuracy": 0.9}, {"epoch": 2, "step": 750, "val/loss": None}]
SNAPSHOT = {"step": 0, "epoch": 0, "layers": ["in", "out"], "weight": [0.1, None], "points": ["in"], "activation": [2]}
RESULT = {"status": "finished", "cause": None, "parameters": 10, "seconds": 2.5, "metrics": {"test/accuracy": 0.91}}


def write(root: Path, seed: int = 42) -> Path:
    """The directory of a finished trial."""
    trial = content_hash({"seed": seed})
    folder = root / "trials" / trial
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(map(encode_line, EPOCHS)))
    (folder / "gradients.jsonl").write_text(encode_line(SNAPSHOT))
    documents = {
        "trial.json": {"trial": trial, "content": {"seed": seed}},
        "result.json": {"trial": trial, **RESULT},
        "provenance.json": {"versions": {"torch": "2.13.0"}},
    }
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(seal(document)))
    return folder


def test_store_reads_a_trial(tmp_path: Path):
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
        probes={
            "gradients": (
                ProbeSnapshot(
                    step=0,
                    epoch=0,
                    names={"layer": ("in", "out"), "point": ("in",)},
                    columns={"weight": (0.1, None), "activation": (2,)},
                ),
            )
        },
        provenance=Provenance(versions={"torch": "2.13.0"}),
        seconds=2.5,
        folder=folder,
        descriptions={"gradients": DESCRIBED},
    )


OWN = {"step": 3, "epoch": 1, "entries": ["a", "b"], "size": [1, None], "mean": 0.5}
OWN_PROBE: dict[str, Any] = {
    "title": "Sizes",
    "note": "",
    "columns": {"size": {"axis": "entry", "figure": "profile"}, "mean": {"figure": "lines"}},
}


def write_own(root: Path, described: Any) -> Path:
    """A trial that the probe Sizes of a plugin measured."""
    folder = write(root)
    (folder / "Sizes.jsonl").write_text(encode_line(OWN))
    if described is not None:
        (folder / "probes.json").write_text(json.dumps(seal({"probes": {"Sizes": described}})))
    return folder


def test_probe_of_a_plugin_is_read_with_its_description(tmp_path: Path):
    write_own(tmp_path, OWN_PROBE)
    record = Store(tmp_path).trial(TRIAL)
    (snapshot,) = record.probes["Sizes"]
    assert (snapshot.names, snapshot.columns) == ({"entry": ("a", "b")}, {"size": (1, None), "mean": (0.5,)})
    assert record.descriptions["Sizes"].columns["size"].figure == "profile"
    assert record.status == "finished"


def test_probe_without_a_description_has_steps_only(tmp_path: Path):
    write_own(tmp_path, None)
    record = Store(tmp_path).trial(TRIAL)
    assert record.probes["Sizes"] == (ProbeSnapshot(step=3, epoch=1, names={}, columns={}),)
    assert record.descriptions.keys() == {"gradients"}


@pytest.mark.parametrize(
    "columns",
    [
        {"a b": {}},
        {"step": {}},
        {"size": {"axis": "elsewhere"}},
        {"size": {"axis": "layer", "figure": "lines"}},
        {"size": {"quotient": ["size", "absent"]}},
    ],
)
def test_wrong_description_is_a_problem_of_its_trial(tmp_path: Path, columns: Any):
    write_own(tmp_path, {**OWN_PROBE, "columns": columns})
    record = Store(tmp_path).trial(TRIAL)
    assert record.status == "damaged"
    assert (record.cause or "").startswith("probes.json has an unexpected value")


def test_described_probes_are_written_once(tmp_path: Path):
    folder, column = TrialFolder(tmp_path, TRIAL), Column("Mean", figure="lines")
    folder.create({"seed": 42})
    first = ProbeDescription("Sizes", "", {"mean": column})
    assert folder.describe("Sizes", first)
    assert folder.append("Sizes.jsonl", {"step": 0, "epoch": 0, "mean": 1.0})
    again = TrialFolder(tmp_path, TRIAL)
    assert again.describe("Sizes", first)
    assert not again.describe("Sizes", ProbeDescription("Sizes", "", {"other": column}))
    assert again.describe("Others", first)
    assert Store(tmp_path).trial(TRIAL).cause is None
    assert json.loads((folder.path / "probes.json").read_text())["probes"].keys() == {"Sizes", "Others"}


def test_store_returns_the_status_of_unfinished_trials(tmp_path: Path):
    """Running while a process trains into the store; waiting without a directory."""
    folder = write(tmp_path)
    (folder / "result.json").unlink()
    (folder / "provenance.json").unlink()
    store = Store(tmp_path)
    assert (store.trial(TRIAL).status, store.trial(TRIAL).cause) == ("interrupted", None)
    with store_lock(tmp_path, False, lambda text: None):
        assert Store(tmp_path).trial(TRIAL).status == "running"
    (tmp_path / "trials" / OTHER).mkdir()
    assert store.trial(OTHER).status == "waiting"
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
        read = record.probes["gradients"] if name == "gradients.jsonl" else record.curves.get("epoch", [])
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
    ("gradients.jsonl", lambda file: file.write_text(encode_line({"layers": ["a"], "weight": []}))),
    ("gradients.jsonl", lambda file: file.write_text(encode_line(SNAPSHOT | {"weight": []}))),
]


@pytest.mark.parametrize(("name", "damage"), DAMAGE)
def test_store_names_and_isolates_corrupted_files(tmp_path: Path, name: str, damage: Callable[[Path], object]):
    """The cause names the file; another trial is not affected."""
    damage(write(tmp_path) / name)
    write(tmp_path, 43)
    store = Store(tmp_path)
    record = store.trial(TRIAL)
    assert record.status == "damaged"
    assert name in (record.cause or "")
    assert store.trial(OTHER).status == "finished"
    assert store.trials() == sorted((TRIAL, OTHER))


def with_crc(text: str) -> str:
    """A line of a log whose JSON `encode_line` would not write."""
    return f'{text[:-1]}{CRC_MARKER}{zlib.crc32(text.encode()):08x}"}}\n'


def test_store_reads_values_that_are_not_numbers_as_none(tmp_path: Path):
    """NaN, infinities, numbers that exceed a float, truth values, text."""
    folder = write(tmp_path)
    text = '{"epoch": 1, "a": NaN, "b": -Infinity, "c": 1e999, "d": true, "e": "x"}'
    (folder / "metrics.jsonl").write_text(with_crc(text))
    record = Store(tmp_path).trial(TRIAL)
    assert record.status == "finished"
    assert record.curves == {"epoch": [1], "a": [None], "b": [None], "c": [None], "d": [None], "e": [None]}


def test_store_reads_snapshots_as_their_probes_declare(tmp_path: Path):
    """A number per snapshot, a number format, and values that are not numbers. Of an unknown probe, only when it measured."""
    folder = write(tmp_path)
    logs = {
        "noise": '{"step": 5, "epoch": 1, "trace": 2.5, "small": "x"}',
        "updates": '{"step": "x", "layers": [1], "ratio": [true], "weight": [1e999], "update": [3], "dtype": "float64"}',
        "unknown": '{"step": 7, "epoch": 2, "anything": [1, 2]}',
    }
    for name, text in logs.items():
        (folder / f"{name}.jsonl").write_text(with_crc(text))
    record = Store(tmp_path).trial(TRIAL)
    assert record.status == "finished"
    (noise,), (updates,), (unknown,) = (record.probes[name] for name in ("noise", "updates", "unknown"))
    assert (noise.step, noise.epoch, noise.columns["trace"], noise.columns["small"]) == (5, 1, (2.5,), (None,))
    columns = {"ratio": (None,), "weight": (None,), "update": (3,)}
    assert updates == ProbeSnapshot(0, 0, {"layer": ("1",)}, columns, "float64")
    assert unknown == ProbeSnapshot(7, 2, {}, {})


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
    for trial in ("ab" * 32, "abab12" + "0" * 58, "cdef" + "0" * 60):
        (tmp_path / "trials" / trial).mkdir(parents=True)
    store = Store(tmp_path)
    assert store.find("CDEF") == "cdef" + "0" * 60
    assert store.find("ababa") == "ab" * 32
    for prefix, text in (("cde", "too short"), ("abab", "2 trials"), ("ffff", "no trial")):
        with pytest.raises(UserError, match=text):
            store.find(prefix)


@pytest.mark.parametrize("name", ["trial.json", "result.json", "experiment.json"])
def test_store_rejects_a_newer_format_with_both_versions(tmp_path: Path, name: str):
    """The cause names the file and the version of its writer."""
    content = {"seed": 1}
    folder = TrialFolder(tmp_path, content_hash(content))
    folder.create(content)
    folder.write_provenance(Provenance())
    folder.finish(Result("finished"))
    experiment = write_experiment(tmp_path, ExperimentRecord("exp", tmp_path))
    path = (experiment if name == "experiment.json" else folder.path) / name
    path.write_text(path.read_text().replace('"format": 3', '"format": 99'))
    store = Store(tmp_path)
    cause = store.experiment("exp").cause if name == "experiment.json" else store.trial(folder.trial).cause
    assert cause is not None
    assert [part for part in (name, "99", "3", "newer") if part not in cause] == []


@pytest.mark.parametrize("text", ['{"format": 3, "seal": "x", "a": 1e999}', '{"seal": "x", "a": "\\ud800"}'])
def test_store_rejects_checksums_of_invalid_values(tmp_path: Path, text: str):
    """Numbers that exceed a float and lone surrogates are corruption, not errors."""
    (write(tmp_path) / "result.json").write_text(text)
    record = Store(tmp_path).trial(TRIAL)
    assert (record.status, "result.json" in str(record.cause)) == ("damaged", True)


@pytest.mark.parametrize("name", ["trial.json", "result.json", "provenance.json"])
def test_store_requires_a_checksum(tmp_path: Path, name: str):
    path = write(tmp_path) / name
    document = json.loads(path.read_text())
    del document["seal"]
    path.write_text(json.dumps(document))
    assert Store(tmp_path).trial(TRIAL).status == "damaged"


def test_store_reads_an_experiment_and_suggests_names(tmp_path: Path):
    """With defaults for missing keys."""
    folder = tmp_path / "experiments" / "depth"
    folder.mkdir(parents=True)
    pair = {"seed": 42, "trial": TRIAL}
    condition = {"label": "x", "role": "supervised", "factors": {"a.b": 1}, "depth": 5, "trials": [pair]}
    document = {"title": "Depth", "yaml": "seed: 42", "headline": "best", "conditions": [condition], "later": 1}
    (folder / "experiment.json").write_text(json.dumps(seal(document)))
    store = Store(tmp_path)
    record = store.experiment("depth")
    assert (record.name, record.folder, record.cause) == ("depth", folder, None)
    assert (record.title, record.yaml, record.headline, record.seeds) == ("Depth", "seed: 42", "best", ())
    assert record.conditions == (ConditionRecord("x", "supervised", {"a.b": 1}, 5, (SeedTrial(42, TRIAL),)),)
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
    path = write_experiment(tmp_path, ExperimentRecord("exp", tmp_path)) / "experiment.json"
    path.write_text(json.dumps(seal(json.loads(path.read_text()) | document)))
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
        ("provenance.json", "threads", {"threads": "1"}),
        ("provenance.json", "pack", {"pack": [1]}),
    ],
)
def test_store_returns_damaged_for_a_wrong_type(tmp_path: Path, name: str, key: str, change: dict[str, Any]):
    """The cause names the file and the key."""
    path = write(tmp_path) / name
    path.write_text(json.dumps(seal(json.loads(path.read_text()) | change)))
    record = Store(tmp_path).trial(TRIAL)
    assert record.status == "damaged"
    assert record.cause is not None
    assert [part for part in (name, key) if part not in record.cause] == []


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


def test_import_does_not_load_torch():
    """Commands that only read start quickly."""
    code = "import sys, fathomlab.store.reading; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
