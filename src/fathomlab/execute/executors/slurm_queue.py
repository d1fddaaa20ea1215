"""The queue of a Slurm cluster, and one of local processes in its place. submitit writes the scripts and starts the elements."""

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fathomlab.base.errors import UserError
from fathomlab.base.libraries import library
from fathomlab.config.slurm import MAX_ARRAY_PARALLELISM, SlurmOptions
from fathomlab.execute.executors.slurm_element import Element

COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol")
MAX_RETURNS_TO_QUEUE = 1000  # elements themselves end if they do not progress
IDS_PER_COMMAND = 500
COMMAND_SECONDS = 60
CLOSE_SECONDS = 20.0
CANCELED = "CANCELLED"  # codespell:ignore cancelled
ENDED = frozenset({"COMPLETED", "FAILED", CANCELED, "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL", "DEADLINE"})
WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "CONFIGURING")
UNKNOWN = "UNKNOWN"  # not in the queue, or without an account of its end


@dataclass(frozen=True)
class QueueEntry:
    """A job in the queue.

    Attributes:
        state: Its state, such as `PENDING` or `RUNNING`.
        node: Where it runs; `""` if it waits.
        name: Its name.
    """

    state: str
    node: str = ""
    name: str = ""

    @property
    def runs(self) -> bool:
        """Whether a process of it may exist."""
        return self.state not in (*WAITING, UNKNOWN)


class Queue(Protocol):
    """Jobs that start when there are free nodes, by number as text."""

    def submit(self, folder: Path, elements: Sequence[Element]) -> tuple[str, ...]:
        """Submit a job array, with its scripts and logs in `folder`.

        Raises:
            UserError: If the cluster refuses it.
        """
        ...

    def remember(self, job: str, folder: Path) -> None:
        """A job of an earlier run may be in the queue. Its scripts and logs are in `folder`."""
        ...

    def living(self) -> Mapping[str, QueueEntry] | None:
        """The jobs that wait or run; None if the queue cannot be asked now."""
        ...

    def final_state(self, job: str) -> str:
        """How a job that has left the queue ended, in Slurm's words; `UNKNOWN` if nobody knows."""
        ...

    def interrupt(self, jobs: Sequence[str]) -> None:
        """Make running jobs write a checkpoint and end."""
        ...

    def cancel(self, jobs: Sequence[str]) -> None:
        """End jobs without a checkpoint."""
        ...

    def close(self, ended: Sequence[str]) -> None:
        """Release everything except the jobs. Some of them have ended."""
        ...


def submitit() -> Any:
    """The library.

    Raises:
        UserError: If it is not installed.
    """
    try:
        return library("submitit")
    except ImportError:
        text = 'the executor slurm needs submitit. Install it with: pip install "fathomlab[slurm]"'
        raise UserError("missing-extra", text) from None


def job_name(scripts: Path) -> str:
    """The name of the jobs of a submission."""
    return f"fathomlab-{scripts.parent.name}"


def parameters(options: SlurmOptions, name: str, environment: Mapping[str, str]) -> Mapping[str, object]:
    """The options in the words of submitit's Slurm executor."""
    exports = [f"export {key}={value}" for key, value in environment.items()]
    values = {
        "job_name": name,
        "partition": options.partition,
        "account": options.account,
        "qos": options.qos,
        "time": options.time,
        "mem": None if options.memory is None else f"{round(1024 * options.memory)}M",
        "cpus_per_task": options.cpus,
        "gpus_per_node": options.gpus,
        "constraint": options.constraint,
        "array_parallelism": options.array_parallelism or MAX_ARRAY_PARALLELISM,
        "signal_delay_s": options.signal_delay_s,
        "setup": [*exports, *options.setup],
        "additional_parameters": {"requeue": True},
    }
    return {key: value for key, value in values.items() if value is not None}


def script(options: SlurmOptions, folder: Path, environment: Mapping[str, str], count: int) -> str:
    """The script that submitit gives to sbatch for an array of `count` elements. Slurm is not needed."""
    base = submitit().SlurmExecutor
    anywhere = type("SlurmExecutor", (base,), {"affinity": classmethod(lambda cls: 2)})
    executor = anywhere(folder)
    executor.update_parameters(**parameters(options, job_name(folder), environment))
    if count > 1:
        executor.parameters["map_count"] = count
    return executor._make_submission_file_text(executor._submitit_command_str, "")


class SlurmQueue:
    """Slurm, through its commands."""

    def __init__(self, options: SlurmOptions, environment: Mapping[str, str]):
        """Check that this machine can submit.

        Raises:
            UserError: If submitit or a command of Slurm is missing.
        """
        self._library, self._options, self._environment = submitit(), options, environment
        missing = [command for command in COMMANDS if shutil.which(command) is None]
        if missing:
            text = f"the executor slurm needs the command {missing[0]}, which is not on the PATH. "
            raise UserError("no-slurm", text + "Run fathomlab on a login node of the cluster.")

    def submit(self, folder: Path, elements: Sequence[Element]) -> tuple[str, ...]:
        """Call sbatch once."""
        executor = self._library.SlurmExecutor(folder, max_num_timeout=MAX_RETURNS_TO_QUEUE)
        executor.update_parameters(**parameters(self._options, job_name(folder), self._environment))
        return _submit(executor, elements)

    def remember(self, job: str, folder: Path) -> None:
        """Nothing: squeue knows all jobs."""

    def living(self) -> Mapping[str, QueueEntry] | None:
        """Call squeue once for all jobs of this user."""
        command = ["squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i|%T|%N|%j"]
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=True)
            rows = [line.strip().split("|", 3) for line in done.stdout.splitlines()]
            return {
                row[0]: QueueEntry(row[1], row[2].partition(",")[0], row[3])
                for row in rows
                if len(row) == 4 and row[1] not in ENDED
            }
        return None

    def final_state(self, job: str) -> str:
        """Call sacct, if the cluster keeps accounts."""
        watcher = self._library.SlurmJob.watcher
        with contextlib.suppress(Exception):  # whatever a cluster's sacct prints, the job has ended
            state = str(watcher.get_state(job, mode="force")).split()[0].rstrip("+").upper()
            return state if state in (*ENDED, "PREEMPTED") else UNKNOWN
        return UNKNOWN

    def interrupt(self, jobs: Sequence[str]) -> None:
        """Send SIGINT to the processes of the jobs."""
        self._scancel(jobs, "--signal=INT")

    def cancel(self, jobs: Sequence[str]) -> None:
        """Remove the jobs from the queue."""
        self._scancel(jobs)

    def close(self, ended: Sequence[str]) -> None:
        """Nothing."""

    def _scancel(self, jobs: Sequence[str], *options: str) -> None:
        for start in range(0, len(jobs), IDS_PER_COMMAND):
            command = ["scancel", *options, *jobs[start : start + IDS_PER_COMMAND]]
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                subprocess.run(command, capture_output=True, timeout=COMMAND_SECONDS, check=False)


class _LocalJob(Protocol):
    state: str


class LocalQueue:
    """Processes of this machine, as submitit's local executor starts them. All of them run at the same time."""

    def __init__(self, options: SlurmOptions, environment: Mapping[str, str]):
        """Nothing runs yet.

        Raises:
            UserError: If submitit is missing.
        """
        self._library, self._options, self._environment = submitit(), options, environment
        self._jobs: dict[str, _LocalJob] = {}
        self._folders: dict[str, Path] = {}

    def submit(self, folder: Path, elements: Sequence[Element]) -> tuple[str, ...]:
        """Start a process per element, which outlives this one."""
        executor = self._library.LocalExecutor(folder, max_num_timeout=MAX_RETURNS_TO_QUEUE)
        delay = self._options.signal_delay_s
        executor.update_parameters(timeout_min=self._options.time, signal_delay_s=delay)
        with _added(self._environment):
            jobs = executor.submit_array(elements)
        self._jobs |= {job.job_id: job for job in jobs}
        self._folders |= {job.job_id: folder for job in jobs}
        return tuple(job.job_id for job in jobs)

    def remember(self, job: str, folder: Path) -> None:
        """The process that trains it outlives its coordinator."""
        self._folders.setdefault(job, folder)

    def living(self) -> Mapping[str, QueueEntry]:
        """Look at the processes."""
        alive = [job for job in self._folders if self._lives(job)]
        return {job: QueueEntry("RUNNING", platform.node(), job_name(self._folders[job])) for job in alive}

    def final_state(self, job: str) -> str:
        """The state in submitit's words; it does not know why a process ended."""
        return UNKNOWN

    def interrupt(self, jobs: Sequence[str]) -> None:
        """Send SIGTERM, which submitit forwards to the process that trains."""
        self._signal(jobs, signal.SIGTERM)

    def cancel(self, jobs: Sequence[str]) -> None:
        """Send SIGINT: submitit kills the process that trains a second later."""
        self._signal(jobs, signal.SIGINT)

    def close(self, ended: Sequence[str]) -> None:
        """Wait for processes that have reported their end, so that this one leaves no child without a parent."""
        end = time.monotonic() + CLOSE_SECONDS
        while time.monotonic() < end and any(map(self._lives, ended)):
            time.sleep(0.05)

    def _signal(self, jobs: Sequence[str], signum: int) -> None:
        for job in jobs:
            with contextlib.suppress(OSError):
                if self._lives(job):
                    os.kill(int(job), signum)

    def _lives(self, job: str) -> bool:
        if job in self._jobs:
            return self._jobs[job].state == "RUNNING"
        try:
            command = Path(f"/proc/{job}/cmdline").read_bytes()
        except OSError:
            return False
        return os.fsencode(self._folders[job]) in command  # another process may have the number now


QUEUES: Mapping[str, Callable[[SlurmOptions, Mapping[str, str]], Queue]] = {
    "slurm": SlurmQueue,
    "local": LocalQueue,
}


def _submit(executor: Any, elements: Sequence[Element]) -> tuple[str, ...]:
    try:
        return tuple(job.job_id for job in executor.submit_array(elements))
    except Exception as error:  # submitit raises errors of several classes with what sbatch printed
        raise UserError("slurm-refused", f"sbatch has refused the job array: {str(error).strip() or error!r}") from None


@contextlib.contextmanager
def _added(environment: Mapping[str, str]) -> Iterator[None]:
    """Add variables to the environment of processes that are started here."""
    before = dict(os.environ)
    os.environ.update({key: value for key, value in environment.items() if key not in before})
    try:
        yield
    finally:
        for key in environment:
            if key not in before:
                os.environ.pop(key, None)
