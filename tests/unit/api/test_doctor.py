"""The checks of the doctor with faked computers."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fathomlab.api.doctor import compute, examine, storage, system
from fathomlab.api.doctor.checks import Check, contained
from fathomlab.api.doctor.compute import TorchReport, parse_report
from fathomlab.engine.backends import native_library
from tests.helpers.commands import command_in_process

GPU = TorchReport(
    "2.13.0",
    "CUDA 13.0",
    "AVX2",
    (("NVIDIA H200", 150 * 10**9, "9.0"),),
    "",
    {"cpu": "", "cuda:0": "RuntimeError: no kernel"},
)
DRIVER = "NVIDIA H200, 580.1"


@pytest.fixture
def no_compiler_yet() -> Iterator[None]:
    """What was found before is forgotten, and what the test finds, too."""
    caches = (native_library.find_compiler, native_library.describe_build, native_library.load_library)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


def statuses(checks: list[Check]) -> list[tuple[str, str]]:
    return [(check.name, check.status) for check in checks]


@pytest.mark.parametrize(
    ("report", "status", "remedy"),
    [
        (TorchReport("2.13.0+cpu", None, "AVX2", tests={"cpu": ""}), ["ok", "ok"], ""),
        (TorchReport("2.13.0+cpu", tests={"cpu": "gradients differ"}), ["ok", "problem"], "--force-reinstall torch"),
        (TorchReport(failure="ModuleNotFoundError: No module named 'torch'"), ["problem"], "pip install torch"),
        (TorchReport(failure="its process ended with signal 4"), ["problem"], "--force-reinstall torch"),
        (GPU, ["ok", "ok", "problem"], "--device cpu"),
    ],
    ids=["healthy", "wrong numbers", "missing", "crash", "broken GPU"],
)
def test_torch_problems_prevent_training(report: TorchReport, status: list[str], remedy: str):
    checks = list(compute.torch_checks(report))
    assert [check.status for check in checks] == status
    assert remedy in checks[-1].remedy


@pytest.mark.parametrize(
    ("report", "nvidia", "hidden", "status", "text"),
    [
        (GPU, DRIVER, None, "ok", "NVIDIA H200, 150 GB, compute capability 9.0, driver 580.1"),
        (TorchReport("2.13.0+cpu"), "", None, "ok", "none found"),
        (TorchReport("2.13.0+cpu"), DRIVER, None, "note", "CPU build"),
        (TorchReport("2.13.0", "CUDA 13.0"), DRIVER, "", "note", "hidden"),
        (TorchReport("2.13.0", "CUDA 13.0", warning="driver is too old"), DRIVER, None, "note", "driver is too old"),
    ],
)
def test_gpu_notes_say_why_it_is_not_used(
    report: TorchReport, nvidia: str, hidden: str | None, status: str, text: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    (check,) = compute.gpu_checks(report, nvidia)
    assert (check.status, text in check.value, bool(check.remedy)) == (status, True, status == "note")


def test_several_gpus_have_numbers():
    """As in `--device cuda:N`; the remedy names one that works."""
    tests = {"cpu": "", "cuda:0": "RuntimeError: no kernel", "cuda:1": ""}
    report = TorchReport("2.13.0", "CUDA 13.0", devices=(("A", 2**34, "9.0"), ("B", 2**34, "9.0")), tests=tests)
    assert [check.value.split(",")[0] for check in compute.gpu_checks(report, DRIVER)] == ["cuda:0: A", "cuda:1: B"]
    assert [check.remedy for check in compute.torch_checks(report) if check.status == "problem"] == [
        "Use --device cuda:1, or update the driver."
    ]


def test_reports_of_child_processes_are_parsed():
    """Libraries may print before the report."""
    text = json.dumps({"version": "2.13.0", "tests": {"cpu": ""}})
    assert parse_report(0, f"hello\n{text}\n", "") == TorchReport("2.13.0", tests={"cpu": ""})
    assert parse_report(1, "", "Traceback\nImportError: libtorch.so\n").failure == "ImportError: libtorch.so"
    assert parse_report(-11, "", "some text").failure == "its process ended with signal 11"


def test_self_test_detects_wrong_gradients(monkeypatch: pytest.MonkeyPatch):
    torch = pytest.importorskip("torch")
    from fathomlab.api.doctor import torch_probe

    assert torch_probe.self_test("cpu") == ""
    assert torch_probe.self_test("cuda:99").startswith(("AssertionError", "RuntimeError", "AcceleratorError"))
    grad = torch.autograd.grad
    monkeypatch.setattr(
        torch.autograd,
        "grad",
        lambda loss, inputs: [item * (1.02 if item.dtype == torch.float32 else 1) for item in grad(loss, inputs)],
    )
    assert torch_probe.self_test("cpu") == "gradients differ by 0.02 from those in 64 bits"
    monkeypatch.setattr(torch.autograd, "grad", lambda loss, inputs: [item * torch.nan for item in grad(loss, inputs)])
    assert torch_probe.self_test("cpu") == "gradients differ by nan from those in 64 bits"


@pytest.mark.parametrize(("name", "text"), [("false", "does not work"), ("false -O2", "CXX")])
@pytest.mark.usefixtures("no_compiler_yet")
def test_compiler_that_cannot_build_is_a_note(name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The backend would be refused only when training starts."""
    (tmp_path / "false").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "false").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("CXX", name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (check,) = compute.compiler()
    assert (check.status, text in check.value) == ("note", True)
    assert check.remedy


def test_backends_say_what_auto_chooses(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fathomlab.prepare.machine.has_compiler", lambda: False)
    found = {check.name: check.value for check in compute.backends("cpu")}
    assert found["backend native"] == "not available: no C++ compiler is installed"
    assert found["backend graph"] == "not available: it needs a CUDA device"
    assert found["backend auto"] == "MLP (such as 1_2): reference, CNN (such as 1_3): reference"


@pytest.mark.parametrize(
    ("texts", "quota"),
    [
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({}, None),
        ({"cpu.max": "x"}, None),
        ({"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000"}, 0.5),
        ({"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "1"}, None),
    ],
)
def test_cpu_quota_is_read(texts: dict[str, str], quota: float | None, tmp_path: Path):
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    assert system.cpu_quota((str(tmp_path / "cpu.max"), str(tmp_path / "cpu.cfs_quota_us"))) == quota


def test_quota_below_the_cores_is_a_note(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(system, "cpu_quota", lambda: 1.5)
    monkeypatch.setattr("fathomlab.prepare.machine.cores", lambda: 4)
    monkeypatch.setattr("fathomlab.prepare.machine.instructions", lambda: "x86_64 avx avx2 avx512_bf16 f16c")
    checks = {check.name: check for check in system.processor()}
    assert (checks["cores"].status, "--workers 1" in checks["cores"].remedy) == ("note", True)
    assert checks["features"].value == "AVX2, bf16"


def test_little_memory_is_a_note(tmp_path: Path):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    1000000 kB\n")
    (check,) = system.memory(str(tmp_path / "meminfo"))
    assert (check.status, "1.0 GB available" in check.value) == ("note", True)


def test_variables_show_no_secrets(monkeypatch: pytest.MonkeyPatch):
    for name, value in {
        "FATHOMLAB_RUNS": "r",
        "FATHOMLAB_TOKEN": "12345",
        "FATHOMLAB_RUN": "x",
        "WANDB_API_KEY": "67890",
    }.items():
        monkeypatch.setenv(name, value)
    found = {check.name: check for check in system.variables()}
    assert (found["FATHOMLAB_RUNS"].value, found["FATHOMLAB_RUNS"].status) == ("r", "ok")
    assert "FATHOMLAB_RUNS" in found["FATHOMLAB_RUN"].remedy
    assert not any(secret in str(found) for secret in ("12345", "67890"))


def test_results_directory_reports_locks_and_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It creates nothing."""
    root = tmp_path / "new" / "runs"
    checks = {check.name: check for check in storage.results_directory(root)}
    assert {check.status for check in checks.values()} == {"ok"}
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("fathomlab.store.lock.network_fs_type", lambda path: "fuse.drive, a mounted Google Drive")
    monkeypatch.setattr("fathomlab.store.lock.lock_failure", lambda path: "no locks (not supported)")
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10**7}))
    checks = {check.name: check for check in storage.results_directory(root)}
    assert [checks[name].status for name in ("file system", "locks", "free space")] == ["note", "ok", "problem"]
    assert "Google Drive" in checks["file system"].value
    assert "leases" in checks["locks"].value
    monkeypatch.setattr("fathomlab.store.lock.network_fs_type", lambda path: "nfs4")
    checks = {check.name: check for check in storage.results_directory(root)}
    assert (checks["file system"].status, checks["file system"].remedy) == ("ok", "")  # leases replace locks there


def test_results_directory_that_is_a_file_is_a_problem(tmp_path: Path):
    (tmp_path / "runs").write_text("")
    (check,) = storage.results_directory(tmp_path / "runs")
    assert (check.status, "--runs" in check.remedy) == ("problem", True)


def test_packages_name_what_is_missing():
    needs = [
        "torch>=2",
        "no-such-package>=1",
        'other>=1; sys_platform == "none"',
        'numpy>=1; extra == "arrays"',
        "other-missing; extra == 'more'",
    ]
    (required,) = storage.required_packages(needs)
    assert (required.status, required.value) == ("problem", "missing: no-such-package")
    assert statuses(list(storage.extras(needs))) == [("numpy", "ok"), ("other-missing", "note")]
    assert 'pip install "fathomlab[more]"' in list(storage.extras(needs))[1].remedy


@pytest.mark.parametrize(
    ("version", "status"), [("2.10.0+cpu", "ok"), ("2.9.1", "problem"), ("3.0.0a1", "ok"), ("2.10", "ok")]
)
def test_packages_must_be_new_enough(version: str, status: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: version)
    (check,) = storage.required_packages(["torch>=2.10"])
    assert (check.status, check.remedy) == (status, 'Run: pip install "torch>=2.10"' if status == "problem" else "")


@pytest.mark.parametrize("offline", ["", "1"])
def test_missing_datasets_name_the_command(offline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FATHOMLAB_DATA", str(tmp_path))
    monkeypatch.setenv("FATHOMLAB_OFFLINE", offline)
    checks = {check.name: check for check in storage.datasets()}
    assert (checks["mnist"].status, checks["mnist-sample"].status) == ("note", "ok")
    assert "fathomlab data download mnist" in checks["mnist"].remedy
    assert ("FATHOMLAB_OFFLINE" in checks["mnist"].value) == bool(offline)


def test_data_folder_that_is_a_file_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder that does not exist yet is none."""
    (tmp_path / "file").touch()
    for name, status in (("file", "problem"), ("new", "ok")):
        monkeypatch.setenv("FATHOMLAB_DATA", str(tmp_path / name))
        check = next(check for check in storage.datasets() if check.name == "data folder")
        assert (name, check.status) == (name, status)


def test_errors_in_a_check_become_notes():
    def broken():
        yield Check("t", "first", "fine")
        raise OSError("disk on fire")

    checks = list(contained("t", "second", broken))
    assert statuses(checks) == [("first", "ok"), ("second", "note")]
    assert "OSError: disk on fire" in checks[1].value


def test_everything_broken_still_gives_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Only the import of PyTorch prevents training."""

    def fail(*args: object) -> None:
        raise RuntimeError("broken")

    for module, names in (
        (system, ("software", "processor", "memory", "terminal", "variables")),
        (storage, ("datasets", "extras", "required_packages", "requirements", "results_directory")),
        (compute, ("compiler", "backends", "nvidia_gpus")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, fail)
    monkeypatch.setattr(compute, "start_torch_probe", lambda: fail)
    checks = list(examine(tmp_path, None, False))
    assert {check.status for check in checks if check.name != "PyTorch"} == {"note"}
    assert [check.name for check in checks if check.status == "problem"] == ["PyTorch"]


@pytest.mark.parametrize(
    ("report", "status"), [(TorchReport("2.13.0+cpu", tests={"cpu": ""}), 0), (TorchReport(failure="x"), 1)]
)
def test_doctor_exits_with_1_on_problems(
    report: TorchReport,
    status: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    """As text and as JSON."""
    monkeypatch.setattr(compute, "start_torch_probe", lambda: lambda: report)
    monkeypatch.setattr(storage, "requirements", lambda: ["torch>=2"])
    command = command_in_process(capsys)
    output = command("doctor", "--json", "--runs", str(tmp_path / "runs"))
    document = json.loads(output.out)
    assert (output.status, output.err, document["problems"]) == (status, "", status)
    assert {key for check in document["checks"] for key in check} == {"topic", "name", "value", "status", "remedy"}
    output = command("doctor", "--runs", str(tmp_path / "runs"))
    assert (output.status, output.out.count("  problem ")) == (status, status)
    assert list(tmp_path.iterdir()) == []
