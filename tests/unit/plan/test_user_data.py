"""Users' datasets in plans: functions of plugins, folders, and objects; identity, and problems at their line."""

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fathomlab
from fathomlab.base.errors import ConfigError, UserError
from fathomlab.data.users import UserDataset
from fathomlab.plan import Plan, decode_trial, encode_trial, read_trial, with_seeds

PLUGIN = """
    from __future__ import annotations
    import random
    from functools import cache
    from typing import Annotated, Literal
    import numpy as np
    import fathomlab
    from annotated_types import Interval
    from fathomlab import Arrays

    LABELS = np.arange(40) % 2

    def make(value, size=4, n=40):
        images = np.full((n, 1, size, size), value, np.uint8) + LABELS[:n, None, None, None].astype(np.uint8)
        return Arrays(images, LABELS[:n], images[:10], LABELS[:10])

    def stripes(value: Annotated[int, Interval(ge=0, le=9)] = 3, size: int = 4) -> fathomlab.Arrays:
        "Stripes."
        print("noise")
        return make(value, size)

    @cache
    def cached() -> "Arrays":
        return make(1)

    def drawn() -> Arrays:
        return make(random.randrange(100) + np.random.randint(100))

    def untyped(value) -> Arrays:
        return make(value)

    def wrong() -> Arrays:
        return {"images": []}

    def faulty() -> Arrays:
        return make(1, n=0)

    def leaves() -> Arrays:
        raise SystemExit(3)

    def focal(logits, labels):
        return logits.sum(1)
"""
MODEL = {"type": "MLP", "params": {"input_size": 16, "class_num": 2, "layers_dim": 4, "hidden_layers_num": 1}}
BASE = {"model": MODEL, "training": {"epochs": 1}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with a plugin and a folder of images."""
    (tmp_path / "parts.py").write_text(dedent(PLUGIN), encoding="utf-8")
    for number in range(20):
        path = tmp_path / "photos" / "train" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), number).save(path)
    return tmp_path


def planned(folder: Path, data: Any, *overrides: str, **sections: Any) -> Plan:
    """The plan of a file in the folder with this dataset; flow YAML is JSON."""
    document = {**BASE, "plugins": ["parts.py"], "data": {"batch_size": 5, **data}, **sections}
    (folder / "exp.yaml").write_text(json.dumps(document), encoding="utf-8")
    return fathomlab.load(folder / "exp.yaml", overrides)


def problems(folder: Path, data: Any, *overrides: str, **sections: Any) -> list[tuple[str, str, str]]:
    """Code, key, and text of each problem."""
    with pytest.raises(ConfigError) as caught:
        planned(folder, data, *overrides, **sections)
    return [(problem.code, problem.path, problem.message) for problem in caught.value.problems]


GRAY = {"path": "photos", "color": "gray", "test_percent": 30}


def arrays(value: int = 0, **changes: Any) -> fathomlab.Arrays:
    """Images of one color per class."""
    labels = np.arange(20) % 2
    images = np.full((20, 1, 4, 4), value, np.uint8) + labels[:, None, None, None].astype(np.uint8)
    return fathomlab.Arrays(images, labels, images[:4], labels[:4], **changes)


def test_function_is_a_dataset_by_its_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its code and its options are the identity; it is called once, and what it prints is not on standard output."""
    plan = planned(folder, {"name": "stripes", "params": {"value": 5}})
    (trial,) = plan.trials
    assert len(with_seeds(plan, 2).trials) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "noise\n")
    assert trial.content["data"]["params"] == {"value": 5, "size": 4}
    assert "sha256" not in trial.content["data"]
    assert trial.content["plugins"] == {"parts.py": trial.plugins[0].sha256}
    info = trial.data.info
    assert (info.name, info.classes, info.train_examples, info.test_examples) == ("stripes", 2, 40, 10)
    assert (info.channels, info.height, info.width) == (1, 4, 4)
    assert json.loads(trial.recipe.data)["plugin"] == trial.plugins[0].sha256
    assert planned(folder, {"name": "cached"}).trials[0].data.info.name == "cached"


def test_global_generators_are_seeded(folder: Path) -> None:
    first, second = (planned(folder, {"name": "drawn"}).trials[0].data.component for _ in range(2))
    assert first == second


def test_changed_code_or_option_is_another_trial(folder: Path) -> None:
    (first,) = planned(folder, {"name": "stripes"}).trials
    (other,) = planned(folder, {"name": "stripes"}, "data.params.value=4").trials
    (folder / "parts.py").write_text(dedent(PLUGIN) + "# a comment\n", encoding="utf-8")
    (changed,) = planned(folder, {"name": "stripes"}).trials
    assert len({first.hash, other.hash, changed.hash}) == 3
    assert first.recipe.data != changed.recipe.data


def test_folder_is_identified_by_its_images(folder: Path) -> None:
    """Neither the path nor the names of files count; the path is relative to the file."""
    data = {"name": "folder", "params": GRAY}
    (first,) = planned(folder, data).trials
    assert (first.plugins, first.content["data"]["params"]) == ((), {})
    (folder / "photos").rename(folder / "moved")
    (moved,) = planned(folder, data, "data.params.path=moved").trials
    assert moved.hash == first.hash
    Image.new("L", (4, 4), 99).save(folder / "moved" / "train" / "a" / "0.png")
    (changed,) = planned(folder, data, "data.params.path=moved").trials
    assert changed.hash != first.hash
    assert {key for key in changed.content if changed.content[key] != first.content[key]} == {"data"}
    assert changed.content["data"]["sha256"] != first.content["data"]["sha256"]


def test_object_replaces_the_name_of_the_dataset(folder: Path) -> None:
    """By its content; a mapping needs no `data.name`."""
    (first,) = fathomlab.load(BASE, data=arrays(), overrides="data.batch_size=5").trials
    (named,) = fathomlab.load(BASE, data=arrays(class_names=("a", "b")), overrides="data.batch_size=5").trials
    (other,) = fathomlab.load(BASE, data=arrays(1), overrides="data.batch_size=5").trials
    assert first.hash == named.hash != other.hash
    assert named.data.info.class_names == ("a", "b")
    pairs = [(image, int(label)) for image, label in zip(arrays().train_images, arrays().train_labels, strict=True)]
    (single,) = fathomlab.load(BASE, data=pairs, overrides="data.batch_size=5").trials
    assert (single.data.info.train_examples, single.data.info.test_examples) == (16, 4)


@pytest.mark.parametrize("key", ["data.name=shapes", "data.params.x=1", "data.name=shapes,mnist"])
def test_object_and_name_are_a_conflict(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fathomlab.load(BASE, key, data=arrays())
    assert {problem.code for problem in caught.value.problems} == {"conflict"}


def test_other_objects_are_rejected() -> None:
    with pytest.raises(UserError) as caught:
        fathomlab.load(BASE, data=3)
    assert caught.value.code == "wrong-type"
    with pytest.raises(UserError) as caught:
        fathomlab.run(fathomlab.load(BASE, "data.batch_size=5", data=arrays()), data=arrays())
    assert caught.value.code == "conflict"


def test_trials_travel_without_their_images(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A worker gets the facts; the function is not called there."""
    for data in ({"name": "stripes"}, {"name": "folder", "params": GRAY}):
        (trial,) = planned(folder, data).trials
        capsys.readouterr()
        again = decode_trial(json.loads(json.dumps(encode_trial(trial))))
        assert again == trial
        assert again.data == trial.data
        assert again.plugins == trial.plugins
        assert "noise" not in capsys.readouterr().err
        assert isinstance(trial.data.component, UserDataset)
        if not trial.plugins:
            with pytest.raises(ValueError, match="data"):
                read_trial(trial.content)


def test_factors_and_roles_use_users_datasets(folder: Path) -> None:
    """Names, options, and paths vary; roles have different data."""
    factors = {"factors": {"data.params.value": [1, 2]}}
    plan = planned(folder, {"name": "stripes"}, experiment=factors)
    assert [trial.content["data"]["params"]["value"] for trial in plan.trials] == [1, 2]
    assert len({trial.recipe.data for trial in plan.trials}) == 2
    plan = planned(folder, {}, experiment={"factors": {"data.name": ["stripes", "drawn"]}})
    assert [trial.data.info.name for trial in plan.trials] == ["stripes", "drawn"]
    roles = {
        "first": {**BASE, "data": {"name": "stripes", "batch_size": 5}},
        "second": {**BASE, "data": {"name": "folder", "params": GRAY, "batch_size": 5}},
    }
    (folder / "exp.yaml").write_text(json.dumps({"plugins": ["parts.py"], "roles": roles}), encoding="utf-8")
    trials = fathomlab.load(folder / "exp.yaml").trials
    assert [trial.data.info.name for trial in trials] == ["stripes", "folder"]
    assert [len(trial.plugins) for trial in trials] == [1, 0]


@pytest.mark.parametrize(
    ("data", "code", "path", "text"),
    [
        ({"name": "stripe"}, "unknown-name", "data.name", "'stripes'"),
        ({"name": "focal"}, "unknown-name", "data.name", "loss"),
        ({"name": "untyped"}, "unknown-name", "data.name", "value needs a type"),
        ({"name": "stripes", "params": {"value": 10}}, "out-of-range", "data.params.value", "<= 9"),
        ({"name": "stripes", "params": {"valuex": 1}}, "unknown-key", "data.params.valuex", "'value'"),
        ({"name": "wrong"}, "plugin-error", "data.name", "must return fathomlab.Arrays, got dict"),
        ({"name": "leaves"}, "plugin-error", "data.name", "SystemExit"),
        ({"name": "faulty"}, "no-images", "data.name", "train_images"),
        ({"name": "stripes", "limit": 100}, "data-mismatch", "data.limit", "stripes"),
        ({"name": "stripes", "params": {"size": 5}}, "data-mismatch", "model.params.input_size", "25"),
        ({"name": "stripes", "limit": 4, "validation_split": 10}, "empty-split", "data.validation_split", "4"),
        ({"name": "folder"}, "missing-key", "data.params", "path"),
        ({"name": "folder", "params": {"path": "nowhere"}}, "no-such-folder", "data.params.path", "nowhere"),
        ({"name": "folder", "params": {"path": "photos", "size": 0}}, "out-of-range", "data.params.size", "0"),
        ({"name": "folder", "params": {**GRAY, "color": "grays"}}, "unknown-name", "data.params.color", "gray"),
    ],
)
def test_problems_name_their_key(folder: Path, data: Any, code: str, path: str, text: str) -> None:
    ((got, key, message),) = problems(folder, data)
    assert (got, key) == (code, path)
    assert text in message


def test_error_names_the_line_of_the_plugin(folder: Path) -> None:
    """The innermost one, where the arrays are made or the function ends."""
    for name, cause in (("faulty", "return Arrays("), ("leaves", "SystemExit")):
        ((_, _, message),) = problems(folder, {"name": name})
        line = next(n for n, text in enumerate(dedent(PLUGIN).splitlines(), start=1) if cause in text)
        assert message.startswith(f"parts.py:{line}: {name}: ")


def test_schema_and_hints_know_the_folder(folder: Path) -> None:
    """An option that belongs to `params` is named."""
    with pytest.raises(ConfigError) as caught:
        planned(folder, {"name": "folder", "params": GRAY}, "data.size=3")
    assert "data.params.size" in caught.value.problems[0].message
