"""A run of an experiment: reuse, retries, failures that stay alone, and what it leaves of the caller's process."""

import json
from typing import Any

import pytest
import torch

import fathomlab
import fathomlab.api
from fathomlab.base.errors import UserError
from fathomlab.execute.events import Finished, Planned
from fathomlab.execute.experiment import experiment_name
from fathomlab.execute.pack import pack
from fathomlab.prepare.packing import worker_count
from fathomlab.store.provenance import PackSlot
from fathomlab.store.records import SeedTrial
from fathomlab.store.weights import load_checked, load_tensors


def statuses(laboratory: Any) -> list[str]:
    """The status of each trial in the plan's order."""
    return [laboratory.store.trial(trial.hash).status for trial in laboratory.plan.trials]


def break_seed(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Make every program with a trial of this seed raise after its first epoch."""
    measure = pack._PackRun._record_epoch

    def epoch(self: Any, snapshot: Any) -> None:
        measure(self, snapshot)
        if any(recipe.seed == seed for recipe in self.recipes):
            raise RuntimeError("out of luck")

    monkeypatch.setattr(pack._PackRun, "_record_epoch", epoch)


def test_run_experiment_stores_every_file(laboratory: Any, small: dict[str, Any]):
    """Options, a line per epoch, the result, provenance, both weights."""
    summary = laboratory.run(small, "seed=5", "experiment.analyze_gradients=true")
    (trial,) = laboratory.plan.trials
    record = laboratory.store.trial(trial.hash)
    assert (summary.trials, summary.trained, summary.cached, summary.failed) == (1, 1, 0, 0)
    assert record.status == "finished"
    assert record.content == trial.content
    assert record.parameters == 784 * 6 + 6 + 6 * 6 + 6 + 6 * 10 + 10
    assert record.curves["epoch"] == [1, 2]
    assert record.curves["step"] == [4, 8]
    assert [snapshot.step for snapshot in record.probes["gradients"]] == [0, 1, 4, 8]
    assert record.probes["gradients"][0].names["layer"] == ("input", "hidden.1", "output")
    metrics = {"train", "val", "test", "best/test"}
    assert record.metrics.keys() == {f"{name}/{what}" for name in metrics for what in ("loss", "accuracy")} | {
        "best/epoch",
        "best/val/accuracy",
    }
    assert record.metrics["train/loss"] == record.curves["train/loss"][-1]
    assert record.metrics["best/val/accuracy"] == max(record.curves["val/accuracy"])
    assert all(0 <= record.metrics[name] <= 1 for name in record.metrics if name.endswith("accuracy"))
    assert record.provenance.data.name == "mnist-sample"
    assert record.provenance.versions["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert record.provenance.pack == PackSlot(1, 0, (trial.hash,))
    weights, metadata = load_tensors(record.folder / "checkpoint.safetensors")
    assert sum(tensor.numel() for tensor in weights.values()) == record.parameters
    assert metadata == {"trial": trial.hash, "epoch": 2, "step": 8}


def test_run_experiment_reuses_finished_trials(laboratory: Any, small: dict[str, Any]):
    """In the same experiment, and in another one with an equal trial."""
    laboratory.run(small, "seed=0..1")
    first = {trial.hash: trial for trial in laboratory.plan.trials}
    files = {path: path.stat().st_mtime_ns for path in laboratory.root.glob("trials/*/*")}
    again = laboratory.run(small, "seed=0..1")
    assert (again.trained, again.cached) == (0, 2)
    (planned,) = laboratory.events
    assert planned == Planned(2, 2, 0, 1, {}, laboratory.plan.labels)
    other = laboratory.run(small, "seed=1..2", "training.lr=0.001,0.01", "experiment.title=another")
    assert (other.trials, other.trained, other.cached) == (4, 3, 1)
    assert other.experiment != again.experiment
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert len(first.keys() & {trial.hash for trial in laboratory.plan.trials}) == 1


def test_run_experiment_records_failures_with_their_cause(
    laboratory: Any, small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    """Seed 1 raises in every pack; seeds 0 and 2 finish with the numbers that they have without it."""
    with monkeypatch.context() as patch:
        break_seed(patch, 1)
        summary = laboratory.run(small, "seed=0..2")
    assert (summary.trained, summary.failed) == (3, 1)
    assert statuses(laboratory) == ["finished", "failed", "finished"]
    failed = laboratory.store.trial(laboratory.plan.trials[1].hash)
    assert failed.cause == "RuntimeError: out of luck"
    assert failed.parameters == 784 * 6 + 6 + 6 * 6 + 6 + 6 * 10 + 10
    assert failed.metrics == {}
    survivors = laboratory.results()
    retried = laboratory.run(small, "seed=0..2")
    assert (retried.trained, retried.cached, retried.failed) == (1, 2, 0)
    assert statuses(laboratory) == ["finished"] * 3
    after = laboratory.results()
    assert all(after[trial.hash] == survivors[trial.hash] for trial in laboratory.plan.trials if trial.seed != 1)


def test_interrupt_records_no_failure(laboratory: Any, small: dict[str, Any]):
    """It stops the run; finished trials stay, and the same command resumes."""

    def stop(event: Any) -> None:
        if isinstance(event, Finished):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        laboratory.run(small, "seed=0..2", "run.pack=1", watch=stop)
    assert statuses(laboratory) == ["finished", "waiting", "waiting"]
    summary = laboratory.run(small, "seed=0..2", "run.pack=1")
    assert (summary.trained, summary.cached, summary.failed) == (2, 1, 0)


def test_run_experiment_restarts_trials_without_checkpoint(laboratory: Any, small: dict[str, Any]):
    """Their numbers are those of an uninterrupted run."""
    laboratory.run(small, "seed=0..1", "run.pack=1")
    full = laboratory.results()
    folder = laboratory.root / "trials" / laboratory.plan.trials[1].hash
    (folder / "result.json").unlink()
    (folder / "metrics.jsonl").write_text('{"epoch": 1, "step": 4, "train/loss": 9.0}\n{"epoch": 2, "st')
    summary = laboratory.run(small, "seed=0..1", "run.pack=1")
    assert (summary.trained, summary.cached) == (1, 1)
    assert laboratory.results() == full


def test_run_experiment_stores_divergence_as_an_outcome(laboratory: Any, small: dict[str, Any]):
    """With its cause and without test numbers. Other trials of the pack are not affected; it is not trained again."""
    summary = laboratory.run(small, "training.lr=0.001,1e20", "seed=0..1", "training.optimizer=SGD")
    assert [event.packs for event in laboratory.events if isinstance(event, Planned)] == [1]
    assert (summary.trained, summary.failed, summary.diverged) == (4, 0, 2)
    assert statuses(laboratory) == ["finished", "finished", "diverged", "diverged"]
    record = laboratory.store.trial(laboratory.plan.trials[2].hash)
    assert record.cause is not None
    assert record.cause.startswith("the loss was not finite at step ")
    assert int(record.cause.rsplit(" ", 1)[1]) in range(1, 9)
    assert record.metrics["test/accuracy"] is None
    weights, metadata = load_tensors(record.folder / "checkpoint.safetensors")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())
    assert metadata["step"] < int(record.cause.rsplit(" ", 1)[1])
    disturbed = laboratory.results()
    again = laboratory.run(small, "training.lr=0.001,1e20", "seed=0..1", "training.optimizer=SGD")
    assert (again.trained, again.cached, again.failed, again.diverged) == (0, 4, 0, 2)
    assert laboratory.results() == disturbed


def test_packed_and_single_trials_agree(laboratory: Any, small: dict[str, Any], tmp_path: Any):
    """Within the rounding of sums in another order: each loss and each gradient norm."""
    overrides = ("seed=0..1", "model.params.residual=false,true", "experiment.analyze_gradients=true")
    laboratory.run(small, *overrides)
    assert [event.packs for event in laboratory.events if isinstance(event, Planned)] == [1]
    packed = laboratory.results()
    alone = type(laboratory)(tmp_path / "alone")
    alone.run(small, *overrides, "run.pack=1")
    assert [event.packs for event in alone.events if isinstance(event, Planned)] == [4]
    compared = alone.results()
    assert compared.keys() == packed.keys()
    for trial, matches in packed.items():
        for name, value in matches.items():
            if name.endswith("loss"):
                assert value == pytest.approx(compared[trial][name], rel=1e-4)
        snapshots = (results[trial]["probes"]["gradients"] for results in (packed, compared))
        for mine, other in zip(*snapshots, strict=True):
            assert mine.columns["weight"] == pytest.approx(other.columns["weight"], rel=1e-3)
    losses = {matches["test/loss"] for matches in packed.values()}
    assert len(losses) == 4


def test_distillation_uses_the_teacher_of_its_seed(laboratory: Any, distillation: dict[str, Any]):
    """Teachers are trained first; the students of a seed share the stored logits of their teacher."""
    summary = laboratory.run(distillation, "distillation.alpha=0.5,0.9", "seed=0..1")
    assert (summary.trials, summary.failed) == (8, 0)
    finished = [event.trial for event in laboratory.events if isinstance(event, Finished)]
    teachers = [trial for trial in laboratory.plan.trials if not trial.teachers][:2]
    for trial in laboratory.plan.trials:
        if trial.teachers:
            assert finished.index(trial.teachers[0].hash) < finished.index(trial.hash)
    for condition in laboratory.plan.conditions[:1]:
        assert [trial.hash for trial in condition.trials] == [trial.hash for trial in teachers]
        for trial in condition.trials:
            (path,) = (laboratory.root / "trials" / trial.hash).glob("logits-*.sealed")
            stored, metadata = load_checked(path)
            assert stored["logits"].shape[2] == 10
            assert metadata["origin"]["trial"] == trial.hash
    losses = {result["test/loss"] for result in laboratory.results().values()}
    assert len(losses) == 8


def test_student_without_teacher_fails_alone(
    laboratory: Any, distillation: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    """The teacher's weights are missing: the student fails with this cause, the baseline finishes."""
    laboratory.run(distillation)
    teacher, baseline, student = laboratory.plan.trials
    (laboratory.root / "trials" / teacher.hash / "checkpoint.safetensors").unlink()
    (laboratory.root / "trials" / student.hash / "result.json").unlink()
    summary = laboratory.run(distillation)
    assert (summary.trained, summary.cached, summary.failed) == (1, 2, 1)
    cause = laboratory.store.trial(student.hash).cause
    assert teacher.hash[:12] in cause
    assert "checkpoint.safetensors" in cause
    assert laboratory.store.trial(baseline.hash).status == "finished"


def test_run_experiment_writes_the_record(laboratory: Any, small: dict[str, Any]):
    """Conditions with their trials, factors, seeds, overrides, claims and their hash."""
    claims = [{"name": "a", "factor": "residual", "levels": [True, False], "expect": "greater"}]
    summary = laboratory.run(
        small | {"claims": claims, "logging": {"project_name": "LAB1-CNN"}},
        "model.params.residual=false,true",
        "seed=2..3",
        "training.epochs=1",
    )
    record = laboratory.store.experiment(summary.experiment)
    assert record.cause is None
    assert [(condition.label, condition.role) for condition in record.conditions] == [
        ("residual=false", "supervised"),
        ("residual=true", "supervised"),
    ]
    assert record.conditions[1].factors == {"model.params.residual": True}
    trials = [trial.hash for trial in laboratory.plan.trials]
    assert [pair for condition in record.conditions for pair in condition.trials] == list(
        map(SeedTrial, [2, 3] * 2, trials)
    )
    assert record.factors == ("model.params.residual",)
    assert record.seeds == (2, 3)
    assert record.overrides == ("model.params.residual=false,true", "seed=2..3", "training.epochs=1")
    assert record.logging == {"project_name": "LAB1-CNN", "log_gradients": False}
    assert record.claims == tuple(claims)
    assert len(record.claims_hash) == 64
    raw = json.loads((record.folder / "experiment.json").read_text())
    assert raw["format"] == 3
    assert raw["seconds"] > 0


def test_run_experiment_restores_the_state_of_torch(laboratory: Any, small: dict[str, Any]):
    """Threads, random state, default dtype, determinism, and gradients."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        before = (torch.get_rng_state().tolist(), torch.get_default_dtype(), torch.is_grad_enabled())
        small_numbers = torch.tensor(1e-40) * 1.0
        laboratory.run(small, "experiment.analyze_gradients=true")
        assert torch.get_num_threads() == 2
        assert (torch.get_rng_state().tolist(), torch.get_default_dtype(), torch.is_grad_enabled()) == before
        assert torch.tensor(1e-40) * 1.0 == small_numbers
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"device": "tpu"}, ("--device", "auto, cpu, cuda, or cuda:N", "'tpu'")),
        ({"workers": "many"}, ("--workers", "auto", "'many'")),
        ({"workers": 0}, ("--workers", "auto", "0")),
    ],
)
def test_run_experiment_rejects_options_before_writing(
    tmp_path: Any, small: dict[str, Any], change: dict[str, Any], parts: tuple[str, ...]
):
    """No directory is created."""
    with pytest.raises(UserError) as caught:
        fathomlab.api.run(small, runs=tmp_path / "runs", progress="off", **change)
    assert [part for part in parts if part not in str(caught.value)] == []
    assert not (tmp_path / "runs").exists()


def test_worker_count_is_at_most_the_number_of_packs():
    """`auto` is at most one per core; a number is used as it is."""
    assert worker_count("auto", 1) == 1
    assert worker_count("auto", 0) == 1
    assert worker_count("3", 9) == worker_count(3, 9) == 3


def test_run_experiment_rejects_an_unwritable_store(tmp_path: Any, small: dict[str, Any]):
    """A file has the name of the directory."""
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError) as caught:
        fathomlab.api.run(small, runs=tmp_path / "runs", progress="off")
    assert str(tmp_path / "runs") in str(caught.value)
    assert "--runs" in str(caught.value)


def test_experiment_of_a_mapping_is_named_by_its_title():
    conf: dict[str, Any] = {"data": {"name": "mnist-sample"}, "model": {"type": "MLP"}, "training": {"epochs": 1}}
    plan, titled = fathomlab.load(conf), fathomlab.load({**conf, "experiment": {"title": "Plain: Größe"}})
    assert experiment_name(plan, []) == f"experiment-{plan.hash[:8]}"
    assert experiment_name(titled, []) == f"plain-groe-{titled.hash[:8]}"
    assert experiment_name(titled, [f"other-{titled.hash[:8]}"]) == f"other-{titled.hash[:8]}"
