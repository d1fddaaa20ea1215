"""Each bundled experiment runs from its file to its report, in quick form and even smaller."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from fathomlab.api import run

CONFIGS = Path(__file__).parents[2] / "configs"
CHAIN = (
    "teacher",
    "second",
    "baseline",
    "distilled",
    "assistant",
    "assisted",
    "born_again",
    "born_twice",
    "two_teachers",
)
TRANSFER = ("pretrained", "scratch", "finetuned", "linear", "random")


def smaller(roles: Sequence[str], width: int) -> list[str]:
    """Overrides that train each of these roles for one epoch, with narrow networks."""
    sizes = {"training.epochs": 1, "model.params.width": width, "model.params.layers": "[1,1,1,1]"}
    return [f"roles.{role}.{key}={value}" for role in roles for key, value in sizes.items()]


SMALLER = ["experiment.seeds=1", "data.limit=200"]
MORE = {
    "config_exp1_1": ["training.epochs=1", "model.params.layers_dim=4,8", "model.params.hidden_layers_num=1,2"],
    "config_exp1_2": ["training.epochs=1", "model.params.layers_dim=8"],
    "config_exp1_3": ["training.epochs=1", "model.params.width=1", "experiment.depths=[1,1,1,1],[2,1,1,1]"],
    "config_exp2_2": [
        "training_teacher.epochs=1",
        "training_student.epochs=1",
        "teacher_model.params.width=2",
        "student_model.params.width=1",
        "teacher_model.params.layers=[1,1,1,1]",
    ],
    "connectivity": ["training.epochs=1", "model.params.layers_dim=8", "model.params.hidden_layers_num=2,5"],
    "degradation": ["training.epochs=1", "model.params.width=1", "model.params.layers=[1,1,1],[2,1,1]"],
    "depth_init": ["training.epochs=1", "model.params.layers_dim=8"],
    "depth_transfer": ["training.epochs=1", "model.params.layers_dim=4", "training.lr=0.02,0.08"],
    "batchnorm_depth": ["training.epochs=1", "model.params.layers_dim=8"],
    "distill_chain": smaller(CHAIN, 2),
    "distill_depth": ["training_teacher.epochs=1", "training_student.epochs=1", "student_model.params.layers_dim=8"],
    "distill_losses": smaller(("teacher", "baseline", "distilled"), 2),
    "distill_placebo": smaller(("teacher", "baseline", "distilled", "self", "longer"), 2),
    "distill_tune": smaller(("teacher", "baseline", "distilled", "longer"), 1),
    "transfer": [*smaller(TRANSFER, 2), "roles.pretrained.data.limit=200"],
}
TRIALS = {
    "config_exp1_1": 4,
    "config_exp1_2": 8,
    "config_exp1_3": 4,
    "config_exp2_2": 5,
    "connectivity": 8,
    "degradation": 4,
    "depth_init": 24,
    "depth_transfer": 18,
    "batchnorm_depth": 12,
    "distill_tune": 13,
    "distill_chain": 9,
    "distill_depth": 13,
    "distill_losses": 10,
    "distill_placebo": 9,
    "transfer": 5,
}


def test_every_bundled_file_has_a_case():
    """A new experiment needs a line here."""
    assert set(TRIALS) == {path.stem for path in CONFIGS.glob("*.yaml")}


LONG = {"distill_chain", "distill_losses", "distill_tune"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in TRIALS]
)
def test_bundled_experiment_runs(tmp_path: Path, name: str):
    """All trials finish, and the report contains the title and every claim."""
    results = run(
        CONFIGS / f"{name}.yaml",
        *SMALLER,
        *MORE[name],
        runs=tmp_path,
        quick=True,
        workers=1,
        progress="off",
    )
    assert results.summary.trials == results.summary.trained == TRIALS[name]
    assert {record.cause for record in results} == {None}
    file = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    page = results.report.read_text(encoding="utf-8")
    assert file["experiment"]["title"] in page
    for claim in file["claims"]:
        assert claim["name"] in page
    gradients = [record.probes.get("gradients", ()) for record in results]
    gradient_files = {"config_exp1_2", "depth_init", "batchnorm_depth", "distill_depth"}
    assert all(gradients) == (name in gradient_files)
    assert (results.study.experiment.tune is not None) == (name in ("depth_transfer", "distill_tune"))
    if name == "config_exp2_2":
        assert results.table()["role"] == ["teacher", "baseline", *["distilled"] * 3]
