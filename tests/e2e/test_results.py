"""Results as a collection: filters, verdicts, figures, and what a notebook shows. From synthetic stores, without training."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.base.inline import MAX_CHARS, MAX_LINES
from tests.helpers import stores
from tests.helpers.commands import run_python


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with an experiment over depths, one over widths, and a distillation."""
    root = tmp_path_factory.mktemp("stores")
    stores.write_all(root)
    return root


@pytest.fixture(scope="module")
def store(root: Path) -> fathomlab.Runs:
    return fathomlab.open_store(root)


def experiment_with(store: fathomlab.Runs, factor: str) -> fathomlab.Experiment:
    """The first experiment with a factor."""
    return next(item for name in store.experiments if factor in (item := store.experiment(name)).record.factors)


@pytest.fixture(scope="module")
def depths(store: fathomlab.Runs) -> fathomlab.Experiment:
    """Depth x residual."""
    return experiment_with(store, "model.params.residual")


def test_trials_are_a_sequence(depths: fathomlab.Experiment):
    trials = list(depths)
    assert len(depths) == len(trials) > 4
    assert depths[0] == trials[0]
    assert depths[-1] == trials[-1]
    assert list(depths[1:3]) == trials[1:3]
    assert type(depths[1:3]) is type(depths)
    assert depths.table()["trial"] == [trial.hash for trial in trials]
    assert depths[1:3].table()["trial"] == [trial.hash for trial in trials[1:3]]
    with pytest.raises(IndexError):
        depths[len(trials)]


def test_filters_choose_by_factor_field_and_several_levels(depths: fathomlab.Experiment):
    key = "model.params.residual"
    residual = depths.filter(residual=True)
    assert type(residual) is type(depths)
    assert [trial.hash for trial in residual] == [trial.hash for trial in depths if trial.factors[key] is True]
    assert list(depths.filter({key: True})) == list(residual)
    assert 0 < len(residual) < len(depths)
    seeds = sorted({trial.seed for trial in depths if trial.seed is not None})
    assert {trial.seed for trial in residual.filter(seed=seeds[:2])} == set(seeds[:2])
    assert list(residual.filter(residual=False)) == []
    label = depths[0].condition
    assert {trial.condition for trial in depths.filter(condition=label)} == {label}
    finished = depths.filter(status="finished")
    assert {trial.status for trial in finished} == {"finished"}
    assert len(depths.filter(status="outdated")) == 0
    assert list(depths.filter(role="supervised")) == list(depths)


def test_lists_can_be_levels(store: fathomlab.Runs):
    blocks = experiment_with(store, "model.params.layers")
    level = blocks[0].factors["model.params.layers"]
    assert isinstance(level, list)
    expected = [trial for trial in blocks if trial.factors["model.params.layers"] == level]
    assert list(blocks.filter(layers=level)) == list(blocks.filter(layers=tuple(level))) == expected
    assert list(blocks.filter(layers=[level])) == expected


@pytest.mark.parametrize(
    ("levels", "code", "hint"),
    [
        ({"residul": True}, "unknown-name", "'residual'"),
        ({"sed": 1}, "unknown-name", "'seed'"),
        ({"experiment": "x"}, "unknown-name", "condition, role, seed, status"),
        ({"residual": "yes"}, "unknown-level", "Levels: "),
        ({"role": "supervized"}, "unknown-level", "'supervised'"),
        ({"status": "finishedd"}, "unknown-name", "'finished'"),
        ({"seed": [42, 10**6]}, "unknown-level", "1000000"),
    ],
)
def test_unknown_names_and_levels_are_errors(depths: fathomlab.Experiment, levels: Any, code: str, hint: str):
    with pytest.raises(fathomlab.UserError) as caught:
        depths.filter(**levels)
    assert caught.value.code == code
    assert hint in str(caught.value)


def test_store_has_every_trial_once(store: fathomlab.Runs):
    trials = store.trials()
    assert sorted(trial.hash for trial in trials) == store.store.trials()
    assert [trial.experiment for trial in trials] == sorted(trial.experiment for trial in trials)
    assert len(store) == len(trials) == len(list(store))
    assert {trial.experiment for trial in trials} >= set(store.experiments[:2])
    assert len(set(trials)) == len(trials)
    assert store.trial(trials[0].hash[:12]) == trials[0]
    with pytest.raises(fathomlab.UserError):
        store.experiment("nothing")


def test_damaged_records_are_errors(root: Path, tmp_path: Path):
    """A corrupted experiment is refused by name; its trials stay. A corrupted trial is in no mean."""
    shutil.copytree(root, tmp_path / "runs")
    store = fathomlab.open_store(tmp_path / "runs")
    name, damaged = next((name, item) for name in store.experiments for item in store.experiment(name) if item.metrics)
    condition = store.experiment(name).filter(condition=damaged.condition, seed=damaged.seed)
    assert "test accuracy" in repr(condition[0])
    assert f"{100 * (damaged.metrics['test/accuracy'] or 0):.2f}" in condition._repr_mimebundle_()["text/plain"]
    path = damaged.record.folder / "trial.json"
    path.write_text(path.read_text().replace('"seed": ', '"seed": 1'))
    (again,) = store.experiment(name).filter(condition=damaged.condition, seed=damaged.seed)
    assert again.status == "damaged"
    shown = store.experiment(name).filter(condition=damaged.condition, seed=damaged.seed)._repr_mimebundle_()
    assert f"{100 * (damaged.metrics['test/accuracy'] or 0):.2f}" not in shown["text/plain"]
    with pytest.raises(fathomlab.UserError) as caught:
        again.test_data()
    assert caught.value.code == "unreadable-trial"
    count = len(store.trials())
    record = tmp_path / "runs" / "experiments" / name / "experiment.json"
    record.write_text(record.read_text()[:-20])
    for call in (store.experiment, store.table):
        with pytest.raises(fathomlab.UserError) as caught:
            call(name)
        assert caught.value.code == "damaged-record"
    assert len(store.trials()) == count
    assert name not in store.table()["experiment"]
    with pytest.raises(fathomlab.UserError) as caught:
        fathomlab.open_store(tmp_path / "run")
    assert caught.value.code == "no-such-store"


def test_verdicts_use_all_trials(depths: fathomlab.Experiment):
    assert len(depths.verdicts) == len(depths.record.claims) > 0
    assert depths.filter(residual=True).verdicts == depths.verdicts
    for verdict in depths.verdicts:
        text = repr(verdict)
        assert verdict.decision in text
        assert verdict.claim.name[:20] in text
        assert "\n" not in text
        assert len(text) < 250
        assert str(verdict).startswith(f"{verdict.decision}: {verdict.claim.name}: ")
        assert str(verdict).endswith(".")


def values(store: fathomlab.Runs, depths: fathomlab.Experiment) -> list[Any]:
    """Everything that a user may echo."""
    plan = fathomlab.load({"model": {"type": "MLP"}, "training": {"epochs": 1}, "data": {"name": "mnist-sample"}})
    records = [plan.trials[0], plan.conditions[0], depths[0].record, depths.record]
    return [
        *records,
        store,
        plan,
        depths,
        depths[0],
        store.trials(),
        *map(store.experiment, store.experiments),
        depths.verdicts,
    ]


def test_what_is_echoed_is_short(store: fathomlab.Runs, depths: fathomlab.Experiment):
    """At most 30 lines and 2,000 characters, as text and as HTML; hostile text is escaped."""
    for value in values(store, depths):
        texts = [repr(value), *getattr(value, "_repr_mimebundle_", dict)().values()]
        for text in texts:
            assert len(text) <= MAX_CHARS
            assert text.count("\n") < MAX_LINES
            assert "<script" not in text
    bundle = depths._repr_mimebundle_(include=None, exclude=None)
    assert depths[0].condition in bundle["text/plain"]


def test_figures_show_the_filtered_conditions(depths: fathomlab.Experiment):
    """Each kind has panels with titles; equal records give equal images."""
    figure = depths.plot("accuracy")
    assert len(figure.axes) >= 1
    kinds = ("accuracy", "effects", "curves", "val/loss", "gradients", "slopes")
    sizes = {kind: tuple(depths.plot(kind).get_size_inches()) for kind in kinds}
    assert len(set(sizes.values())) > 2
    texts = [
        text.get_text()
        for text in depths.filter(residual=True).plot("val/accuracy").findobj()
        if hasattr(text, "get_text")
    ]
    assert any("residual" in text for text in texts)
    assert not any("plain" in text for text in texts)
    png, size = depths.plot("curves")._repr_png_()  # type: ignore[attr-defined]
    assert png.startswith(b"\x89PNG")
    assert png == depths.plot("curves")._repr_png_()[0]  # type: ignore[attr-defined]
    assert size["width"] < 1300


def test_figures_are_opaque(depths: fathomlab.Experiment, tmp_path: Path):
    from matplotlib.image import imread

    depths.plot("accuracy").savefig(tmp_path / "figure.png")
    image = imread(tmp_path / "figure.png")
    assert (image[..., 3] == 1).all()


def test_unknown_and_unmeasured_figures_are_errors(store: fathomlab.Runs, depths: fathomlab.Experiment):
    with pytest.raises(fathomlab.UserError) as caught:
        depths.plot("curvs")
    assert caught.value.code == "unknown-plot"
    assert "'curves'" in str(caught.value)
    assert "accuracy, effects, curves" in str(caught.value)
    with pytest.raises(fathomlab.UserError) as caught:
        experiment_with(store, "model.params.layers_dim").plot("noise")
    assert caught.value.code == "not-measured"
    assert "experiment.probes" in str(caught.value)
    with pytest.raises(fathomlab.UserError) as caught:
        experiment_with(store, "model.params.layers_dim").plot("gradients")
    assert "experiment.analyze_gradients: true" in str(caught.value)
    with pytest.raises(fathomlab.UserError) as caught:
        depths.filter(residual=True).filter(residual=False).plot("accuracy")
    assert caught.value.code == "no-trials"


def test_figures_use_no_pyplot_and_no_settings(root: Path, tmp_path: Path):
    """In a new process: neither pyplot, nor a backend, nor rcParams; matplotlib is not imported before the first figure."""
    code = f"""
import sys
import fathomlab
store = fathomlab.open_store({str(root)!r})
names = [name for name in store.experiments if "model.params.residual" in store.experiment(name).record.factors]
experiment = store.experiment(names[0])
experiment.verdicts, experiment._repr_mimebundle_()
assert "matplotlib" not in sys.modules and "torch" not in sys.modules
import matplotlib
matplotlib.rcParams["font.size"] = 31
settings = lambda: {{key: matplotlib.rcParams._get(key) for key in matplotlib.rcParams}}  # does not choose a backend
before = settings()
experiment.plot("curves")._repr_png_()
assert settings() == before
assert matplotlib.rcParams._get("backend") is matplotlib.rcsetup._auto_backend_sentinel
assert "matplotlib.pyplot" not in sys.modules and "torch" not in sys.modules
"""
    result = run_python("-c", code, cwd=tmp_path, environment={"MPLBACKEND": ""})
    assert (result.returncode, result.stderr) == (0, "")


def test_errors_are_one_message_in_a_notebook(depths: fathomlab.Experiment):
    calls: list[Callable[[], object]] = [lambda: depths.filter(residul=1), lambda: fathomlab.load({"models": 1})]
    for call in calls:
        with pytest.raises(fathomlab.UserError) as caught:
            call()
        (text,) = caught.value._render_traceback_()
        assert text == f"{type(caught.value).__name__}: {caught.value}"
