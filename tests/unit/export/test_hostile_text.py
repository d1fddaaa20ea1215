"""Texts that break programs stay text in every export, and no export writes outside of its target."""

import csv
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from fathomlab.analysis.study import study
from fathomlab.export import EXPORTERS
from fathomlab.store.reading import Store
from tests.helpers import stores
from tests.helpers.hostile_text import ALL


def hostile_store(root: Path) -> list[str]:
    """A store with an experiment that has every text as a condition, a level, a cause, a layer, and a claim."""
    conditions = []
    for text in ALL:
        factors = {"model.params.block": text}
        trial = stores.write_trial(root, "x", factors, 1, 0.9, status="failed", cause=text, layers=1, slope=0.1)
        path = root / "trials" / trial / "gradients.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        rows = [{key: row[key] for key in row if key != "crc"} | {"layers": [text, "a", "b"]} for row in rows]
        path.write_text(stores.lines(rows))
        conditions.append(stores.condition(text, factors, None, [(1, trial)]))
    claim = {"factor": "block", "levels": list(ALL[:2]), "expect": "greater", "matters": 0.1}
    claims = [claim | {"name": text} for text in ALL]
    options: dict[str, Any] = {"claims": claims, "source": ALL[0], "yaml": "\n".join(ALL), "overrides": list(ALL)}
    options["logging"] = {"log_gradients": True}
    stores.write_experiment(root, "x", " ".join(ALL), conditions, seeds=[1], **options)
    return [text.encode(errors="replace").decode() for text in ALL]


@pytest.mark.parametrize(
    "name", [name for name, item in EXPORTERS.items() if item.subject == "experiment" and name != "wandb"]
)
def test_texts_stay_texts(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    """Reports have their own test."""
    monkeypatch.setattr("fathomlab.report.page.report_html", lambda *_: "")
    pytest.importorskip(
        {"parquet": "pyarrow", "tensorboard": "tensorboard"}.get(name, "csv"),
        reason=f"the extra {EXPORTERS[name].extra} is not installed (make setup-extras)",
    )
    root, target = tmp_path / "runs", tmp_path / "target"
    texts = hostile_store(root)
    before = sorted(root.rglob("*"))
    store = Store(root)
    read = study(store, store.experiment("x"))
    assert (len(read.trials), len(read.claims)) == (len(ALL), len(ALL))
    EXPORTERS[name]().export(read, target)
    assert sorted(root.rglob("*")) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "target"]
    if name == "csv":
        with open(target / "trials.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["condition"] for row in rows] == [row["cause"] for row in rows] == texts
    elif name == "parquet":
        table: Any = pytest.importorskip("pyarrow.parquet").read_table(target / "trials.parquet").to_pydict()
        assert table["condition"] == table["cause"] == table["model.params.block"] == texts
    elif name == "bundle":
        with zipfile.ZipFile(target) as archive:
            assert archive.testzip() is None
            archive.extractall(tmp_path / "unpacked")
        assert [path.name for path in (tmp_path / "unpacked").iterdir()] == ["x"]
    else:
        assert len(list((target / "x").iterdir())) == len(ALL)
