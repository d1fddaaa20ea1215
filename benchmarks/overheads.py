"""What is spent on anything but training: probes at their default schedule, and store, progress and bookkeeping."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks import machine
from benchmarks.part import Options, Target, table
from benchmarks.race import in_subprocess

TITLE = "Overheads"
PROBED = {"layers_dim": 128, "hidden_layers_num": 20, "batch_norm": False, "residual": False}
PROBED_SEEDS, PROBED_EPOCHS = 8, 1
KEPT = {"layers_dim": 32, "hidden_layers_num": 10, "batch_norm": True, "residual": False}
KEPT_SEEDS, KEPT_EPOCHS = 16, 4
MOST_ROUNDS = 3
TRAINING = ("training", "evaluation")
BOOKKEEPING = ("store", "progress", "rest")
DEFAULT = "gradients"


def measure(options: Options) -> dict[str, Any]:
    """Seconds by account of real packs, each in a process of its own."""
    from fathomlab.probes import PROBES

    rounds = options.at_most(MOST_ROUNDS)
    with machine.recorded() as about:
        kept = _rounds(rounds, KEPT, KEPT_SEEDS, KEPT_EPOCHS, None)
        names = [name for name in PROBES if name != "cam"]  # it reads maps of a CNN
        probes = {name: _rounds(rounds, PROBED, PROBED_SEEDS, PROBED_EPOCHS, name) for name in names}
    return {
        "about": about,
        "bookkeeping": {"share": share(kept, BOOKKEEPING), "rounds": kept},
        "probes": {name: {"share": share(times, ("probes",)), "rounds": times} for name, times in probes.items()},
    }


def share(rounds: Sequence[Mapping[str, float]], accounts: Sequence[str]) -> float:
    """Time in `accounts` over the time in training (evaluation after each epoch included), median over the rounds."""
    return median(
        sum(seconds.get(name, 0.0) for name in accounts) / sum(seconds.get(name, 0.0) for name in TRAINING)
        for seconds in rounds
    )


def text(record: Mapping[str, Any]) -> list[str]:
    """Shares, and where the time of the run without probes goes."""
    lines = [
        "Probes at their default schedule (at initialization, after step 1, after every epoch), experiment 1.2's MLP of",
        f"width 128 and depth 20 without batch normalization, 48,000 images, {PROBED_EPOCHS} epoch, a pack of {PROBED_SEEDS}:",
        "",
    ]
    lines += table(
        ["probe", "s in the probe", "s in training", "share"],
        [
            [name, f"{_seconds(of, ('probes',)):.3f}", f"{_seconds(of, TRAINING):.2f}", f"{100 * of['share']:.2f}%"]
            for name, of in record["probes"].items()
        ],
    )
    kept = record["bookkeeping"]
    lines += [f"A pack of {KEPT_SEEDS} of width 32 and depth 10, 48,000 images, {KEPT_EPOCHS} epochs, no probe:", ""]
    names = ("preparing", *TRAINING, *BOOKKEEPING)
    lines += table([f"s in {name}" for name in names], [[f"{_seconds(kept, (name,)):.3f}" for name in names]])
    lines += [
        "`preparing` is what comes once a pack before its first step: data, split, initial values, optimizer. Store,",
        f"progress and the rest of the bookkeeping are {100 * kept['share']:.2f}% of the training time.",
        "",
    ]
    return lines


def targets(record: Mapping[str, Any]) -> list[Target]:
    """At most 5 and 1 percent of the training time."""
    kept = Target("store, progress and bookkeeping", 0.01, record["bookkeeping"]["share"], "%", most=True)
    if DEFAULT not in record["probes"]:
        return [kept]
    return [
        Target(f"probe {DEFAULT} at its default schedule", 0.05, record["probes"][DEFAULT]["share"], "%", most=True),
        kept,
    ]


def _rounds(
    rounds: int, shape: Mapping[str, Any], seeds: int, epochs: int, probe: str | None
) -> list[dict[str, float]]:
    record = [in_subprocess("benchmarks.accounts:train", dict(shape), seeds, epochs, probe) for _ in range(rounds)]
    print(probe or "bookkeeping", {name: round(seconds, 3) for name, seconds in record[-1].items()}, flush=True)
    return record


def _seconds(of: Mapping[str, Any], accounts: Sequence[str]) -> float:
    """Median over the rounds of the time in `accounts`."""
    return median(sum(seconds.get(name, 0.0) for name in accounts) for seconds in of["rounds"])
