"""The numbers, verdicts, and audits of the synthetic stores, whose trials are the same on every machine."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from fathomlab.analysis.as_json import summary_json
from fathomlab.analysis.audit import audit
from fathomlab.analysis.study import study
from fathomlab.analysis.verdicts import judge
from fathomlab.base.codec import to_plain
from fathomlab.store.reading import Store
from tests.helpers import stores

PROSE = ("sentence", "finding", "details", "notes", "title")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    root = tmp_path_factory.mktemp("runs")
    stores.write_all(root)
    return Store(root)


def rounded(value: Any) -> Any:
    """Plain JSON without prose, floats with 9 significant digits."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items() if key not in PROSE}
    return [rounded(item) for item in value] if isinstance(value, list | tuple) else value


def test_report_numbers_are_golden(store: Store, golden: Callable[[str, Any], Any]) -> None:
    names = store.experiment_names()
    assert len(names) >= 4
    for name in names:
        experiment = study(store, store.experiment(name))
        numbers = {key: value for key, value in summary_json(experiment, judge(experiment)).items() if key != "trials"}
        value = rounded({"numbers": numbers, "audits": [to_plain(item) for item in audit(experiment)]})
        assert value == golden(f"reports/{name}.json", value), name
