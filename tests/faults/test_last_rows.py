"""A1, A11, B11, C3, C7, C9: steps redone, no loader workers, one folder a trial, draws, strictness, states of earlier code."""

import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

import fathomlab
from fathomlab.data import augment
from fathomlab.engine import loop
from fathomlab.engine.training import PackTrainer
from fathomlab.execute import experiment
from fathomlab.execute.experiment import RunOptions, run_experiment
from fathomlab.execute.pack import pack, settings
from fathomlab.execute.pack.pack import train_job
from fathomlab.execute.pack.settings import deterministic_mode
from fathomlab.execute.signals import StopRequest
from fathomlab.prepare.jobs import Job
from fathomlab.store import lock
from fathomlab.store.checksums import read_checked, write_checked
from fathomlab.store.directory import TrialFolder
from fathomlab.store.reading import Store
from tests.faults import states
from tests.faults.chance import chance
from tests.faults.draws import RATE, train_two
from tests.faults.forks import SURROUNDINGS, Server
from tests.faults.gate import Found
from tests.faults.kills import command, digest, unlike
from tests.faults.matrix import Watch, watched
from tests.faults.polls import polled
from tests.faults.test_exactness import Killed, run, small

# A1: what a death costs


def attempt(plan: Any, root: Path, at: int | None) -> tuple[Watch, int, bool]:
    """Run an experiment with a state at every step and die at the event of this number: a look for signals, or either side of a
    call that changes the disk. Returns what was seen, how many events there were, and whether it died."""
    count, guard, watch = [0], threading.Lock(), Watch()

    def strike() -> None:
        with guard:
            count[0] += 1
            dead = at is not None and count[0] >= at
        if dead:
            raise Killed

    def struck(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            strike()
            made = real(*given, **more)
            strike()
            return made

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


def redone(folder: Path, kills: int, draw: random.Random) -> Found:
    """Die so often, going on each time, and count the steps that were done again."""
    found, plan = Found(), fathomlab.load(small(), ["run.checkpoint_seconds=0"])
    golden, events, _ = attempt(plan, folder / "golden", None)
    place = {state: number for number, state in enumerate(golden.steps)}
    expected, left = digest(folder / "golden"), kills
    while left > 0:
        root, done, died = folder / "runs", 0, True
        shutil.rmtree(root, ignore_errors=True)
        while died:
            watch, _, died = attempt(plan, root, draw.randint(1, events // 2) if left > 0 else None)
            steps = [place.get(state, -1) for state in watch.steps]
            if steps:
                again = done - steps[0]
                found.check(steps == list(range(steps[0], steps[0] + len(steps))), f"other bits: {steps}")
                found.check(0 <= again <= 1, f"{again} steps redone after {done}")
                found.counts["steps redone"] += again
                done = steps[-1] + 1
            found.counts["kills"] += died
            left -= died
        found.counts["experiments"] += 1
        found.check(done == len(golden.steps), f"{done} steps done")
        different = unlike(expected, digest(root))
        found.check(not different, f"differs from the undisturbed run: {different[:5]}")
    return found


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_a_death_costs_at_most_the_step_since_the_last_state(fast: Path, kills: int):
    """A1: with a state at every step at most one step is done again after each death."""
    found = redone(fast, kills, chance(f"steps redone {kills}", kills > 20))
    print(dict(found.counts))
    assert found.counts["kills"] == kills
    assert 0 < found.counts["steps redone"] <= kills
    found.must_hold()


# A11: no loader workers

CENSUS = """\
import sys
assert "subprocess" not in sys.modules
import json, os, _posixsubprocess
started, real = [], _posixsubprocess.fork_exec
def seen(words, *rest):
    started.append(os.path.basename(os.fsdecode(words[0])))
    return real(words, *rest)
_posixsubprocess.fork_exec = seen
STARTS = ("os.fork", "os.forkpty", "os.posix_spawn", "os.system")
sys.addaudithook(lambda event, given: started.append(event) if event in STARTS else None)
answer, *words = sys.argv[1:]
room = os.statvfs("/dev/shm")
status = 0
try:
    if words:
        from fathomlab.cli import main
        main(words)
    else:
        import multiprocessing, subprocess
        subprocess.run([sys.executable, "-c", ""], check=True)
        for kind in ("fork", "spawn"):
            process = multiprocessing.get_context(kind).Process(target=int)
            process.start()
            process.join()
except SystemExit as leaving:
    status = leaving.code or 0
with open(answer, "w") as file:
    json.dump({"status": status, "started": started, "room": [room.f_blocks * room.f_frsize, room.f_bavail]}, file)
"""
FULL = (
    'mount -t tmpfs -o size=1m tmpfs /dev/shm || exit 99; dd if=/dev/zero of=/dev/shm/full bs=4k 2>/dev/null; exec "$@"'
)


def census(folder: Path, *words: str, full: bool) -> dict[str, Any]:
    """What a process of ours has started, on request with a full /dev/shm of 1 MiB that nobody else sees."""
    answer = folder / "answer.json"
    line = [sys.executable, "-c", CENSUS, str(answer), *words]
    line = ["unshare", "-m", "sh", "-c", FULL, "sh", *line] if full else line
    try:
        done = subprocess.run(
            line, cwd=folder, env=SURROUNDINGS, capture_output=True, text=True, timeout=60, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if full and not answer.exists() and done.returncode in (1, 99):
        pytest.skip(f"this user may not mount: {done.stderr.strip()[-200:]}")
    assert answer.exists(), done.stderr[-2000:]
    found = json.loads(answer.read_text())
    answer.unlink()
    return found


def test_the_census_sees_processes(tmp_path: Path):
    """The control: a command, a forked child, a spawned one."""
    found = census(tmp_path, full=False)
    assert found["started"][0].startswith("python")
    assert found["started"][1] == "os.fork"
    assert any(name.startswith("python") for name in found["started"][2:])


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_loader_workers_are_none_and_shared_memory_is_not_used(forks: Server, tmp_path: Path, times: int):
    """A11: `num_workers: 4` with a full /dev/shm: no worker process is started; the same bits."""
    assert forks.run(command(tmp_path, tmp_path / "golden"), report=False)[0] == 0
    golden = digest(tmp_path / "golden")
    for number in range(times):
        runs = tmp_path / f"runs-{number}"
        found = census(tmp_path, *command(tmp_path, runs, "data.num_workers=4"), full=True)
        assert found["room"] == [2**20, 0]
        assert found["status"] == 0
        # git and uname describe the run, and torch's CUDA loader starts ldconfig; a loader worker is a fork or a Python.
        assert [name for name in found["started"] if name.startswith(("python", "os."))] == []
        assert not unlike(golden, digest(runs))


# B11: one folder a trial


class Frozen(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz: Any = None) -> "Frozen":
        """Always the same instant."""
        return cls(2026, 1, 1, tzinfo=tz or UTC)


@contextmanager
def frozen():
    """No clock of the calendar moves."""
    with ExitStack() as stack:
        for module in (experiment, pack, lock):
            stack.enter_context(mock.patch.object(module, "datetime", Frozen))
        stack.enter_context(mock.patch.object(time, "time", return_value=1.7e9))
        stack.enter_context(mock.patch.object(time, "time_ns", return_value=17 * 10**17))
        yield


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Do something so many times in threads that begin together."""
    barrier = threading.Barrier(count)

    def one(number: int) -> Any:
        barrier.wait(30)
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_a_hundred_trials_of_one_instant_have_folders_of_their_own(fast: Path):
    """B11: same label, same second; each folder holds its own trial."""
    trials = fathomlab.load(small(), ["experiment.seeds=100"]).trials
    assert len(trials) == 100

    def write(number: int) -> None:
        folder = TrialFolder(fast, trials[number].hash)
        folder.create(trials[number].content)
        folder.append("metrics.jsonl", {"epoch": 1, "seed": trials[number].seed})

    with frozen():
        at_once(100, write)
    folders = list((fast / "trials").iterdir())
    assert len(folders) == 100
    store = Store(fast)
    for trial in trials:
        record = store.trial(trial.hash)
        assert record.status == "interrupted"
        assert record.content["seed"] == trial.seed
        assert record.curves["seed"] == [trial.seed]


def test_a_hundred_equal_trials_are_trained_once(fast: Path):
    """B11: begun a hundred times in one instant; one trains, the others wait and find its result."""
    plan = fathomlab.load(small(), ["experiment.seeds=1", "training.epochs=1"])
    events: list[str] = []

    def drive(_: int) -> int:
        how = RunOptions("cpu", 1, wait=True)
        return run_experiment(plan, fast, how, lambda event: events.append(event.event), StopRequest()).trained

    with frozen():
        trained = at_once(100, drive)
    assert sorted(trained) == [0] * 99 + [1]
    assert events.count("finished") == 1
    assert [path.name for path in (fast / "trials").iterdir()] == [plan.trials[0].hash]
    assert len(list((fast / "experiments").iterdir())) == 1


# C3: draws


def disagreement(agree: np.ndarray, expected: float) -> float:
    """How many standard errors the share of places that agree is away from what chance gives."""
    return abs(float(agree.mean()) - expected) / float(np.sqrt(expected * (1 - expected) / agree.size))


def test_no_draw_is_repeated(small_training: ModuleType):
    """C3: 2 epochs x 2 replicas x order, flip, crop, dropout, split, initial values: about 410,000 numbers of 64 bits.

    The chance that fair draws repeat any is below 1e-8, and below 1e-7 that any of 18 shares lies beyond six standard errors.
    """
    drawn = train_two(small_training)
    cells = 2 * 2 * 1600
    sizes = {purpose: sum(own.size for own in arrays) for purpose, arrays in drawn.bits.items()}
    assert sizes["order"] == sizes["flip"] == sizes["crop"] == cells
    assert sizes["split"] == 2 * 2000
    assert sizes["dropout"] >= 20 * cells
    assert sizes["initial"] > 2 * 12 * 20
    assert drawn.chance() < 1e-8
    assert drawn.repeats() == (0, 0)
    assert len(set(drawn.streams.values())) == len(drawn.streams) > 12
    streams: dict[str, list[np.ndarray]] = {}
    for purpose in ("order", "flip", "crop", "dropout"):
        arrays, half = drawn.bits[purpose], len(drawn.bits[purpose]) // 2
        epochs = [np.concatenate([own.reshape(2, -1) for own in part], 1) for part in (arrays[:half], arrays[half:])]
        streams[purpose] = [row for epoch in epochs for row in epoch]
    for one, two in itertools.combinations(streams["order"], 2):
        assert int((one.argsort() == two.argsort()).sum()) <= 12  # Poisson(1): beyond with 6e-11
    for one, two in itertools.combinations(streams["flip"], 2):
        assert disagreement((one < 0) == (two < 0), 0.5) < 6
    for one, two in itertools.combinations(streams["crop"], 2):
        pairs = [augment._offsets(torch.from_numpy(own)) for own in (one, two)]
        assert disagreement(((pairs[0][0] == pairs[1][0]) & (pairs[0][1] == pairs[1][1])).numpy(), 1 / 81) < 6
    for one, two in itertools.combinations(streams["dropout"], 2):
        kept = [(own.view("u8") >> np.uint64(40)) * 2.0**-24 >= RATE for own in (one, two)]
        assert disagreement(kept[0] == kept[1], RATE**2 + (1 - RATE) ** 2) < 6


@pytest.mark.parametrize("fault", ["purposes", "epochs", "replicas"])
def test_repeated_draws_are_seen(small_training: ModuleType, fault: str):
    """The control: flips and crops of one stream, epochs of one stream, replicas of one seed."""
    keys = PackTrainer.keys

    def forgetful(pack: PackTrainer, purpose: str, *_: int) -> Any:
        return keys(pack, purpose)

    with ExitStack() as stack:
        if fault == "purposes":
            stack.enter_context(mock.patch.object(augment, "CROP", augment.FLIP))
        if fault == "epochs":
            stack.enter_context(mock.patch.object(PackTrainer, "keys", forgetful))
        drawn = train_two(small_training, (42, 42) if fault == "replicas" else (42, 43))
    assert drawn.repeats()[0] >= 2 * 1600
    assert (drawn.repeats()[1] > 0) == (fault == "replicas")


# C7: operations that may differ from call to call


def stub(*given: Any) -> None:
    """A step after which numbers are put at one place twice: which one stays is not said."""
    REAL_STEP(*given)
    torch.zeros(2).put_(torch.tensor([1, 1]), torch.tensor([1.0, 2.0]))


REAL_STEP = loop.train_step


def test_an_operation_that_may_differ_fails_the_trial_by_name(fast: Path):
    """C7: on a CPU such operations are refused; the cause names the operation."""
    with mock.patch.object(loop, "train_step", stub):
        plan = run(small(), fast)
    for trial in plan.trials:
        record = Store(fast).trial(trial.hash)
        assert record.status == "failed"
        assert record.cause is not None
        assert record.cause.startswith("RuntimeError: put_ does not have a deterministic implementation")


@pytest.mark.parametrize("mode", ["strict", "warned"])
def test_the_mode_is_told(fast: Path, mode: str):
    """C7: the provenance says it; where torch sees a CUDA device such operations are warned of, and training goes on."""
    with ExitStack() as stack:
        if mode == "warned":
            with mock.patch.object(torch.cuda, "is_available", return_value=True):
                stack.enter_context(deterministic_mode())
            stack.enter_context(pytest.warns(UserWarning, match="put_ does not have a deterministic implementation"))
            stack.enter_context(mock.patch.object(loop, "train_step", stub))
        else:
            stack.enter_context(deterministic_mode())
        assert settings.determinism() == mode
        trials = list(fathomlab.load(small()).trials)
        train_job(Job(tuple(trials), fast), lambda event: None, lambda: None)
    for trial in trials:
        record = Store(fast).trial(trial.hash)
        assert record.status == "finished"
        assert record.provenance.deterministic == mode


def test_computing_leaves_no_trace():
    """C7: modes of torch are afterwards what they were before."""
    for before in ((False, False), (True, True), (True, False)):
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        with deterministic_mode():
            assert torch.are_deterministic_algorithms_enabled()
        after = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
        assert after == before


# C9: states of earlier code


def golden_command(runs: Path, *more: str) -> list[str]:
    """`fathomlab run` of the experiment to which the kept states belong."""
    words = ["run", str(states.EXPERIMENT), "--runs", str(runs), "--device", "cpu", "--workers", "1"]
    return [*words, "--progress", "plain", *more]


def must_be_golden(runs: Path) -> None:
    """The findings of the run that was never stopped: bit for bit where processor and torch are the same, else nearly."""
    known, found = json.loads(states.EXPECTED.read_text()), states.findings(runs)
    if known["surroundings"] == states.surroundings():
        assert found == known["findings"]
        return
    for trial, own in known["findings"].items():
        for name, value in own["metrics"].items():
            if name.endswith("loss"):
                assert found[trial]["metrics"][name] == pytest.approx(value, rel=1e-2)


def rewritten(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change what a kept state says about itself, with a seal that is right."""
    (path,) = folder.glob("state-*.sealed")
    about, payload = read_checked(path)
    write_checked(path, change(about), payload)


def test_kept_states_go_on(forks: Server, fast: Path):
    """C9: to the bits of the run that was never stopped; the provenance has the code that began it."""
    folders = states.brought(fast)
    begun = [read_checked(*folder.glob("state-*.sealed"))[0] for folder in folders]
    assert sum(path.stat().st_size for path in states.KEPT.rglob("*") if path.is_file()) < 200_000
    status, said = forks.run(golden_command(fast, "--allow-drift"), report=False)
    assert status == 0, said
    assert "from scratch" not in said
    must_be_golden(fast)
    for folder, about in zip(folders, begun, strict=True):
        (resumed,) = Store(fast).trial(folder.name).provenance.resumed
        assert resumed.step == about["step"] == states.AFTER
        assert resumed.environment == about["environment"]


def test_kept_states_of_another_environment_are_refused(forks: Server, fast: Path):
    """C9: exit status 2; what differs is named; nothing has changed."""
    for folder in states.brought(fast):
        rewritten(folder, lambda about: about | {"environment": about["environment"] | {"torch": "1.13.1"}})
    before = digest(fast)
    status, said = forks.run(golden_command(fast), report=False)
    assert status == 2, said
    assert "torch (1.13.1 then," in said
    assert "--allow-drift" in said
    assert "Traceback" not in said
    assert digest(fast) == before


@pytest.mark.parametrize("kept", ["all", "schema alone"])
def test_kept_states_of_an_unknown_schema_are_told_and_begun_anew(forks: Server, fast: Path, kept: str):
    """C9: whatever else they say about themselves."""
    for folder in states.brought(fast):
        rewritten(folder, lambda about: (about if kept == "all" else {}) | {"schema": 99})
    status, said = forks.run(golden_command(fast, "--allow-drift"), report=False)
    assert status == 0, said
    assert "from scratch" in said
    must_be_golden(fast)
    assert all(Store(fast).trial(folder.name).provenance.resumed == () for folder in (fast / "trials").iterdir())
