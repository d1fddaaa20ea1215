"""A process that is stopped at any instant, while another one takes over its trial, changes nothing afterwards."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from fathomlab.base import files
from fathomlab.base.errors import UserError
from fathomlab.base.identity import content_hash
from fathomlab.store.checkpoints import checkpoint_path, checkpoint_steps, delete_checkpoints, valid_checkpoints
from fathomlab.store.checksums import read_checked, write_checked
from fathomlab.store.directory import TrialFolder
from fathomlab.store.lease_files import read_lease
from fathomlab.store.leases import Lease, LeaseLostError, Observation
from fathomlab.store.provenance import Provenance
from fathomlab.store.reading import Store
from fathomlab.store.records import Result
from fathomlab.store.trial_files import TrialFiles

CONTENT = {"seed": 3}
TRIAL = content_hash(CONTENT)
STEPS = 3
CALLS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "shutil.rmtree")


class Stops:
    """Calls `act` once, at the instant of a number: before a call that changes files, or after a check of the lease."""

    def __init__(self) -> None:
        self.number, self.at, self.act, self.busy = 0, -1, lambda: None, True

    def instant(self) -> None:
        """Count an instant."""
        if self.busy:
            return
        if self.number == self.at:
            self.busy = True
            self.act()
        self.number += 1


STOPS = Stops()
# Its defaults are there until Python has ended; the names of this module are not.
sys.addaudithook(lambda event, _, stops=STOPS, calls=CALLS: stops.instant() if event in calls else None)


@pytest.fixture(autouse=True)
def verify(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the instant after each check one at which a process stops."""
    checked: Callable[..., None] = TrialFolder.verify

    def verify(self: TrialFolder) -> None:
        checked(self)
        STOPS.instant()

    monkeypatch.setattr(TrialFolder, "verify", verify)


def train(root: Path, lease: Lease, owner: str) -> Iterator[int]:
    """Write a trial from its newest checkpoint, as a pack does; yields each step. `owner` marks what it writes."""
    folder, first = TrialFolder(root, TRIAL, lease), 0
    steps = [*valid_checkpoints(folder.path)[0]]
    if steps:
        metadata, _ = read_checked(checkpoint_path(folder.path, steps[0]))
        first, logs = steps[0], metadata["logs"]
        assert isinstance(logs, dict)
        folder.resume(logs)  # type: ignore[arg-type]
    else:
        folder.create(CONTENT)
    folder.write_provenance(Provenance(node=owner))
    for step in range(first + 1, STEPS + 1):
        folder.append("metrics.jsonl", {"epoch": step, "step": step, "owner": owner})
        folder.flush()
        path = checkpoint_path(folder.path, step)
        write_checked(path, {"step": step, "logs": dict(folder.lines)}, [owner.encode()], folder.verify)
        delete_checkpoints(folder.path, checkpoint_steps(folder.path)[:2])
        yield step
    folder.write_bytes("checkpoint.safetensors", owner.encode())
    folder.finish(Result("finished", owner, epochs=STEPS, steps=STEPS, seconds=1, metrics={"test/loss": 0.5}))
    delete_checkpoints(folder.path, [])


def earlier(root: Path, kind: str) -> None:
    """What an earlier process has left."""
    if kind == "nothing":
        return
    with Lease(root, [TRIAL]) as lease:
        training = train(root, lease, "earlier")
        next(training)
    if kind == "failed":
        with Lease(root, [TRIAL]) as lease:
            TrialFolder(root, TRIAL, lease).finish(Result("failed", "an error"))
    elif kind == "no checkpoint":
        delete_checkpoints(root / "trials" / TRIAL, [])


def take_over(root: Path, old: Lease) -> Lease:
    """The lease of a process that has seen the old one unchanged."""
    content = read_lease(root, old.id)
    assert content is not None
    return Lease(root, [TRIAL], expired=[Observation(old.id, content)])


def snapshot(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "trials" / TRIAL).iterdir()}


def stop_at(root: Path, kind: str, number: int, progress: int) -> bool:
    """Stop a process at an instant, let another one make `progress` steps, then end both; False if there is no such instant."""
    earlier(root, kind)
    old, news = Lease(root, [TRIAL]), list[tuple[Lease, Iterator[int]]]()
    before: dict[str, bytes] = {}

    def act() -> None:
        with mock.patch.object(files, "PROCESS", "another"):
            lease = take_over(root, old)
            news.append((lease, train(root, lease, "new")))
            for _ in range(progress):
                next(news[0][1], None)
            before.update(snapshot(root))

    STOPS.number, STOPS.at, STOPS.act, STOPS.busy = 0, number, act, False
    try:
        for _ in train(root, old, "old"):
            pass
    except LeaseLostError:
        assert news
    except (UserError, OSError):  # a file has vanished: as for any error, the trial would be recorded as failed
        with pytest.raises(LeaseLostError):
            TrialFolder(root, TRIAL, old).finish(Result("failed", "old"))
    finally:
        STOPS.busy = True
    if not news:
        return False
    if "result.json" in before:
        assert snapshot(root) == before
    lease, training = news[0]
    for _ in training:
        pass
    written, record = TrialFiles(root, TRIAL), Store(root).trial(TRIAL)
    assert (written.verified_status(), record.cause) == ("finished", "new")
    assert record.curves["epoch"] == [*range(1, STEPS + 1)]
    assert written.result is not None
    assert written.result.fence == lease.fences[TRIAL]
    assert (record.folder / "checkpoint.safetensors").read_bytes() == b"new"
    lease.release()
    old.release()
    return True


DEFAULT = (("nothing", 1), ("checkpoint", 1), ("checkpoint", STEPS + 1), ("failed", STEPS + 1))
SLOW = (("nothing", STEPS + 1), ("failed", 1), ("no checkpoint", 1), ("no checkpoint", STEPS + 1))


@pytest.mark.parametrize(
    ("kind", "progress"), [*DEFAULT, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)]
)
def test_stale_process_changes_nothing(ram_dir: Path, kind: str, progress: int):
    number = 0
    while stop_at(ram_dir / str(number), kind, number, progress):
        number += 1
    assert number > 30
