"""Experiments on an imitated Slurm cluster, and with submitit's local executor: the same results as local, whatever is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from fathomlab.store.reading import Store
from tests.faults.kills import differences, digest
from tests.helpers.commands import SOURCE, START, Command
from tests.helpers.fake_slurm import CANCELED_BY_ROOT, FakeSlurm

pytest.importorskip("submitit", reason="needs the extra slurm")

PACKS = 4
REDUCED = ("experiment.seeds=2", "experiment.depths=5,10", "training.epochs=8", "run.pack=2")
RUN = ("run", "1_2", "--quick", *REDUCED, "--workers", "2", "--progress", "json")
DEADLINE = 240.0
DISTILLED = """\
data: {name: mnist-sample, limit: 200, batch_size: 50}
teacher_model: {type: MLP, params: {layers_dim: 16}}
student_model: {type: MLP, params: {layers_dim: 4}}
training_teacher: {epochs: 1}
training_student: {epochs: 1}
experiment: {seeds: 2}
"""


class Coordinator:
    """A `fathomlab run` in another process, with its events."""

    def __init__(self, runs: Path, cluster: FakeSlurm | None, *args: str, run: Sequence[str] = RUN):
        variables = dict(os.environ) | {"FATHOMLAB_RUNS": str(runs)}
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, [SOURCE, os.environ.get("PYTHONPATH")]))
        if cluster is None:
            args = (*args, "run.slurm.cluster=local")
        else:
            variables["PATH"] = os.pathsep.join([str(cluster.bin), variables["PATH"]])
        command = [sys.executable, "-P", "-c", START, *run, "--executor", "slurm", *args]
        self.log = runs.parent / f"{time.monotonic_ns()}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, env=variables, stdout=log, stderr=log)
        self.runs = runs

    def until(self, condition: Callable[[], Any]) -> Any:
        """Wait for a condition, which is returned."""
        end = time.monotonic() + DEADLINE
        while not (value := condition()):
            assert time.monotonic() < end, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)
        return value

    def until_trains(self, *packs: int) -> None:
        """Wait until each of these packs of the newest submission has trained an epoch."""
        for pack in packs:
            self.until(lambda pack=pack: any('"event": "epoch"' in path.read_text() for path in self._events(pack)))

    def ends(self, code: int = 0) -> str:
        """Wait for the end, with this exit status; returns what was printed."""
        assert self.process.wait(DEADLINE) == code, self.log.read_text()
        return self.log.read_text()

    def events(self) -> list[dict[str, Any]]:
        """The events that were printed."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def _events(self, pack: int) -> list[Path]:
        return sorted(self.runs.glob(f"slurm/*/{pack}.events.jsonl"))[-1:]


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The results of the same packs on this machine."""
    runs = tmp_path_factory.mktemp("local") / "runs"
    variables = dict(os.environ) | {"FATHOMLAB_RUNS": str(runs), "PYTHONPATH": SOURCE}
    subprocess.run([sys.executable, "-P", "-c", START, *RUN], env=variables, check=True, capture_output=True)
    return comparable(runs)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[FakeSlurm]:
    """Two nodes."""
    cluster = FakeSlurm(tmp_path / "cluster")
    yield cluster
    cluster.close()


def comparable(runs: Path) -> dict[str, Any]:
    """All results except times; and except the fence, which counts the processes that have trained a trial."""
    results = digest(runs)
    for value in results.values():
        if isinstance(value, dict):
            value.pop("fence", None)
    return results


def wait_for_end(cluster: FakeSlurm) -> set[str]:
    """Wait until no job waits or runs; returns how they ended."""
    end = time.monotonic() + DEADLINE
    while (states := {job["state"] for job in cluster.jobs.values()}) & {"PENDING", "RUNNING"}:
        assert time.monotonic() < end, cluster.jobs
        time.sleep(0.1)
    return states


@pytest.mark.slow
def test_preempted_and_lost_jobs_end_with_the_same_bits(golden: dict[str, Any], cluster: FakeSlurm, tmp_path: Path):
    """A preempted job returns to the queue by itself. Of four packs, only that of the lost node is submitted again."""
    run = Coordinator(tmp_path / "runs", cluster)
    run.until_trains(0, 1)
    cluster.preempt("1001_0")
    cluster.kill("1001_1", "NODE_FAIL")
    text = run.ends()
    assert differences(golden, comparable(run.runs)) == []
    assert cluster.arrays == [PACKS, 1]
    starts = {name: (job["starts"], job["state"]) for name, job in cluster.jobs.items()}
    assert starts["1001_0"] == (2, "COMPLETED")
    assert starts["1001_1"] == (1, "NODE_FAIL")
    assert starts["1002"] == (1, "COMPLETED")
    assert "1001_1 lost its node" in text, text
    fleets = [event for event in run.events() if event["event"] == "fleet"]
    assert max(event["nodes"] for event in fleets) == 2
    assert max(event["running"] for event in fleets) == 2
    assert (fleets[-1]["retried"], fleets[-1]["lost"]) == (1, 1)
    nodes = {json.loads(path.read_text())["node"] for path in run.runs.glob("trials/*/provenance.json")}
    assert nodes == {"node-0", "node-1"}


@pytest.mark.slow
def test_killed_coordinator_adopts_its_jobs(golden: dict[str, Any], cluster: FakeSlurm, tmp_path: Path):
    """Whether they run or wait: nothing is submitted twice, and packs stay as they are."""
    first = Coordinator(tmp_path / "runs", cluster)
    first.until_trains(0)
    first.process.kill()
    first.process.wait()
    second = Coordinator(tmp_path / "runs", cluster)
    second.ends()
    assert differences(golden, comparable(second.runs)) == []
    assert cluster.arrays == [PACKS]
    assert {job["starts"] for job in cluster.jobs.values()} == {1}


@pytest.mark.slow
def test_interrupted_run_saves_and_resumes(golden: dict[str, Any], cluster: FakeSlurm, tmp_path: Path):
    """Running jobs write a checkpoint and end, waiting ones leave the queue."""
    first = Coordinator(tmp_path / "runs", cluster)
    first.until_trains(0, 1)
    first.process.send_signal(signal.SIGINT)
    first.ends(128 + signal.SIGINT)
    assert wait_for_end(cluster) <= {"COMPLETED", CANCELED_BY_ROOT}
    assert list(first.runs.glob("trials/*/state-*.sealed"))
    second = Coordinator(tmp_path / "runs", cluster)
    second.ends()
    assert differences(golden, comparable(second.runs)) == []


@pytest.mark.slow
def test_closed_terminal_leaves_jobs_to_the_cluster(golden: dict[str, Any], cluster: FakeSlurm, tmp_path: Path):
    """They train to their end; the same command then only reads the results."""
    first = Coordinator(tmp_path / "runs", cluster)
    first.until_trains(0)
    first.process.send_signal(signal.SIGHUP)
    first.ends(128 + signal.SIGHUP)
    assert wait_for_end(cluster) == {"COMPLETED"}
    assert differences(golden, comparable(first.runs)) == []
    assert '"trained": 0' in Coordinator(tmp_path / "runs", cluster, "--json").ends()


@pytest.mark.slow
def test_jobs_of_the_local_cluster_end_with_the_same_bits(golden: dict[str, Any], tmp_path: Path):
    """submitit's local executor: a killed job, one that returns to the queue, and a killed coordinator."""
    first = Coordinator(tmp_path / "runs", None)
    first.until_trains(0, 1)
    (record,) = first.runs.glob("slurm/*/submission.json")
    controllers = [int(pack["job"]) for pack in json.loads(record.read_text())["packs"]]
    os.kill(_child(controllers[0]), signal.SIGUSR2)
    os.kill(_child(controllers[1]), signal.SIGKILL)
    first.until(lambda: len(list(first.runs.glob("slurm/*/submission.json"))) == 2)
    first.process.kill()
    first.process.wait()
    second = Coordinator(tmp_path / "runs", None)
    second.ends()
    assert differences(golden, comparable(second.runs)) == []
    records = [json.loads(path.read_text()) for path in sorted(first.runs.glob("slurm/*/submission.json"))]
    assert [len(record["packs"]) for record in records] == [PACKS, 1]


@pytest.mark.slow
def test_students_are_submitted_after_their_teachers(cluster: FakeSlurm, tmp_path: Path):
    experiment = tmp_path / "distilled.yaml"
    experiment.write_text(DISTILLED)
    command = ("run", str(experiment), "--workers", "1", "--progress", "json")
    run = Coordinator(tmp_path / "runs", cluster, run=command)
    run.ends()
    assert cluster.arrays == [2, 1]
    packs = [
        {
            Store(run.runs).trial(trial).content["model"]["params"]["layers_dim"]
            for pack in record["packs"]
            for trial in pack["trials"]
        }
        for record in (json.loads(path.read_text()) for path in sorted(run.runs.glob("slurm/*/submission.json")))
    ]
    assert packs == [{16, 4}, {4}]


def _child(process: int) -> int:
    """The only child process of a process."""
    return int(Path(f"/proc/{process}/task/{process}/children").read_text().split()[0])


@pytest.mark.parametrize(
    ("options", "code"), [(("run.slurm.partition=closed",), "slurm-refused")], ids=["closed partition"]
)
def test_refused_submission_is_a_user_error(cluster: FakeSlurm, tmp_path: Path, options: tuple[str, ...], code: str):
    text = Coordinator(tmp_path / "runs", cluster, *options, "--json").ends(2)
    assert f'"code": "{code}"' in text
    assert "closed" in text


def test_missing_slurm_is_reported_before_training(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    output = command("run", "1_2", "--quick", "--executor", "slurm", "--runs", str(tmp_path / "runs"), "--json")
    assert output.status == 2
    assert json.loads(output.out)["problems"][0]["code"] == "no-slurm"
    assert Store(tmp_path / "runs").trials() == []


def test_plan_shows_the_script_without_slurm(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    options = {"partition": "gpu", "account": "course", "qos": "long", "time": 10, "memory": 1.5, "cpus": 2, "gpus": 1}
    options |= {"constraint": "a100|h100", "array_parallelism": 2, "signal_delay_s": 60}
    overrides = [f"run.slurm.{key}={value}" for key, value in options.items()]
    overrides.append("run.slurm.setup=[module load python, ulimit -c 0]")
    arguments = ("plan", "1_2", "--quick", *REDUCED, "--executor", "slurm", "--runs", str(tmp_path / "runs"))
    lines = command(*arguments, *overrides).out.splitlines()
    directives = {line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")}
    assert {
        f"array=0-{PACKS - 1}%2",
        "partition=gpu",
        "account=course",
        "qos=long",
        "time=10",
        "mem=1536M",
        "cpus-per-task=2",
        "gpus-per-node=1",
        "constraint='a100|h100'",
        "signal=USR2@60",
        "requeue",
    } <= directives
    exports = [line for line in lines if line.startswith("export ")]
    assert "export OMP_NUM_THREADS=1" in exports
    setup = lines.index("module load python")
    assert lines[setup + 1] == "ulimit -c 0"
    assert setup > lines.index("export OMP_NUM_THREADS=1")
    assert any(line.startswith("srun ") and sys.executable in line for line in lines)
    assert sum(line.startswith("pack ") for line in lines) == PACKS
    assert not any(line.startswith("warning: ") for line in lines)
    assert list(tmp_path.iterdir()) == []
    arguments = tuple(item for item in arguments if not item.startswith("training.epochs"))
    long = command(*arguments, "run.slurm.time=2", "training.epochs=100000").out
    assert "time limit of 2 min" in long
    assert "run.slurm.memory is not set" in long
