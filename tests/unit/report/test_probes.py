"""A probe appears on the page because of its declared columns alone."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from fathomlab.analysis.study import Study, study
from fathomlab.probes import PROBES
from fathomlab.probes.columns import Column
from fathomlab.report import grids
from fathomlab.report.page import write_report
from fathomlab.report.plots import plot
from fathomlab.report.sections import probes
from fathomlab.report.sections.probes import ProbeFigures, probe_figures
from fathomlab.store import reading
from fathomlab.store.checksums import encode_line, seal
from fathomlab.store.reading import Store
from tests.helpers import stores

CLASSES = ["cat", "dog", "owl"]


class Margins:
    """A probe that the report does not know: a column of each kind of figure."""

    title: ClassVar[str] = "Margins of the classes"
    note: ClassVar[str] = "How far the classes are apart."
    columns: ClassVar[dict[str, Column]] = {
        "by_class": Column("Margin of each class", axis="class", figure="heatmap", log=True),
        "per_layer": Column("Margin of each layer", "nats", axis="layer", figure="profile"),
        "total": Column("Total margin", "nats", figure="lines"),
        "geometric": Column("Size", figure="lines", log=True),
        "share": Column("Share", figure="lines", quotient=("total", "count")),
        "count": Column("Number of classes"),
    }


def line(step: int, seed: int) -> dict[str, Any]:
    """A snapshot of the probe."""
    names = {"classes": CLASSES, "layers": ["input", "output"]}
    numbers: dict[str, Any] = {"by_class": [1.0, 10.0, 100.0], "per_layer": [seed, -2.0], "total": float(seed)}
    return {"step": step, "epoch": step, **names, **numbers, "geometric": 10.0**seed, "share": None, "count": seed + 1}


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An experiment whose trials have that probe, with the same numbers in all conditions."""
    for module in (reading, grids, probes):  # as if it were in the table
        monkeypatch.setattr(module, "PROBES", PROBES.extended("margins", Margins))
    stores.write_depths(tmp_path, seeds=2, epochs=2, depths=(5,), claims=[])
    store = Store(tmp_path)
    for _, seed, trial in study(store, store.experiment("1_2")).trials:
        lines = [encode_line(line(step, seed - 42)) for step in (0, 1, 2)]
        (trial.folder / "margins.jsonl").write_text("".join(lines))
    return store


def figures_of(results: Study) -> ProbeFigures:
    """Those of the probe, which come last."""
    return probe_figures(results)[-1]


def test_page_shows_a_new_probe(measured: Store) -> None:
    page = write_report(measured, "1_2").read_text()
    section = page[page.index('<section id="probes"') :].split("</section>")[0]
    assert Margins.title in section
    assert Margins.note in section
    ids = re.findall(r'<figure id="(margins-[^"]+)"', section)
    maps = [f"margins-by-class-{number}" for number in (1, 2, 3)]  # plain, residual, and their ratio
    assert ids == [*(f"margins-{number}" for number in range(1, 6)), *maps]


def test_section_is_named_after_the_probes_it_shows(measured: Store) -> None:
    """ "Other" than the gradient probe, which has its section, only if the page shows that one."""
    experiment = study(measured, measured.experiment("1_2"))
    heading = getattr(probes.section(experiment, [], []), "heading", "")
    assert heading == "Other probes"
    without = [
        replace(
            item,
            trials=tuple(
                (seed, replace(trial, probes={"margins": trial.probes["margins"]})) for seed, trial in item.trials
            ),
        )
        for item in experiment.conditions
    ]
    heading = getattr(probes.section(replace(experiment, conditions=tuple(without)), [], []), "heading", "")
    assert heading == "Probes"


def test_new_probe_needs_its_columns(measured: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a kind of figure there is no figure."""
    monkeypatch.setattr(Margins, "columns", {"total": Column("Total margin")})
    assert "margins-" not in write_report(measured, "1_2").read_text()


def test_figures_average_as_columns_declare(measured: Store) -> None:
    """Seeds 0 and 1: arithmetic and geometric means, and a quotient of means; a map in decades."""
    figures = figures_of(study(measured, measured.experiment("1_2")))
    start, end, total, geometric, share = (chart.table for chart in figures.charts)
    assert [chart.title for chart in figures.charts][:2] == [
        "Margin of each layer (nats), at initialization",
        "Margin of each layer (nats), at the end",
    ]
    assert (start.columns[0], start.rows[0][:2], start.rows[1][:2]) == ("layer", ("input", "0.5"), ("output", "-2"))
    assert end.rows == start.rows
    assert (total.columns[0], total.rows[0][:2]) == ("snapshot", ("init", "0.5"))
    assert geometric.rows[0][1] == "3.162"  # the root of 1 and 10
    assert share.rows[0][1] == "0.3333"  # 0.5 / 1.5
    (heatmaps,) = figures.heatmaps
    table = heatmaps.maps[0].table
    assert [row[:2] for row in table.rows] == list(zip(CLASSES, ("0.00", "1.00", "2.00"), strict=True))
    assert table.columns[0] == "class"
    assert "3\u00a0classes" in heatmaps.maps[0].description


@pytest.mark.parametrize(("axis", "figure"), [("replica", "profile"), ("replica", "heatmap"), ("class", "lines")])
def test_column_rejects_figures_that_cannot_show_it(axis: Any, figure: Any) -> None:
    with pytest.raises(ValueError, match=figure):
        Column("x", axis=axis, figure=figure)


HOSTILE = "<script>alert(1)</script> & \u202e"


def describe(store: Store, columns: dict[str, Any], seed: int = 42, name: str = "Own") -> None:
    """Store the description of a plugin's probe with the trials of a seed."""
    probe = {"title": f"Own {HOSTILE}", "note": HOSTILE, "columns": columns}
    for _, number, trial in study(store, store.experiment("1_2")).trials:
        if number == seed:
            log = {"step": 0, "epoch": 0, "entries": [HOSTILE, "b"], "size": [1.0, 2.0], "total": 3.0}
            (trial.folder / f"{name}.jsonl").write_text(encode_line(log))
            (trial.folder / "probes.json").write_text(json.dumps(seal({"probes": {name: probe}})))


@pytest.fixture
def described(tmp_path: Path) -> Store:
    """An experiment whose trials have a probe of a plugin."""
    stores.write_depths(tmp_path, seeds=2, epochs=2, depths=(5,), claims=[])
    for seed in (42, 43):
        size = {"label": HOSTILE, "axis": "entry", "figure": "profile"}
        describe(Store(tmp_path), {"size": size, "total": {"label": "Total", "unit": HOSTILE, "figure": "lines"}}, seed)
    return Store(tmp_path)


@pytest.mark.parametrize("name", ["accuracy", "train_loss", "curves"])
def test_probe_named_like_a_chart_of_the_page_has_its_own_ids(tmp_path: Path, name: str) -> None:
    stores.write_depths(tmp_path, seeds=2, epochs=2, depths=(5,), claims=[])
    columns: dict[str, Any] = {
        "total": {"label": "Total", "figure": "lines"},
        "size": {"label": "Size", "axis": "entry"},
    }
    columns["size"] |= {"figure": "heatmap", "log": True}
    for seed in (42, 43):
        describe(Store(tmp_path), columns, seed, name)
    store = Store(tmp_path)
    ids = re.findall(r' id="([^"]+)"', write_report(store, "1_2").read_text())
    assert {f"probe-{name}-1", f"probe-{name}-size-1"} <= set(ids)
    assert len(ids) == len(set(ids))
    assert plot(study(store, store.experiment("1_2")), name).subfigs


def test_probe_of_a_plugin_is_shown_from_the_store(described: Store) -> None:
    page = write_report(described, "1_2").read_text()
    section = page[page.index('<section id="probes"') :].split("</section>")[0]
    assert "Own &lt;script&gt;" in section
    assert "<script>alert" not in page
    assert re.findall(r'<figure id="(probe-Own[^"]+)"', section) == ["probe-Own-1", "probe-Own-2"]
    figures = figures_of(study(described, described.experiment("1_2")))
    size, total = (chart.table for chart in figures.charts)
    assert (size.columns[0], [row[1] for row in size.rows]) == ("entry", ["1", "2"])
    assert (total.columns[0], total.rows[0][:2]) == ("snapshot", ("init", "3"))


def test_trials_with_other_columns_are_left_out(described: Store) -> None:
    """Those of a plugin that has changed; the first trial decides."""
    describe(described, {"size": {"label": "Size", "axis": "entry"}, "total": {"label": "Sum", "figure": "lines"}}, 43)
    figures = figures_of(study(described, described.experiment("1_2")))
    assert len(figures.charts) == 2
    assert all("1 of 2 seeds" in label for chart in figures.charts for label in chart.table.columns[1:])
