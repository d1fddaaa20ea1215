"""The reader of the store: right numbers from whole files, no error from damaged ones."""

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fathomlab.base.identity import content_hash
from fathomlab.base.problems import UserError
from fathomlab.store.directory import TrialFolder, write_experiment
from fathomlab.store.lock import store_lock
from fathomlab.store.reading import Store, TrialRecord

TRIAL = "ab" * 32
EPOCHS = [{"epoch": 1, "step": 375, "val/loss": 0.5, "val/accuracy": 0.9}, {"epoch": 2, "step": 750, "val/loss": None}]
SNAPSHOT = {"step": 0, "epoch": 0, "layers": ["in", "out"], "weight": [0.1, None], "points": ["in"], "activation": [2]}
RESULT = {"status": "finished", "cause": None, "parameters": 10, "seconds": 2.5, "metrics": {"test/accuracy": 0.91}}


def write(root: Path, trial: str = TRIAL) -> Path:
    """A whole trial folder as the first release wrote them: no checksums anywhere."""
    folder = root / "trials" / trial
    folder.mkdir(parents=True)
    (folder / "trial.json").write_text(json.dumps({"format": 1, "trial": trial, "content": {"seed": 42}}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in EPOCHS))
    (folder / "gradients.jsonl").write_text(json.dumps(SNAPSHOT) + "\n")
    (folder / "result.json").write_text(json.dumps({"trial": trial, **RESULT}))
    (folder / "provenance.json").write_text(json.dumps({"versions": {"torch": "2.13.0"}}))
    return folder


def test_a_whole_trial_is_read_as_it_was_written(tmp_path: Path):
    """Every field, with null as None and missing values of an epoch as None."""
    folder = write(tmp_path)
    found = Store(tmp_path).trial(TRIAL)
    assert found == TrialRecord(
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


def test_a_trial_without_result_is_running_or_interrupted_and_without_folder_is_pending(tmp_path: Path):
    """Running while somebody trains into the store; none of it is damage."""
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
def test_a_torn_last_line_is_dropped(tmp_path: Path, name: str):
    """At every byte at which the last line can be cut."""
    folder = write(tmp_path)
    whole = (folder / name).read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in range(1, len(lines[-1]) - 1):
        (folder / name).write_bytes(b"".join(lines[:-1]) + lines[-1][:cut])
        found = Store(tmp_path).trial(TRIAL)
        assert found.status == "finished", f"cut after {cut} bytes: {found.cause}"
        read = found.gradients if name == "gradients.jsonl" else found.curves.get("epoch", [])
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
def test_damage_is_named_and_isolated(tmp_path: Path, name: str, damage: Callable[[Path], object]):
    """The damaged trial says which file; its neighbor is whole."""
    other = "cd" * 32
    damage(write(tmp_path) / name)
    write(tmp_path, other)
    store = Store(tmp_path)
    found = store.trial(TRIAL)
    assert found.status == "damaged"
    assert name in (found.cause or "")
    assert store.trial(other).status == "finished"
    assert store.trials() == [TRIAL, other]


def test_words_that_json_lacks_are_none(tmp_path: Path):
    """NaN, Infinity, numbers too great for a float, and truth values are no numbers."""
    folder = write(tmp_path)
    (folder / "metrics.jsonl").write_text('{"epoch": 1, "a": NaN, "b": -Infinity, "c": 1e999, "d": true, "e": "x"}\n')
    found = Store(tmp_path).trial(TRIAL)
    assert found.status == "finished"
    assert found.curves == {"epoch": [1], "a": [None], "b": [None], "c": [None], "d": [None], "e": [None]}


@pytest.mark.parametrize("name", ["../../etc", "", "AB" * 32, "a" * 63, "\0", "/"])
def test_no_name_leads_out_of_the_store(tmp_path: Path, name: str):
    """What is not a hash is damaged, whatever lies at that path."""
    assert Store(tmp_path).trial(name).status == "damaged"
    with pytest.raises(UserError, match="no experiment"):
        Store(tmp_path).experiment(name)


def test_links_are_not_followed(tmp_path: Path):
    """A trial folder that is a link is not listed, and damaged if asked for."""
    write(tmp_path / "elsewhere")
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / TRIAL).symlink_to(tmp_path / "elsewhere" / "trials" / TRIAL)
    store = Store(tmp_path)
    assert store.trials() == []
    assert store.trial(TRIAL).status == "damaged"


def test_a_prefix_finds_its_trial(tmp_path: Path):
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
def test_a_newer_format_is_refused_with_both_versions(tmp_path: Path, name: str):
    """What was written by a later release is not guessed at."""
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
def test_a_seal_over_what_is_never_written_does_not_fit(tmp_path: Path, text: str):
    """Numbers too great and half characters are damage, not errors."""
    (write(tmp_path) / "result.json").write_text(text)
    record = Store(tmp_path).trial(TRIAL)
    assert (record.status, "result.json" in str(record.cause)) == ("damaged", True)


def test_a_document_without_its_seal_is_damaged(tmp_path: Path):
    """Since the second format each has one."""
    (write(tmp_path) / "result.json").write_text(json.dumps({"format": 2, "trial": TRIAL, **RESULT}))
    assert Store(tmp_path).trial(TRIAL).status == "damaged"


def test_an_experiment_is_read_and_a_misspelt_one_suggested(tmp_path: Path):
    """Known fields come back; types that are wrong become empty, not errors."""
    folder = tmp_path / "experiments" / "depth"
    folder.mkdir(parents=True)
    pair = {"seed": 42, "trial": TRIAL}
    condition = {"label": "x", "role": "supervised", "factors": {"a.b": 1}, "depth": 5, "trials": [pair]}
    about = {"title": "Depth", "yaml": "seed: 42", "headline": "best", "conditions": [condition, 7], "seeds": "no"}
    (folder / "experiment.json").write_text(json.dumps(about))
    store = Store(tmp_path)
    found = store.experiment("depth")
    assert (found.title, found.yaml, found.headline, found.seeds, found.cause) == (
        "Depth",
        "seed: 42",
        "best",
        (),
        None,
    )
    assert found.conditions[0].trials == ((42, TRIAL),)
    assert (found.conditions[0].factors, found.conditions[0].depth) == ({"a.b": 1}, 5)
    with pytest.raises(UserError, match="Did you mean 'depth'"):
        store.experiment("depht")


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_damaged_experiment_is_listed(tmp_path: Path, text: str):
    """It has its name, no conditions, and a cause that names the file. A folder without the file is no experiment."""
    folder = tmp_path / "experiments" / "broken"
    folder.mkdir(parents=True)
    (tmp_path / "experiments" / "foreign").mkdir()
    (folder / "experiment.json").write_text(text)
    found = Store(tmp_path).experiments()
    assert [item.name for item in found] == ["broken"]
    assert "experiment.json" in (found[0].cause or "")


def test_an_empty_store_is_no_error(tmp_path: Path):
    """Nothing there, nothing listed."""
    store = Store(tmp_path / "nowhere")
    assert (store.trials(), store.experiments()) == ([], [])


def test_a_thousand_trials_are_read_in_a_second(tmp_path: Path):
    """Ten epochs each; the best of three, since the machine has other work."""
    path = Path(__file__).parent.parent / "report" / "stores.py"
    spec = importlib.util.spec_from_file_location("synthetic_stores", path)
    assert spec is not None
    assert spec.loader is not None
    stores = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stores)
    for seed in range(1000):
        stores.write_trial(tmp_path, "many", {}, seed, 0.9, epochs=10)
    times: list[float] = []
    for _ in range(3):
        start = time.perf_counter()
        store = Store(tmp_path)
        assert sum(store.trial(trial).status == "finished" for trial in store.trials()) == 1000
        times.append(time.perf_counter() - start)
    assert min(times) < 1


def test_importing_it_does_not_import_torch():
    """The reader belongs to commands that start in half a second."""
    code = "import sys, fathomlab.store.reading; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
