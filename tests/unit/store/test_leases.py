"""Leases: claims of trials where several hosts share a store."""

import contextlib
import json
import multiprocessing
import os
import threading
from pathlib import Path

import pytest

from fathomlab.store import leases
from fathomlab.store.lease_files import Owner, active_holder, has_leases, is_dead, lease_path, read_lease, this_process
from fathomlab.store.leases import EXPIRY_SECONDS, Lease, LeaseHeldError, LeaseLostError, LeaseWatch, Observation

TRIALS = ("a" * 64, "b" * 64)


def other_host(root: Path, trials: tuple[str, ...] = TRIALS, fence: int = 1) -> str:
    """The name of a lease that another host has for some trials."""
    name = "0" * 31 + "1"
    lease_path(root, name).parent.mkdir(parents=True, exist_ok=True)
    lease_path(root, name).write_bytes(Owner("elsewhere", "other boot", 7, "1").encode())
    for trial in trials:
        (root / "leases" / trial).mkdir(parents=True)
        (root / "leases" / trial / str(fence)).write_text(name)
    return name


def test_second_claim_is_refused_until_the_first_is_released(tmp_path: Path):
    with Lease(tmp_path, TRIALS) as first:
        with pytest.raises(LeaseHeldError) as caught:
            Lease(tmp_path, TRIALS[1:])
        assert caught.value.lease == first.id
        assert str(os.getpid()) in caught.value.holder
        assert has_leases(tmp_path)
        first.verify(TRIALS[1])
    assert not has_leases(tmp_path)
    with Lease(tmp_path, TRIALS[1:]) as second:
        assert second.fences == {TRIALS[1]: 2}


def test_refused_claim_leaves_no_lease(tmp_path: Path):
    """Trials that it had claimed before are free again."""
    name = other_host(tmp_path, TRIALS[1:])
    with pytest.raises(LeaseHeldError):
        Lease(tmp_path, TRIALS)
    assert [path.stem for path in (tmp_path / "leases" / "packs").iterdir()] == [name]
    with Lease(tmp_path, TRIALS[:1]):
        pass


def test_takeover_needs_the_observed_content(tmp_path: Path):
    """A lease that was renewed after the observation is not expired."""
    name = other_host(tmp_path, fence=4)
    content = read_lease(tmp_path, name)
    assert content is not None
    lease_path(tmp_path, name).write_bytes(Owner("elsewhere", "other boot", 7, "1", counter=1).encode())
    with pytest.raises(LeaseHeldError):
        Lease(tmp_path, TRIALS, expired=[Observation(name, content)])
    renewed = read_lease(tmp_path, name)
    assert renewed is not None
    with Lease(tmp_path, TRIALS, expired=[Observation(name, renewed)]) as lease:
        assert lease.fences == dict.fromkeys(TRIALS, 5)
        assert not lease_path(tmp_path, name).exists()


def test_lost_lease_refuses_to_write(tmp_path: Path):
    """The old owner wakes up after another process has taken over."""
    old = Lease(tmp_path, TRIALS)
    content = read_lease(tmp_path, old.id)
    assert content is not None
    new = Lease(tmp_path, TRIALS[:1], expired=[Observation(old.id, content)])
    for trial in TRIALS:  # the second one is free for others, too
        with pytest.raises(LeaseLostError):
            old.verify(trial)
    new.verify(TRIALS[0])
    old.release()
    new.verify(TRIALS[0])
    new.release()


def test_watch_needs_60_s_of_its_own_clock(tmp_path: Path):
    now = [1000.0]
    watch, name = LeaseWatch(tmp_path, lambda: now[0]), other_host(tmp_path)
    assert watch.look(name) is None
    now[0] += EXPIRY_SECONDS - 1
    assert watch.look(name) is None
    lease_path(tmp_path, name).write_bytes(Owner("elsewhere", "other boot", 7, "1", counter=1).encode())
    now[0] += 2
    assert watch.look(name) is None  # renewed
    now[0] += EXPIRY_SECONDS
    assert watch.look(name) == Observation(name, read_lease(tmp_path, name) or "")
    lease_path(tmp_path, name).unlink()
    assert watch.look(name) == Observation(name, "")


def test_dead_process_of_this_machine_is_recognized_at_once(tmp_path: Path):
    """Not a process of another boot or PID namespace, and not a new process with the same PID."""
    here = this_process()
    assert not is_dead(here.encode().decode())
    assert is_dead(Owner(here.host, here.boot, here.pid, "1").encode().decode())
    assert not is_dead(Owner(here.host, "other boot", here.pid, "1").encode().decode())
    process = multiprocessing.get_context("spawn").Process(target=_claim, args=(str(tmp_path),))
    process.start()
    process.join(60)
    assert len(list((tmp_path / "leases" / "packs").glob("*.json"))) == 1
    with Lease(tmp_path, TRIALS) as lease:
        assert set(lease.fences.values()) == {2}


def _claim(root: str) -> None:
    Lease(Path(root), TRIALS)
    os._exit(0)


def test_owner_renews_its_lease_in_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """In place: the inode stays, so that no host reads an old file."""
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.01)
    with Lease(tmp_path, TRIALS) as lease:
        inode = lease_path(tmp_path, lease.id).stat().st_ino
        assert active_holder(tmp_path, 30)
        text = read_lease(tmp_path, lease.id)
        assert text is not None
        assert json.loads(text)["counter"] >= 1
        assert lease_path(tmp_path, lease.id).stat().st_ino == inode


def test_one_of_many_claimants_wins(tmp_path: Path):
    won: list[int] = []
    start = threading.Barrier(8)

    def claim() -> None:
        start.wait()
        with contextlib.suppress(LeaseHeldError):
            won.append(Lease(tmp_path, TRIALS).fences[TRIALS[0]])

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_claims_of_finished_trials_are_removed(tmp_path: Path):
    (tmp_path / "trials" / TRIALS[0]).mkdir(parents=True)
    with Lease(tmp_path, TRIALS):
        (tmp_path / "trials" / TRIALS[0] / "result.json").write_text("{}")
    assert not (tmp_path / "leases" / TRIALS[0]).exists()
    assert (tmp_path / "leases" / TRIALS[1] / "1").exists()


@pytest.mark.parametrize("name", ["", "../../../victim", "0" * 31])
def test_claim_with_a_hostile_name_is_its_lease(tmp_path: Path, name: str):
    """Nothing outside of `leases` is read or removed."""
    victim = tmp_path.parent / "victim.json"
    victim.write_text("keep")
    (tmp_path / "leases" / TRIALS[0]).mkdir(parents=True)
    (tmp_path / "leases" / TRIALS[0] / "3").write_text(name)
    with pytest.raises(LeaseHeldError) as caught:
        Lease(tmp_path, TRIALS)
    assert caught.value.lease == f"{TRIALS[0]}/3"
    with Lease(tmp_path, TRIALS, expired=[Observation(f"{TRIALS[0]}/3", name)]) as lease:
        assert lease.fences[TRIALS[0]] == 4
    assert victim.read_text() == "keep"
    victim.unlink()


def test_claims_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def no_links(source: object, target: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with Lease(tmp_path, TRIALS) as lease:
        lease.verify(TRIALS[0])
        with pytest.raises(LeaseHeldError):
            Lease(tmp_path, TRIALS)
