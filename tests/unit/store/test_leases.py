"""Leases: claims of trials where several hosts share a store."""

import contextlib
import errno
import json
import multiprocessing
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fathomlab.store import lease_files, leases
from fathomlab.store.lease_files import (
    Owner,
    active_holder,
    describe,
    has_leases,
    is_dead,
    is_training,
    lease_path,
    read_lease,
    this_process,
)
from fathomlab.store.leases import Lease, LeaseHeldError, LeaseLostError, LeaseWatch, Observation

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


class Watched:
    """A watch with a clock that a test sets."""

    def __init__(self, root: Path):
        self.now = 1000.0
        self.watch = LeaseWatch(root, lambda: self.now)

    def looks(self, lease: str, *gaps: float) -> list[Observation | None]:
        """What it reports after each of these times."""
        results: list[Observation | None] = []
        for gap in gaps:
            self.now += gap
            results.append(self.watch.look(lease))
        return results


def test_watch_needs_60_s_of_its_own_clock(tmp_path: Path):
    watched, name = Watched(tmp_path), other_host(tmp_path)
    assert watched.looks(name, 0, *[5] * 11, 4.9) == [None] * 13
    lease_path(tmp_path, name).write_bytes(Owner("elsewhere", "other boot", 7, "1", counter=1).encode())
    assert watched.looks(name, 0.1, *[5] * 11, 4.9) == [None] * 13  # renewed
    assert watched.looks(name, 0.1) == [Observation(name, read_lease(tmp_path, name) or "")]
    lease_path(tmp_path, name).unlink()
    assert watched.looks(name, 1) == [Observation(name, "")]


def test_time_in_which_the_watch_was_stopped_does_not_count(tmp_path: Path):
    """Its owner may have been stopped with it, as all processes of a virtual machine."""
    watched, name = Watched(tmp_path), other_host(tmp_path)
    assert watched.looks(name, 0, 3600, 3600) == [None] * 3
    assert watched.looks(name, *[10] * 4)[-1] is not None


def test_time_in_which_the_file_server_is_away_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    watched, name = Watched(tmp_path), other_host(tmp_path)
    watched.looks(name, 0, *[5] * 11)
    with monkeypatch.context() as away:
        away.setattr(leases, "read_lease", failing(errno.EIO))
        assert watched.looks(name, 5) == [None]
    assert watched.looks(name, 5, *[5] * 11) == [None] * 12
    assert watched.looks(name, 5) != [None]


@pytest.mark.parametrize("content", ["", "{", "[" * 9000, '{"pid": 7}'])
def test_unreadable_lease_expires(tmp_path: Path, content: str):
    """Such as a claim that was cut off before its first byte."""
    (tmp_path / "leases" / TRIALS[0]).mkdir(parents=True)
    (tmp_path / "leases" / TRIALS[0] / "3").write_text(content)
    watched, lease = Watched(tmp_path), f"{TRIALS[0]}/3"
    assert watched.looks(lease, 0, *[5] * 11) == [None] * 12
    (observed,) = watched.looks(lease, 5)
    assert observed is not None
    with Lease(tmp_path, TRIALS, expired=[observed]) as mine:
        assert mine.fences == {TRIALS[0]: 4, TRIALS[1]: 1}


def failing(code: int) -> Callable[..., Any]:
    """A function that raises an error of the operating system."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


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
    assert not has_leases(tmp_path)
    with Lease(tmp_path, TRIALS) as lease:
        assert set(lease.fences.values()) == {2}
        assert [path.stem for path in (tmp_path / "leases" / "packs").iterdir()] == [lease.id]


def test_process_of_another_user_is_not_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`/proc` hides it if it is mounted so."""
    here = this_process()
    assert is_dead(Owner(here.host, here.boot, 2**22 + 1, "5").encode().decode())
    monkeypatch.setattr(lease_files, "_start", lambda pid: None)
    assert not is_dead(here.encode().decode())
    monkeypatch.setattr(os, "kill", failing(errno.EPERM))
    assert not is_dead(here.encode().decode())


@pytest.mark.parametrize("pid", ["7", None, -1, 0, 2**31, 10**400, 1.5])
def test_hostile_process_ids_are_not_dead(pid: object):
    content = json.dumps({"boot": this_process().boot, "pid": pid, "node": "\x1b[2J\n" + "x" * 999})
    assert not is_dead(content)
    assert describe(content).isprintable()
    assert len(describe(content)) < 600


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
    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    with Lease(tmp_path, TRIALS) as lease:
        lease.verify(TRIALS[0])
        with pytest.raises(LeaseHeldError):
            Lease(tmp_path, TRIALS)


def test_link_that_reports_its_own_success_as_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """NFS does so if the first answer of the server was lost."""
    link = os.link

    def twice(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", twice)
    with Lease(tmp_path, TRIALS) as lease:
        assert lease.fences == dict.fromkeys(TRIALS, 1)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["link", "fsync", "mkdir", "rename", "replace"])
def test_failed_claim_leaves_no_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int):
    threads = set(threading.enumerate())  # those of an earlier test may end meanwhile
    with monkeypatch.context() as faults:
        faults.setattr(os, call, failing(code))
        faults.setattr("builtins.open", failing(code) if call == "link" else open)
        with contextlib.suppress(OSError):
            Lease(tmp_path, TRIALS).release()
    assert not has_leases(tmp_path)
    for thread in set(threading.enumerate()) - threads:
        thread.join(timeout=5)  # one that still renews a lease waits for 10 s
        assert not thread.is_alive()
    with Lease(tmp_path, TRIALS):
        pass


def test_claiming_ends_if_directories_vanish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Instead of trying for ever."""
    monkeypatch.setattr(os, "link", failing(errno.ENOENT))
    with pytest.raises(OSError, match=TRIALS[0]) as caught:
        Lease(tmp_path, TRIALS)
    assert caught.value.errno == errno.EBUSY


@pytest.mark.parametrize("name", ["leases", "leases/packs", f"leases/{TRIALS[0]}"])
def test_links_in_a_store_from_elsewhere_are_refused(tmp_path: Path, name: str):
    """A link to a mailbox, whose messages have numbers as names, must not lose them."""
    mail, root = tmp_path / "mail", tmp_path / "runs"
    mail.mkdir()
    (mail / "1").write_text("keep")
    (mail / f"{'0' * 32}.json").write_bytes(Owner("elsewhere", "other boot", 7, "1").encode())
    (root / name).parent.mkdir(parents=True)
    (root / name).symlink_to(mail)
    with pytest.raises(OSError, match=str(root / name)) as caught:
        Lease(root, TRIALS)
    assert caught.value.errno == errno.ELOOP
    assert not has_leases(root)
    assert sorted(path.name for path in mail.iterdir()) == ["0" * 32 + ".json", "1"]


def test_pipes_and_links_are_not_read(tmp_path: Path):
    """Reading a pipe would never end."""
    packs, claims = tmp_path / "leases" / "packs", tmp_path / "leases" / TRIALS[0]
    packs.mkdir(parents=True)
    claims.mkdir()
    os.mkfifo(packs / f"{'0' * 32}.json")
    os.mkfifo(claims / "1")
    (packs / f"{'1' * 32}.json").symlink_to("/dev/zero")
    (packs / "other.json").write_text("{}")
    for name in ("²", "٣", "0", "x", "9" * 200):
        (claims / name).write_text("")
    assert not has_leases(tmp_path)
    assert active_holder(tmp_path, 5) == ""
    with pytest.raises(LeaseHeldError) as caught:
        Lease(tmp_path, TRIALS)
    assert caught.value.lease == f"{TRIALS[0]}/1"


def test_old_leases_are_no_training_for_people(tmp_path: Path):
    name = other_host(tmp_path)
    assert is_training(tmp_path)
    os.utime(lease_path(tmp_path, name), (1e9, 1e9))
    assert not is_training(tmp_path)
    assert has_leases(tmp_path)


def test_lease_has_no_thread_and_no_file_afterwards(tmp_path: Path):
    """After many leases, refused ones too."""
    name, threads = other_host(tmp_path, TRIALS[1:]), set(threading.enumerate())
    files = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(10):
        with pytest.raises(LeaseHeldError):
            Lease(tmp_path, TRIALS)
        with Lease(tmp_path, TRIALS[:1]):
            pass
    for thread in set(threading.enumerate()) - threads:
        thread.join(10)
    assert set(threading.enumerate()) <= threads
    assert not files or len(os.listdir("/proc/self/fd")) == files
    assert [path.stem for path in (tmp_path / "leases" / "packs").iterdir()] == [name]
    assert len(list((tmp_path / "leases" / TRIALS[0]).iterdir())) == 1
