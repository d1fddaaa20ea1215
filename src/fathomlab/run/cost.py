"""What trials will cost: products, memory, and time judged by like trials in the store. No torch."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from fathomlab.data import DATASETS
from fathomlab.plan import Trial
from fathomlab.run.resolve import recipe

ASSUMED_RATE = 2e10
LARGEST_PACK = 16
WIDEST_CONVOLUTION = 32
PACK_BYTES = 2**31


def flops(trial: Trial) -> float:
    """Floating-point operations of the products: 6 x multiply-accumulates an image and step, 2 in evaluation."""
    own = recipe(trial)
    facts = DATASETS[trial.content["data"]["name"]].facts
    images = own.limit or facts.train_examples
    held_out = images * own.validation_split / 100
    training = 6.0 * own.architecture.macs * (images - held_out) * own.epochs
    evaluation = 2.0 * own.architecture.macs * (held_out * own.epochs + 2 * facts.test_examples)
    teaching = 2.0 * own.teaching.architecture.macs * images if own.teaching else 0.0
    return training + evaluation + teaching


def pack_limit(trial: Trial) -> int:
    """How many replicas of this trial one program should hold.

    Wide convolutions are slower grouped than apart; memory holds weights, gradients, two moments, the best weights and
    the activations of a batch.
    """
    own = recipe(trial)
    widest = max(
        (parameter.shape[0] for parameter in own.architecture.parameters() if len(parameter.shape) == 4), default=0
    )
    if widest >= WIDEST_CONVOLUTION:
        return 1
    size = 4 * (6 * own.architecture.numel + 3 * own.architecture.activations * own.batch_size)
    return max(1, min(LARGEST_PACK, PACK_BYTES // size))


def rate(finished: Iterable[Mapping[str, Any]]) -> float | None:
    """Operations a second and core of trials that are done: the median of `flops / seconds`, None without any."""
    rates = [entry["flops"] / entry["seconds"] for entry in finished if entry["seconds"]]
    return median(rates) if rates else None


def estimate(trials: Sequence[Trial], measured: float | None, workers: int) -> dict[str, Any]:
    """The cost of training `trials`: total operations, and seconds at the measured rate or at an assumed one."""
    total = sum(flops(trial) for trial in trials)
    seconds = total / (measured or ASSUMED_RATE) / max(1, min(workers, len(trials) or 1))
    basis = "like trials in the store" if measured else f"an assumed {ASSUMED_RATE / 1e9:.0f} GFLOP/s a core"
    return {"flops": total, "seconds": round(seconds, 1), "workers": workers, "basis": basis}
