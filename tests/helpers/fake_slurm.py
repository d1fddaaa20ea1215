"""An imitation of Slurm on one machine: sbatch, srun, squeue, scancel, scontrol, sacct, and a controller with a few nodes.

It imitates what an array job meets: a queue, a job per node, signals to steps, requeue, and states of ended jobs. This file is
also the program behind the commands: `python fake_slurm.py FOLDER COMMAND ...`, with the standard library alone.
"""

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

CANCELED_BY_ROOT = "CANCELLED by 0"  # codespell:ignore cancelled
COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sacct")
POLL_SECONDS = 0.05
JOB = "FAKE_SLURM_JOB"


class FakeSlurm:
    """A cluster in a folder, whose commands are in `bin`.

    Attributes:
        bin: To put first on the PATH.
    """

    def __init__(self, folder: Path, nodes: int = 2):
        """Write the commands and start the controller."""
        self.folder, self.bin = folder, folder / "bin"
        self.bin.mkdir(parents=True)
        for command in COMMANDS:
            path = self.bin / command
            path.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {__file__} {folder} {command} "$@"\n')
            path.chmod(0o755)
        with _jobs(folder):
            pass
        self._controller = subprocess.Popen([sys.executable, "-I", "-S", __file__, str(folder), "control", str(nodes)])

    @property
    def jobs(self) -> dict[str, Any]:
        """Every job by its number."""
        with _jobs(self.folder) as jobs:
            return dict(jobs)

    @property
    def arrays(self) -> list[int]:
        """Number of elements of each submission."""
        names = [job.partition("_")[0] for job in self.jobs]
        return [names.count(name) for name in dict.fromkeys(names)]

    def preempt(self, job: str) -> None:
        """Take the node away, with notice: SIGTERM, then the signal of the job."""
        for signum in (signal.SIGTERM, signal.SIGUSR2):
            os.kill(self.jobs[job]["step"], signum)

    def kill(self, job: str, state: str) -> None:
        """Kill the processes of a job without notice; it ends with this state."""
        with _jobs(self.folder) as jobs:
            jobs[job]["forced"] = state
        os.kill(self.jobs[job]["step"], signal.SIGKILL)

    def close(self) -> None:
        """End the controller and all jobs."""
        self._controller.terminate()
        self._controller.wait()
        for job in self.jobs.values():
            if job["state"] == "RUNNING":
                with contextlib.suppress(OSError):
                    os.killpg(job["pid"], signal.SIGKILL)


@contextlib.contextmanager
def _jobs(folder: Path) -> Iterator[dict[str, Any]]:
    """The jobs of the cluster; changes are stored."""
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = folder / "jobs.json"
        jobs = json.loads(path.read_text()) if path.exists() else {}
        yield jobs
        path.with_suffix(".new").write_text(json.dumps(jobs))
        os.replace(path.with_suffix(".new"), path)


def sbatch(folder: Path, args: list[str]) -> None:
    """Add the elements of an array, or one job."""
    text = Path(args[-1]).read_text()
    array = re.search(r"^#SBATCH --array=0-(\d+)%(\d+)$", text, re.MULTILINE)
    if "partition=closed" in text:
        sys.exit("sbatch: error: invalid partition specified: closed")
    with _jobs(folder) as jobs:
        number = 1 + max((int(job.partition("_")[0]) for job in jobs), default=1000)
        script = folder / f"{number}.sh"
        script.write_text(text)
        names = [f"{number}_{index}" for index in range(int(array[1]) + 1)] if array else [str(number)]
        limit = int(array[2]) if array else 1
        title = text.partition("#SBATCH --job-name=")[2].split()[0]
        for name in names:
            jobs[name] = {"script": str(script), "state": "PENDING", "node": "", "limit": limit, "starts": 0}
            jobs[name] |= {"name": title, "directory": os.getcwd(), "environment": dict(os.environ)}
    print(f"Submitted batch job {number}")


def srun(folder: Path, args: list[str]) -> None:
    """Become the step of the job, with its output in files."""
    job = os.environ[JOB]
    main, _, index = job.partition("_")
    names = {"%A": main, "%a": index, "%j": main, "%t": "0"}
    while args[0].startswith("--"):
        option = args.pop(0)
        if option in ("--output", "--error"):
            path = re.sub("%[Aajt]", lambda match: names[match[0]], args.pop(0))
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(file, 1 if option == "--output" else 2)
    with _jobs(folder) as jobs:
        jobs[job]["step"] = os.getpid()
    os.execvp(args[0], args)


def squeue(folder: Path, args: list[str]) -> None:
    """List the jobs that have not ended."""
    assert "--array" in args
    assert "--format=%i|%T|%N|%j" in args
    with _jobs(folder) as jobs:
        for name, job in jobs.items():
            if job["state"] in ("PENDING", "RUNNING"):
                print(f"{name}|{job['state']}|{job['node']}|{job['name']}")


def scancel(folder: Path, args: list[str]) -> None:
    """Send a signal to steps, or end jobs."""
    sent = next((arg.partition("=")[2] for arg in args if arg.startswith("--signal=")), None)
    with _jobs(folder) as jobs:
        for name in args:
            job = jobs.get(name)
            if job is None or job["state"] not in ("PENDING", "RUNNING"):
                continue
            if sent is not None:
                _kill(job.get("step", 0), getattr(signal, f"SIG{sent}"))
            elif job["state"] == "PENDING":
                job["state"] = CANCELED_BY_ROOT
            else:
                job["forced"] = CANCELED_BY_ROOT
                _kill(job.get("step", 0), signal.SIGKILL)


def scontrol(folder: Path, args: list[str]) -> None:
    """`requeue JOB`: the job waits again when its processes have ended."""
    assert args[0] == "requeue"
    with _jobs(folder) as jobs:
        jobs[args[1]]["requeue"] = True


def sacct(folder: Path, args: list[str]) -> None:
    """List the states of jobs."""
    print("JobID|State|NodeList")
    requested = [value for option, value in pairwise(args) if option == "-j"]
    with _jobs(folder) as jobs:
        for name, job in jobs.items():
            if name.partition("_")[0] in requested:
                print(f"{name}|{job['state']}|{job['node']}\n{name}.batch|{job['state']}|{job['node']}")


def control(folder: Path, args: list[str]) -> None:
    """Start jobs on free nodes, and record how they end."""
    running: dict[str, subprocess.Popen[bytes]] = {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    while True:
        with _jobs(folder) as jobs:
            for name, process in list(running.items()):
                code = process.poll()
                if code is not None:
                    del running[name]
                    _end(jobs[name], code)
            for name, job in jobs.items():
                array = name.partition("_")[0]
                used = {jobs[other]["node"] for other in running}
                free = [node for node in (f"node-{index}" for index in range(int(args[0]))) if node not in used]
                of_array = sum(other.partition("_")[0] == array for other in running)
                if job["state"] == "PENDING" and free and of_array < job["limit"]:
                    running[name] = _start(name, job, free[0])
        time.sleep(POLL_SECONDS)


def _start(name: str, job: dict[str, Any], node: str) -> "subprocess.Popen[bytes]":
    main, _, index = name.partition("_")
    environment = job["environment"] | {JOB: name, "SLURMD_NODENAME": node, "SLURM_JOB_NODELIST": node}
    environment |= {"SLURM_JOB_ID": main, "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    environment |= {"SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0"}
    if index:
        environment |= {"SLURM_ARRAY_JOB_ID": main, "SLURM_ARRAY_TASK_ID": index}
    process = subprocess.Popen(["bash", job["script"]], env=environment, cwd=job["directory"], start_new_session=True)
    job |= {"state": "RUNNING", "node": node, "pid": process.pid, "starts": job["starts"] + 1}
    job.pop("step", None)
    return process


def _end(job: dict[str, Any], code: int) -> None:
    forced = job.pop("forced", None)
    if job.pop("requeue", False) and forced is None:
        job |= {"state": "PENDING", "node": ""}
    else:
        job["state"] = forced or ("FAILED" if code else "COMPLETED")


def _kill(process: int, signum: int) -> None:
    with contextlib.suppress(OSError):
        if process:
            os.kill(process, signum)


if __name__ == "__main__":
    {function.__name__: function for function in (sbatch, srun, squeue, scancel, scontrol, sacct, control)}[
        sys.argv[2]
    ](Path(sys.argv[1]), sys.argv[3:])
