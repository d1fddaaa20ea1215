"""Nodes on pages: shown in the report, numbered on the page that is handed in, and never markup."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from fathomlab.analysis.audit import audit
from fathomlab.analysis.study import study
from fathomlab.report.combined import combined_html, title_block
from fathomlab.report.nodes import SHOWN_NODES, few, runs_table, without_node_names
from fathomlab.report.page import write_report
from fathomlab.report.sections import cost, provenance, trials
from fathomlab.store.reading import Store
from fathomlab.store.run_records import RunRecord
from tests.helpers.cluster_records import NODES, PROCESSORS, write_cluster
from tests.helpers.pages import elements
from tests.helpers.stores import MARKUP, change, write_blocks


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with one experiment of two nodes."""
    root = tmp_path_factory.mktemp("cluster")
    write_cluster(root)
    return Store(root)


def cells(store: Store) -> Iterator[str]:
    """All texts of the tables that show nodes."""
    read = study(store, store.experiment("1_3"))
    for shown in (runs_table(read.experiment.runs), provenance.provenance_table(read), trials.trials_table(read)):
        for row in shown.rows:
            yield from row


def test_sections_show_nodes(store: Store):
    read = study(store, store.experiment("1_3"))
    section = cost.section(read, (), ())
    assert section is not None
    assert section.content.more is not None  # type: ignore[attr-defined]
    shown = section.content.more[1]  # type: ignore[attr-defined]
    assert [row[1] for row in shown.rows] == ["ray", "slurm"]
    assert dict(zip(shown.columns, shown.rows[0], strict=True)) == {
        "run": "2026-11-22 10:00",
        "executor": "ray",
        "names of the nodes": ", ".join(NODES),
        "nodes": "2",
        "workers": "12",
        "packs": "24",
        "retried": "2",
        "lost": "3",
        "refused": "0",
    }
    rows = {row[0]: row[1] for row in provenance.provenance_table(read).rows}
    assert all(f"{name} (8\u00a0trials)" in rows["node"] for name in NODES)
    table = trials.trials_table(read)
    nodes = [row[table.columns.index("node")] for row in table.rows]
    assert sorted(nodes) == sorted(NODES * 8)


def test_columns_without_content_are_left_out():
    """Of lost workers on this machine: no names, and nothing was refused."""
    assert runs_table([RunRecord("local", "", 1.0, retried=1)]).columns == (
        "run",
        "executor",
        "nodes",
        "workers",
        "packs",
        "retried",
        "lost",
    )


def test_many_nodes_are_cut():
    names = tuple(f"n{number}" for number in range(64))
    assert few(names, 1000) == ", ".join(names[:SHOWN_NODES]) + ", and 992 more"


def test_mixed_processors_of_a_seed_are_unexpected(store: Store):
    """Both levels ran on both processors, but each seed on another one at each level."""
    (result,) = audit(study(store, store.experiment("1_3")))
    assert [finding.property for finding in result.unexpected] == ["processor of a seed"]
    assert all(name in result.unexpected[0].first for name in PROCESSORS)


def test_hand_in_has_numbers_for_nodes(store: Store):
    """Also in the causes of failures. Two experiments share the numbers."""
    read = study(store, store.experiment("1_3"))
    text = combined_html([read, read], title_block([], "", date(2026, 11, 29)), "x.html")
    assert not any(name in text for name in NODES)
    first, second = without_node_names([read, read])
    assert first.experiment.runs == second.experiment.runs
    assert first.experiment.runs[0].nodes == ("node 1", "node 2")
    (cause,) = [trial.cause for _, _, trial in first.trials if trial.cause]
    assert cause == "Ray node node 2 is lost, 10 times"


def test_study_without_nodes_is_the_same_object(store: Store):
    root = store.root / "single"
    root.mkdir()
    write_blocks(root)
    read = study(Store(root), Store(root).experiment("1_3"))
    assert without_node_names([read])[0] is read


def test_markup_in_names_is_text(tmp_path: Path):
    """A page has no element of a name, whatever a store contains."""
    name = write_cluster(tmp_path)
    store = Store(tmp_path)
    before = len(elements(write_report(store, name).read_text()).tags)
    for file in tmp_path.glob("trials/*/provenance.json"):
        change(file, node=MARKUP)
    runs = [vars(run) | {"nodes": [MARKUP[:100]], "executor": MARKUP[:100]} for run in store.experiment(name).runs]
    change(tmp_path / "experiments" / name / "experiment.json", runs=runs)
    assert store.experiment(name).cause is None
    page = elements(write_report(store, name).read_text())
    assert len(page.tags) == before
    assert page.text.count(MARKUP[:60]) >= 16
    assert any(MARKUP[:60] in cell for cell in cells(store))
