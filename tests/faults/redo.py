"""How many steps are computed again after a death with a checkpoint at each step."""

import os
import random
import shutil
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import fathomlab
from fathomlab.execute.experiment import RunOptions, run_experiment
from fathomlab.execute.signals import StopRequest
from tests.faults.experiments import Killed, small
from tests.faults.gate import GateResult
from tests.faults.kills import differences, digest
from tests.faults.matrix import Watch, watched
from tests.faults.polls import polled


def attempt(plan: Any, root: Path, last: int | None) -> tuple[Watch, int, bool]:
    """Run an experiment and die at an event: a poll for signals, or before or after a call that changes the disk.

    Args:
        plan: The experiment.
        root: Its store.
        last: Number of the event; None to survive.

    Returns:
        What was observed, the number of events, and whether it died.
    """
    count, guard, watch = [0], threading.Lock(), Watch()

    def strike() -> None:
        with guard:
            count[0] += 1
            dead = last is not None and count[0] >= last
        if dead:
            raise Killed

    def struck(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            strike()
            result = real(*args, **options)
            strike()
            return result

        return call

    with ExitStack() as stack:
        stack.enter_context(watched(watch))
        stack.enter_context(polled(strike))
        for owner, name in ((os, "replace"), (os, "fsync"), (Path, "unlink")):
            stack.enter_context(mock.patch.object(owner, name, struck(getattr(owner, name))))
        try:
            run_experiment(plan, root, RunOptions("cpu", 1), lambda event: None, StopRequest())
        except Killed:
            return watch, count[0], True
    return watch, count[0], False


def count_redone_steps(folder: Path, kills: int, draw: random.Random, *more: str) -> GateResult:
    """Die this often, resume each time, and check that at most one step is computed again. `more`: overrides."""
    result, plan = GateResult(), fathomlab.load(small(), ["run.checkpoint_seconds=0", *more])
    golden, events, _ = attempt(plan, folder / "golden", None)
    number_of = {state: number for number, state in enumerate(golden.steps)}
    expected, left = digest(folder / "golden"), kills
    while left > 0:
        root, done, died = folder / "runs", 0, True
        shutil.rmtree(root, ignore_errors=True)
        while died:
            watch, _, died = attempt(plan, root, draw.randint(1, events // 2) if left > 0 else None)
            steps = [number_of.get(state, -1) for state in watch.steps]
            if steps:
                redone = done - steps[0]
                result.check(steps == list(range(steps[0], steps[0] + len(steps))), f"other bits: {steps}")
                result.check(0 <= redone <= 1, f"{redone} steps redone after {done}")
                result.counts["steps redone"] += redone
                done = steps[-1] + 1
            result.counts["kills"] += died
            left -= died
        result.counts["experiments"] += 1
        result.check(done == len(golden.steps), f"{done} steps done")
        different = differences(expected, digest(root))
        result.check(not different, f"differs from the undisturbed run: {different[:5]}")
    result.check(0 < result.counts["steps redone"] <= kills, f"{result.counts['steps redone']} steps redone")
    return result
