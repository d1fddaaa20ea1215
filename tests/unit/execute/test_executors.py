"""The executor that a run uses."""

from collections.abc import Sequence
from typing import Any

import pytest

import fathomlab
from fathomlab.base.errors import UserError
from fathomlab.execute.executors import EXECUTORS, requested_executor
from fathomlab.execute.executors.inline import Inline
from fathomlab.execute.executors.local import Local
from fathomlab.prepare.jobs import Job


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Job]]:
    """The jobs of a run with the names of their executors. All of them train inline, so that no process starts."""
    submitted: list[tuple[str, Job]] = []

    def recorder(name: str) -> type[Inline]:
        class Recorded(Inline):
            count_workers = staticmethod(Local.count_workers)

            def submit(self, jobs: Sequence[Job]) -> tuple[int, ...]:
                submitted.extend((name, job) for job in jobs)
                return super().submit(jobs)

        return Recorded

    for name in (*EXECUTORS, "cluster"):
        monkeypatch.setitem(EXECUTORS, name, recorder(name))  # type: ignore[arg-type]
    return submitted


@pytest.mark.parametrize(
    ("requested", "workers", "used"),
    [
        ("auto", 1, "inline"),
        ("auto", 2, "local"),
        ("local", 1, "local"),
        ("inline", 2, "inline"),
        ("cluster", 1, "cluster"),
    ],
)
def test_run_uses_the_requested_executor(
    laboratory: Any, small: dict[str, Any], submitted: Any, requested: str, workers: int, used: str
):
    """`auto` trains jobs in this process if they are not trained at the same time."""
    laboratory.run(small, "seed=0..1", "run.pack=1", f"run.executor={requested}", workers=workers)
    assert [name for name, _ in submitted] == [used] * 2
    assert {job.hashes[0] for _, job in submitted} == {trial.hash for trial in laboratory.plan.trials}


def test_requested_executor_rejects_unknown_names(laboratory: Any, small: dict[str, Any]):
    """Before anything is trained or written."""
    with pytest.raises(UserError, match=r"run.executor.*'locl'.*'local'") as caught:
        laboratory.run(small, "run.executor=locl")
    assert caught.value.code == "unknown-name"
    assert not (laboratory.root / "experiments").exists() or not list((laboratory.root / "experiments").iterdir())
    assert requested_executor(fathomlab.load(small)) == "auto"
