"""A checkpoint of the native backend resumes only with the compiler that it was written with."""

from pathlib import Path
from typing import Any

import pytest

from fathomlab.base.errors import UserError
from fathomlab.engine.backends import native_library
from fathomlab.execute.experiment import RunOptions
from fathomlab.prepare import drift
from fathomlab.store.checkpoints import latest_checkpoint
from fathomlab.store.reading import Store
from tests.faults.experiments import interrupted, run, small
from tests.faults.kills import differences, digest
from tests.helpers.compilers import needs_compiler

BUILD = native_library.describe_build()
VERSION, _, REST = BUILD.partition(", ")
FLAGS, _, TARGET = REST.partition(", target ")
CHANGES = {
    "version": f"another compiler 99.1, {REST}",
    "flags": f"{VERSION}, {FLAGS} -ffast-math, target {TARGET}",
    "target": f"{VERSION}, {FLAGS}, target 0123456789ab",
}

pytestmark = needs_compiler


def network() -> dict[str, Any]:
    """A network that the native backend trains."""
    experiment = small()
    experiment["model"]["params"]["dropout"] = 0.0
    return experiment


@pytest.mark.parametrize("change", CHANGES)
def test_changed_compiler_is_drift(ram_dir: Path, monkeypatch: pytest.MonkeyPatch, change: str):
    """Nothing is trained before the user decides; provenance has both builds."""
    assert CHANGES[change] != BUILD
    plan = interrupted(network(), ram_dir, 4)
    for trial in plan.trials:
        checkpoint = latest_checkpoint(ram_dir / "trials" / trial.hash)
        assert checkpoint is not None
        assert (checkpoint.backend, checkpoint.environment["native"]) == ("native", BUILD)
    before = digest(ram_dir)
    monkeypatch.setattr(drift, "describe_build", lambda: CHANGES[change])
    with pytest.raises(UserError) as caught:
        run(network(), ram_dir)
    assert caught.value.code == "environment-changed"
    assert drift.LABELS["native"] in str(caught.value)
    assert digest(ram_dir) == before
    run(network(), ram_dir, options=RunOptions("cpu", 1, allow_drift=True))
    for trial in plan.trials:
        record = Store(ram_dir).trial(trial.hash)
        assert record.status == "finished"
        assert record.provenance.resumed[0].environment["native"] == BUILD
        assert record.provenance.environment is not None
        assert record.provenance.environment["native"] == CHANGES[change]


def test_compiler_does_not_matter_to_the_reference(ram_dir: Path, monkeypatch: pytest.MonkeyPatch):
    """A pack of the reference resumes to the bits of an uninterrupted one."""
    run(network(), ram_dir / "golden", "run.backend=reference")
    interrupted(network(), ram_dir / "other", 4, "run.backend=reference")
    monkeypatch.setattr(drift, "describe_build", lambda: CHANGES["version"])
    plan = run(network(), ram_dir / "other")
    assert not differences(digest(ram_dir / "golden"), digest(ram_dir / "other"))
    for trial in plan.trials:
        provenance = Store(ram_dir / "other").trial(trial.hash).provenance
        assert provenance.backend is not None
        assert provenance.backend.name == "reference"
        assert len(provenance.resumed) == 1


def test_native_checkpoint_does_not_resume_without_a_compiler(ram_dir: Path, monkeypatch: pytest.MonkeyPatch):
    """Another backend would have other bits. It resumes as soon as there is a compiler again."""
    run(network(), ram_dir / "golden")
    plan = interrupted(network(), ram_dir / "other", 4)
    with monkeypatch.context() as here:
        here.setattr(drift, "describe_build", lambda: "no compiler")
        with pytest.raises(UserError) as caught:
            run(network(), ram_dir / "other")
        assert caught.value.code == "environment-changed"
    run(network(), ram_dir / "other")
    assert not differences(digest(ram_dir / "golden"), digest(ram_dir / "other"))
    assert {Store(ram_dir / "other").trial(trial.hash).status for trial in plan.trials} == {"finished"}
