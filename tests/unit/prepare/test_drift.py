"""What a resumed trial is compared with, and which files decide its numbers."""

import subprocess
import sys
from pathlib import Path

import pytest

from fathomlab.prepare import drift, machine
from fathomlab.prepare.drift import environment_diff, numeric_files

# Imported while training, but unable to change a number: they check a file, describe the run, or store what was computed.
HARMLESS_PACKAGES = ("fathomlab.config", "fathomlab.store")
HARMLESS_EXECUTE = (
    "fathomlab.execute",
    *(f"fathomlab.execute.{name}" for name in ("events", "fleet_events", "signals", "worker", "worker_process")),
)
HARMLESS_PREPARE = (
    "fathomlab.prepare",
    *(f"fathomlab.prepare.{name}" for name in ("backends", "drift", "gpus", "jobs", "machine", "memory", "packing")),
)
HARMLESS = {"fathomlab", "fathomlab.plan", *HARMLESS_EXECUTE, *HARMLESS_PREPARE}

TRAINING = """
import sys
from pathlib import Path
from fathomlab.plan import prepare
from fathomlab.execute.pack.pack import train_job
from fathomlab.execute.pack.settings import deterministic_mode
from fathomlab.execute import worker
from fathomlab.prepare.jobs import Job
conf = {"seed": 1, "data": {"name": "mnist-sample", "batch_size": 64, "limit": 128},
        "teacher_model": {"type": "MLP", "params": {"layers_dim": 8, "hidden_layers_num": 1}},
        "student_model": {"type": "MLP", "params": {"layers_dim": 4, "hidden_layers_num": 1}},
        "training_teacher": {"epochs": 1}, "training_student": {"epochs": 1}, "distillation": {"alpha": 0.5, "temperature": 2.0},
        "experiment": {"seeds": 1, "probes": {"gradients": {"at": "epochs"}}}}
trials = list(prepare(conf, [], False).trials)
events = []
with deterministic_mode():
    for trial in trials:
        train_job(Job((trial,), Path(sys.argv[1]), "cpu"), events.append, lambda: None)
assert [e.status for e in events if e.event == "finished"] == ["finished"] * len(trials), events
print("\\n".join(sorted(name for name in sys.modules if name.split(".")[0] == "fathomlab")))
"""


def test_code_digest_covers_what_training_imports(tmp_path: Path) -> None:
    """A module that training imports is either in the digest or on the list above."""
    result = subprocess.run(
        [sys.executable, "-c", TRAINING, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    root = Path(drift.__file__).parents[1]
    covered = {".".join(("fathomlab", *path.relative_to(root).with_suffix("").parts)) for path in numeric_files()}
    covered = {name.removesuffix(".__init__") for name in covered}
    imported = result.stdout.split()
    assert "fathomlab.engine.step" in imported
    assert not [name for name in imported if name not in covered | HARMLESS and not name.startswith(HARMLESS_PACKAGES)]


def test_drift_names_what_changed_and_how() -> None:
    then = {"instructions": "x86_64 avx avx2 avx512f", "kernels": "AVX512", "threads": 1, "code": "a"}
    now = {"instructions": "x86_64 avx avx2", "kernels": "AVX2", "threads": 1, "code": "b"}
    instructions, kernels, code = environment_diff(then, now)
    assert "only then: avx512f" in instructions
    assert "AVX512 then, AVX2 now" in kernels
    assert code == drift.LABELS["code"]


def test_drift_ignores_entries_that_one_side_lacks() -> None:
    """Checkpoints of older releases name the processor, and not its instruction sets."""
    assert environment_diff({"torch": "2", "processor": "AMD EPYC"}, {"torch": "2", "instructions": "x86_64 avx"}) == []


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_DEFAULT_FPMATH_MODE", "OPENBLAS_CORETYPE", "MKL_CBWR"])
def test_environment_contains_kernel_variables(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    before = drift.environment("cpu")
    monkeypatch.setenv(name, "x")
    monkeypatch.setenv("MKL_NUM_THREADS", "7")  # forced to one, so it has no effect
    after = drift.environment("cpu")
    assert after["variables"] != before["variables"]
    assert f"{name}=x" in after["variables"]
    assert "THREADS" not in after["variables"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor: 0\nflags\t\t: fpu sse4_2 avx2 avx512f ht\nflags : none\n", "avx2 avx512f sse4_2"),
        ("processor: 0\nFeatures\t: fp asimd sve bf16\n", "asimd bf16 sve"),
        ("", "Intel64 Family 6"),
    ],
)
def test_instructions_are_read_on_every_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, expected: str
) -> None:
    """Linux on x86 and Arm lists them; elsewhere the model of the processor stands for them."""
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    monkeypatch.setattr(machine, "CPUINFO", path if text else tmp_path / "missing")
    monkeypatch.setattr(machine.platform, "machine", lambda: "any")
    monkeypatch.setattr(machine.platform, "processor", lambda: "Intel64 Family 6")
    assert machine.instructions.__wrapped__() == f"any {expected}"
