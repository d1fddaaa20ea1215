"""Parameters of networks of which some are frozen."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from fathomlab.analysis.options import total_parameters
from fathomlab.analysis.study import study
from fathomlab.report.sections.cost import cost_table
from fathomlab.store.reading import Store
from tests.helpers import stores

TOTAL = (784 * 128 + 128) + 5 * (128 * 128 + 128) + (128 * 10 + 10)  # of the MLP of `stores.write_depths` at depth 5


def test_total_includes_frozen_parameters(tmp_path: Path) -> None:
    stores.write_depths(tmp_path, seeds=1, epochs=1, depths=(5,))
    store = Store(tmp_path)
    read = study(store, store.experiment("1_2"))
    first, second = read.conditions
    ((seed, trial),) = first.trials
    content = cast("dict[str, Any]", trial.content)
    frozen = replace(
        trial, parameters=1290, content=content | {"training": content["training"] | {"frozen": ["input."]}}
    )
    assert total_parameters(trial) == trial.parameters == 118_282
    assert total_parameters(frozen) == TOTAL
    assert total_parameters(replace(frozen, content=dict(frozen.content) | {"model": {"type": "Plugin"}})) is None
    changed = replace(read, conditions=(replace(first, trials=((seed, frozen),)), second))
    assert cost_table(read).columns[1:3] == ("parameters", "trials")
    data = cost_table(changed)
    assert data.columns[1:4] == ("parameters", "trained parameters", "trials")
    assert [row[1:3] for row in data.rows] == [(str(TOTAL), "1290"), ("118282", "118282")]
