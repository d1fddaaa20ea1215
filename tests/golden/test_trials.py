"""The identity of every trial of the bundled files, as the SHA-256 of its content without `format`, parents included."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.base.identity import content_hash
from fathomlab.plan import Condition, Trial

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def digest(condition: Condition) -> str:
    """12 digits that change with any option, seed, or default of the condition's trials and of their parents."""
    hashes = (content_hash(without_format(trial)) for trial in condition.trials)
    return hashlib.sha256("".join(hashes).encode()).hexdigest()[:12]


def without_format(trial: Trial) -> dict[str, Any]:
    """The content of a trial, with the content of its parents instead of their hashes."""
    content = {key: value for key, value in trial.content.items() if key not in ("format", "parents")}
    parents = [[kind, without_format(parent)] for kind, parent in trial.parents]
    return content | ({"parents": parents} if parents else {})


@pytest.mark.parametrize("quick", [False, True], ids=["full", "quick"])
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_trials_keep_their_identity(path: Path, quick: bool, golden: Callable[[str, Any], Any]) -> None:
    plan = fathomlab.load(path, quick=quick)
    result = {condition.label: f"{len(condition.trials)} {digest(condition)}" for condition in plan.conditions}
    assert result == golden(f"trials/{path.stem}-{'quick' if quick else 'full'}.json", result)
