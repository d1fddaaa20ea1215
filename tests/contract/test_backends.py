"""Every backend of the table computes the steps of the reference, or refuses with a reason."""

import pytest
import torch

from fathomlab.engine.backends import BACKENDS, Machine
from fathomlab.engine.loop import Progress, train
from fathomlab.engine.step_inputs import StepInputs
from fathomlab.engine.training import PackTrainer
from fathomlab.optim.adam import Adam
from fathomlab.plan.recipe import Recipe
from fathomlab.prepare.machine import describe_machine
from tests.helpers import small_training

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
names = pytest.mark.parametrize("name", sorted(BACKENDS))


def mlps() -> list[Recipe]:
    """Two MLPs in float64 that differ in all options that may vary inside a pack."""
    architectures = [small_training.mlp(batch_norm=True, residual=residual) for residual in (True, False)]
    return [
        small_training.recipe(
            architecture, seed=seed, lr=0.02 * (seed + 1), label_smoothing=0.1 * seed, optimizer=Adam()
        )
        for seed, architecture in enumerate(architectures)
    ]


def pack_of(recipes: list[Recipe]) -> PackTrainer:
    """A pack on the device of this machine."""
    pack = small_training.make_trainer(recipes)
    data = type(pack.data)(**{name: value.to(DEVICE) for name, value in vars(pack.data).items()})
    return PackTrainer(recipes, data, pack.train_index.to(DEVICE), pack.validation_index.to(DEVICE), DEVICE)


def tensors_of(pack: PackTrainer) -> dict[str, torch.Tensor]:
    """Parameters and running statistics."""
    return {name: tensor.detach().clone() for name, tensor in {**pack.state.params, **pack.state.buffers}.items()}


def trained(pack: PackTrainer, name: str) -> list[Progress]:
    """Train to the end: 20 steps, of which 4 have a smaller last batch."""
    before = tensors_of(pack)
    step, batches = BACKENDS[name].prepare(pack), list[int]()
    small_training.assert_identical(tensors_of(pack), before)  # preparing does not train

    def counted(inputs: StepInputs) -> None:
        batches.append(inputs.index.shape[1])
        step(inputs)

    snapshots = list(train(pack, frozenset(), counted))
    assert batches == ([10] * 4 + [8]) * 4
    return snapshots


@names
@pytest.mark.filterwarnings("ignore")  # warnings of compilers
def test_backend_equals_the_reference(name: str) -> None:
    """Losses, parameters, and running statistics."""
    recipes = mlps()
    refusal = BACKENDS[name].refuses(recipes, describe_machine(DEVICE.type))
    if refusal:
        pytest.skip(refusal)
    pack, reference = pack_of(recipes), pack_of(recipes)
    snapshots, expected = trained(pack, name), trained(reference, "reference")
    small_training.assert_close(tensors_of(pack), tensors_of(reference), 1e-8)  # Adam amplifies rounding noise
    for epoch, reference_epoch in zip(snapshots, expected, strict=True):
        assert epoch.train is not None
        assert reference_epoch.train is not None
        torch.testing.assert_close(epoch.train.loss, reference_epoch.train.loss, rtol=1e-10, atol=0)


@names
def test_build_contains_the_version_of_torch(name: str) -> None:
    assert torch.__version__ in BACKENDS[name].build()


@pytest.mark.parametrize(
    ("name", "network", "machine"),
    [
        ("graph", "mlp", Machine("cpu", True)),
        ("native", "mlp", Machine("cuda", True)),
        ("native", "mlp", Machine("cpu", False)),
        ("native", "cnn", Machine("cpu", True)),
        ("native", "dropout", Machine("cpu", True)),
    ],
)
def test_refuses_returns_a_reason(name: str, network: str, machine: Machine) -> None:
    """And the reference refuses nothing."""
    architectures = {
        "mlp": small_training.mlp(),
        "cnn": small_training.cnn(),
        "dropout": small_training.mlp(dropout=0.1),
    }
    recipes = [small_training.recipe(architectures[network])]
    assert len(BACKENDS[name].refuses(recipes, machine)) > 10
    assert BACKENDS["reference"].refuses(recipes, machine) == ""


@pytest.mark.parametrize(("name", "machine"), [("graph", Machine("cuda")), ("native", Machine("cpu", True))])
def test_refuses_returns_nothing_for_mlps(name: str, machine: Machine) -> None:
    assert BACKENDS[name].refuses(mlps(), machine) == ""
