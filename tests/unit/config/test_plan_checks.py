"""What a plan can know is checked before training, with an answer that names the fix."""

from pathlib import Path
from typing import Any

import pytest

import fathomlab
from fathomlab.plan import read_trial

pytestmark = pytest.mark.usefixtures("no_charts")

MLP = {"type": "MLP", "params": {"layers_dim": 8, "hidden_layers_num": 2}}


def conf(data: dict[str, Any], model: dict[str, Any] | None = None, **training: Any) -> dict[str, Any]:
    """An experiment on the bundled sample."""
    return {
        "data": {"name": "mnist-sample", "batch_size": 32} | data,
        "model": model or MLP,
        "training": {"epochs": 1} | training,
    }


def normalized() -> dict[str, Any]:
    """An MLP with batch normalization."""
    return {"type": "MLP", "params": MLP["params"] | {"batch_norm": True}}  # type: ignore[operator]


def problems(source: Any, *overrides: str) -> list[Any]:
    """All problems; [] for a valid experiment."""
    try:
        fathomlab.load(source, overrides)
    except fathomlab.ConfigError as error:
        return list(error.problems)
    return []


def codes(source: Any, *overrides: str) -> list[tuple[str, str]]:
    """Code and key of all problems."""
    return [(problem.code, problem.path) for problem in problems(source, *overrides)]


def test_fractions_suggest_the_percentage():
    """0.2 probably means 20."""
    (problem,) = problems(conf({"validation_split": 0.2}))
    assert "20?" in problem.message


def test_few_validation_images_give_a_notice():
    """Eight for ten classes; fifty are none."""
    (notice,) = fathomlab.load(conf({"limit": 80, "validation_split": 10})).notices
    assert "8 validation images for 10 classes" in notice
    assert fathomlab.load(conf({"limit": 500, "validation_split": 10})).notices == ()


def test_networks_without_batch_norm_accept_one_image():
    """Without batch normalization nothing is wrong with them."""
    for data in ({"batch_size": 1}, {"limit": 3841, "batch_size": 128}):
        assert problems(conf(data)) == []


def test_feature_maps_of_several_cells_are_accepted():
    """A CNN whose smallest map is 2 x 2 normalizes over four values of one image; 1 x 1 maps over one."""
    model = {"type": "CNN", "params": {"layers": [1, 1, 1, 1], "num_classes": 10, "width": 8}}
    data = {"name": "cifar-10", "batch_size": 1}
    assert codes(conf(data, model)) == []
    small = model | {"params": model["params"] | {"stem": "pool"}}
    shapes = fathomlab.load(conf({"name": "shapes"}, small))
    assert shapes.trials


def test_drop_last_skips_the_incomplete_batch(tmp_path: Path):
    """Three full batches instead of four; what remains is the same trial as before the option existed."""
    data = {"limit": 130, "batch_size": 32, "validation_split": 20}
    assert codes(conf({"limit": 121, "batch_size": 32, "validation_split": 20}, normalized())) == [
        ("batch-too-small", "data.batch_size")
    ]
    complete = fathomlab.load(conf(data))
    assert fathomlab.load(conf(data | {"drop_last": False})).trials == complete.trials
    assert "drop_last" not in complete.trials[0].content["data"]
    (full,) = fathomlab.run(conf(data), runs=tmp_path, progress="off", workers=1)
    (dropped,) = fathomlab.run(conf(data | {"drop_last": True}), runs=tmp_path, progress="off", workers=1)
    assert (full.curves["step"], dropped.curves["step"]) == ([4], [3])
    assert full.hash != dropped.hash
    assert dropped.curves["train/loss"][0] == pytest.approx(2.3, abs=0.4)  # a mean over the images that were used


def test_order_streams_are_trials_of_one_seed():
    """A factor; stream 0 is the same trial as before the option existed."""
    data = {"limit": 130, "batch_size": 32}
    plain = fathomlab.load(conf(data))
    assert fathomlab.load(conf(data | {"order_stream": 0})).trials == plain.trials
    first, second = fathomlab.load(conf(data), "data.order_stream=0,1").trials
    assert first == plain.trials[0]
    assert second.content == {**first.content, "data": {**first.content["data"], "order_stream": 1}}
    assert [trial.recipe.order_stream for trial in (first, second)] == [0, 1]
    assert read_trial(second.content) == second
    assert codes(conf(data | {"order_stream": -1})) == [("out-of-range", "data.order_stream")]


def test_small_last_batches_give_a_notice():
    """Five images are few for batch normalization."""
    data = {"limit": 125, "batch_size": 19, "validation_split": 20}
    (notice,) = fathomlab.load(conf(data, normalized())).notices
    assert "5 of 100" in notice
    assert fathomlab.load(conf(data)).notices == ()
    assert fathomlab.load(conf(data | {"drop_last": True}, normalized())).notices == ()


MOVED = {
    "training.weight_decay=0.1": "training.optimizer_params.weight_decay",
    "training.momentum=0.9": "training.optimizer_params.momentum",
    "training.learning_rate=0.1": "training.lr",
    "training.scheduler_params.max_lr=0.1": "training.lr",
    "training.optimizer_params.lr=0.1": "training.lr",
    "training.num_epochs=3": "training.epochs",
    "training.batch_size=3": "data.batch_size",
    "model.layers_dim=3": "model.params.layers_dim",
    "model.params.epochs=3": "training.epochs",
    "data.seed=3": "seed",
    "seeds=6": "experiment.seeds",
    "experiment.headline=best": "experiment.primary_metric",
    "training.alpha=0.5": "distillation.alpha",
    "training.T=3": "distillation.temperature",
    "training.step_size=3": "training.scheduler_params.step_size",
    "training.project_name=a": "logging.project_name",
    "training.loss={type: CrossEntropy, gamma: 2}": "training.loss.params.gamma",
    "loss={type: CrossEntropy}": "training.loss",
}


def test_keys_of_other_sections_report_their_section():
    """Names of other libraries, and keys in the wrong section."""
    for override, key in MOVED.items():
        (problem,) = problems(conf({}, scheduler="StepLR"), override)
        assert problem.code == "unknown-key", override
        assert f"Set {key} instead" in problem.message, override


def test_student_keys_name_the_student_section():
    """Not in `training`, which the file does not have."""
    training = {"epochs": 1}
    source = {
        "teacher_model": MLP,
        "student_model": MLP,
        "training_teacher": training,
        "training_student": training | {"weight_decay": 0.1},
    }
    (problem,) = problems(source)
    assert "training_student.optimizer_params.weight_decay" in problem.message


def test_unneeded_keys_are_rejected():
    """Options that schedulers of PyTorch require and that are known here."""
    for key in ("total_steps", "steps_per_epoch", "mode", "verbose", "last_epoch"):
        (problem,) = problems(conf({}, scheduler="OneCycleLR"), f"training.scheduler_params.{key}=1")
        assert "remove it" in problem.message, key


@pytest.mark.parametrize(
    ("override", "owner"),
    [
        ("model.params.zero_init_residual=true", "CNN"),
        ("training.optimizer_params.momentum=0.9", "SGD"),
        ("training.scheduler_params.gamma=0.5", "StepLR"),
    ],
)
def test_options_of_another_component_name_it(override: str, owner: str):
    """Never a similar name that means something else."""
    (problem,) = problems(conf({}, scheduler="CosineAnnealingLR"), override)
    assert owner in problem.message
    assert "Did you mean" not in problem.message


@pytest.mark.parametrize(
    ("override", "meant"),
    [("training.label_smoothing=10", "0.1"), ("model.params.dropout=50", "0.5"), ("distillation.alpha=70", "0.7")],
)
def test_percentages_suggest_the_fraction(override: str, meant: str):
    """Where a fraction is expected."""
    (problem,) = [problem for problem in problems(conf({}), override) if problem.code == "out-of-range"]
    assert f"Did you mean {meant}?" in problem.message


def test_defaults_that_pytorch_lacks_give_a_notice():
    """StepLR without a step size."""
    (notice,) = fathomlab.load(conf({}, scheduler="StepLR", epochs=30)).notices
    assert "step_size" in notice
    assert "10" in notice
    assert fathomlab.load(conf({}, scheduler="StepLR", scheduler_params={"step_size": 3})).notices == ()


def test_partial_metric_names_suggest_the_metric():
    """`accuracy` is test/accuracy before it is a typing error."""
    claim = {"name": "a", "factor": "residual", "levels": [True, False], "expect": "greater", "metric": "accuracy"}
    source = conf({}) | {"experiment": {"factors": {"model.params.residual": [True, False]}}, "claims": [claim]}
    (problem,) = problems(source)
    assert "Did you mean 'test/accuracy'?" in problem.message


def test_ignored_options_are_reported_once(tmp_path: Path):
    """zero_init_residual of plain networks, over many conditions; both settings are one trial."""
    params = {"layers": [1, 1, 1, 1], "num_classes": 10, "width": 8, "residual": False}
    source = {
        "data": {"name": "shapes"},
        "model": {"type": "CNN", "params": params},
        "training": {"epochs": 1},
        "experiment": {
            "factors": {"model.params.zero_init_residual": [True, False], "training.lr": [0.1, 0.2, 0.3]},
            "seeds": 2,
        },
    }
    plan = fathomlab.load(source)
    assert len(plan.trials) == 6
    assert sum("zero_init_residual" in notice for notice in plan.notices) == 1


def test_empty_factors_remove_those_of_the_file():
    """An override can take all of a file's factors away."""
    source = conf({}) | {"experiment": {"factors": {"training.lr": [0.1, 0.2]}}}
    assert len(fathomlab.load(source, ["experiment.factors={}"]).trials) == 1


@pytest.mark.parametrize("stream", [0, 1])
def test_claims_may_name_an_option_that_an_override_set_to_its_default(stream: int):
    """The default is not part of a trial. The claim is open then, as for any level that an override removed."""
    claim = {"name": "a", "factor": "order_stream", "levels": [1, 0], "expect": "equal", "matters": 0.01}
    source = conf({"limit": 130}) | {"experiment": {"factors": {"data.order_stream": [0, 1]}}, "claims": [claim]}
    assert problems(source) == []
    assert problems(source, f"data.order_stream={stream}") == []
    assert [issue.code for issue in problems(source | {"claims": [claim | {"factor": "order"}]})] == [
        "unknown-claim-key"
    ]
