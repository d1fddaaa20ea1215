"""Gradient slopes at initialization beside what theory predicts.

    python -m benchmarks.slopes             # writes the tables of docs/explanation/slopes.md, and slopes.json; about two minutes

Float64, 20 initializations of each network, standard normal inputs, labels at random, batch 128, batch statistics (mode
`measure`), through the very program that trains. G_l is the norm over the batch of dLoss/dh_l; the slope is minus the
least-squares slope of ln G_l on l.
"""

import argparse
import json
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from itertools import pairwise, product
from math import exp, log
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from fathomlab.analysis.statistics import mean_interval
from fathomlab.analysis.theory import branch_share, forward_growth, predict
from fathomlab.base.files import atomic_write
from fathomlab.engine.initializers import init_params
from fathomlab.engine.network import PackedNetwork
from fathomlab.losses.cross_entropy import cross_entropy
from fathomlab.models.mlp import MLP

INITIALIZATIONS, BATCH, WIDTH = 20, 128, 128
DEPTHS = (5, 10, 20, 40)
DOCS = Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
BY_DEPTH: dict[str, dict[str, Any]] = {
    "plain, torch's init": {},
    "plain, He": {"init": "he"},
    "plain, Glorot": {"init": "glorot"},
    "plain, orthogonal": {"init": "orthogonal"},
    "plain, looks linear": {"init": "looks_linear"},
    "plain, batch norm": {"batch_norm": True},
    "plain, batch norm, He": {"batch_norm": True, "init": "he"},
    "plain, batch norm, linear": {"batch_norm": True, "activation": "Identity"},
    "residual, torch's init": {"residual": True},
    "residual, batch norm": {"residual": True, "batch_norm": True},
    "residual, pre-activation": {"residual": True, "block": "pre_activation"},
    "residual, pre-activation, batch norm": {"residual": True, "block": "pre_activation", "batch_norm": True},
    "residual, applied twice": {"residual": True, "block": "shared_twice"},
    "residual, applied twice, batch norm": {"residual": True, "block": "shared_twice", "batch_norm": True},
    "residual, 1/sqrt(L)": {"residual": True, "branch_scale": "1/sqrt(L)"},
    "pre-activation, 1/sqrt(L), He": {
        "residual": True,
        "block": "pre_activation",
        "branch_scale": "1/sqrt(L)",
        "init": "he",
    },
    "residual, rezero": {"residual": True, "skip_init": "rezero"},
    "residual, two layers, fixup, He": {"residual": True, "block": "two_layer", "skip_init": "fixup", "init": "he"},
}
SHOWN = (1, 2, 5, 10, 20, 40)
EPS, BETAS = (1e-5, 1e-3, 0.1, 0.3, 1.0, 3.0), (0.5, 1.0, 2.0, 3.0)


@dataclass(frozen=True)
class Measured:
    """One network over its initializations.

    Attributes:
        slopes: One an initialization [nats per layer].
        ratios: G_0 / G_L, one an initialization.
        growth: rms(h_L) / rms(h_0), one an initialization.
        shares: Layer -> l x centered variance of h_l - h_(l-1) over that of h_(l-1), mean over initializations.
    """

    slopes: list[float]
    ratios: list[float]
    growth: list[float]
    shares: dict[int, float]


def measure(options: MLP, batch: int = BATCH, initializations: int = INITIALIZATIONS) -> Measured:
    """The slopes of `options` at `initializations` seeds, as one pack."""
    architecture = options.build((1, 1, options.input_size))
    drawn = [init_params(architecture, seed) for seed in range(initializations)]
    values = {name: torch.stack([one[name] for one in drawn]).requires_grad_() for name in drawn[0]}
    network = PackedNetwork([architecture] * initializations)
    generator = torch.Generator().manual_seed(1)
    shape = (initializations, batch, *architecture.shape)
    images = torch.randn(shape, generator=generator, dtype=torch.float64)
    labels = torch.randint(options.class_num, shape[:2], generator=generator)
    taps: list[Tensor] = []
    logits = network(values, network.buffers(torch.float64, "cpu"), images, "probe", None, taps)
    gradients = torch.autograd.grad(cross_entropy(logits, labels).mean(1).sum(), taps)
    logs = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients], 1).log()
    step = options.hidden_layers_num / (len(taps) - 1)
    layers = step * (torch.arange(len(taps), dtype=torch.float64) - (len(taps) - 1) / 2)
    outputs = [tap.detach() for tap in taps]
    sizes = torch.stack([output.square().mean((1, 2)).sqrt() for output in (outputs[0], outputs[-1])])
    pairs = list(pairwise(outputs))
    shares = {
        place: place * float((_spread(h - skip) / _spread(skip)).mean()) for place, (skip, h) in enumerate(pairs, 1)
    }
    slopes = -(logs @ layers) / layers.square().sum()
    return Measured(slopes.tolist(), (logs[:, 0] - logs[:, -1]).exp().tolist(), (sizes[1] / sizes[0]).tolist(), shares)


def compare(name: str, options: MLP, batch: int = BATCH, initializations: int = INITIALIZATIONS) -> dict[str, Any]:
    """One row: measured slope with its 95 % t interval, predicted slope, and whether they differ by more than is allowed."""
    prediction = predict(options, batch)
    assert prediction is not None, name
    found = measure(options, batch, initializations)
    interval = mean_interval(found.slopes)
    return {
        "network": name,
        "depth": options.hidden_layers_num,
        "width": options.layers_dim,
        "batch": batch,
        "n": interval.n,
        "measured": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "predicted": prediction.slope,
        "tolerance": prediction.tolerance,
        "agree": abs(interval.mean - prediction.slope) <= prediction.tolerance,
        "ratio": exp(fmean(log(ratio) for ratio in found.ratios)),
        "predicted_ratio": exp(prediction.profile[0]),
        "source": prediction.source,
    }


def slopes() -> list[dict[str, Any]]:
    """Every network with a prediction, over the depths, eps, beta, widths and batches."""
    rows = []
    for name, options in BY_DEPTH.items():
        even = [depth for depth in DEPTHS if depth % 2 == 0 or options.get("block") != "two_layer"]
        rows += [compare(name, MLP(layers_dim=WIDTH, hidden_layers_num=depth, **options)) for depth in even]
    for init in ("he", "torch"):
        for eps, depth in product(EPS, (20, 40)):
            options = MLP(layers_dim=WIDTH, hidden_layers_num=depth, batch_norm=True, init=init, batch_norm_eps=eps)
            rows.append(compare(f"batch norm, {init}, eps {eps:g}", options))
    for beta in BETAS:
        options = MLP(layers_dim=WIDTH, hidden_layers_num=40, batch_norm=True, batch_norm_beta=beta)
        rows.append(compare(f"batch norm, beta {beta:g}", options))
    for batch in (8, 32, 512):
        options = MLP(layers_dim=WIDTH, hidden_layers_num=20, batch_norm=True)
        rows.append(compare("plain, batch norm", options, batch))
    for width in (32, 64):
        rows.append(compare("plain, torch's init", MLP(layers_dim=width, hidden_layers_num=20)))
        rows.append(compare("plain, batch norm", MLP(layers_dim=width, hidden_layers_num=20, batch_norm=True)))
    return rows


def growths() -> list[dict[str, Any]]:
    """Forward growth rms(h_L) / rms(h_0) of residual nets, geometric mean over the initializations."""
    rows = []
    for norm in (False, True):
        for depth in DEPTHS:
            options = MLP(layers_dim=WIDTH, hidden_layers_num=depth, residual=True, batch_norm=norm)
            expected = forward_growth(options)
            assert expected is not None
            found = exp(fmean(log(value) for value in measure(options).growth))
            rows.append({"batch_norm": norm, "depth": depth, "measured": found, "predicted": expected[-1]})
    return rows


def shares() -> list[dict[str, Any]]:
    """Variance of branch over skip in a residual net with batch norm, times the layer's number."""
    found = measure(MLP(layers_dim=WIDTH, hidden_layers_num=40, residual=True, batch_norm=True)).shares
    return [{"layer": place, "measured": found[place], "predicted": place * branch_share(place)} for place in SHOWN]


def markdown(record: dict[str, Any]) -> str:
    """The record for people."""
    about = record["about"]
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    agreeing = sum(row["agree"] for row in record["slopes"])
    lines = [
        "## Measured and predicted slopes\n",
        f"`python -m benchmarks.slopes`, {about['date']}; {versions}.\n",
        f"{agreeing} of {len(record['slopes'])} agree.\n",
        "| network | L | n | batch | measured | predicted | tolerance | agree | G_0/G_L | predicted |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in record["slopes"]:
        half = (row["high"] - row["low"]) / 2
        lines.append(
            f"| {row['network']} | {row['depth']} | {row['width']} | {row['batch']} | {_signed(row['measured'])} +- {half:.4f} "
            f"| {_signed(row['predicted'])} | {row['tolerance']:.3g} | {'yes' if row['agree'] else 'no'} "
            f"| {row['ratio']:.3g} | {row['predicted_ratio']:.3g} |"
        )
    lines += [
        "\n## Forward growth of residual nets\n",
        "| batch norm | L | rms(h_L)/rms(h_0) | predicted |",
        "|---|---|---|---|",
    ]
    for row in record["growth"]:
        norm = "yes" if row["batch_norm"] else "no"
        lines.append(f"| {norm} | {row['depth']} | {row['measured']:.4g} | {row['predicted']:.4g} |")
    lines += ["\n## Branch over skip, residual net with batch norm, L = 40\n"]
    lines += ["| layer l | l x variance ratio | predicted (wide nets) |", "|---|---|---|"]
    lines += [f"| {row['layer']} | {row['measured']:.3f} | {row['predicted']:.0f} |" for row in record["shares"]]
    return "\n".join(lines) + "\n"


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=DOCS / "results" / "slopes.json", metavar="FILE")
    parser.add_argument("--markdown", type=Path, default=DOCS / "explanation" / "slopes.md", metavar="FILE")
    asked = parser.parse_args(words)
    versions = {"python": platform.python_version()} | {name: version(name) for name in ("torch", "numpy")}
    about = {"date": date.today().isoformat(), "versions": versions}
    record = {"about": about, "slopes": slopes(), "growth": growths(), "shares": shares()}
    text = markdown(record)
    print(text)
    atomic_write(asked.json, json.dumps(record, indent=1) + "\n")
    page = asked.markdown.read_text(encoding="utf-8")
    replaced = re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{text}{END}", page, flags=re.DOTALL)
    atomic_write(asked.markdown, replaced)


def _signed(value: float) -> str:
    return f"{round(value, 4) + 0.0:+.4f}"


def _spread(x: Tensor) -> Tensor:
    """Variance over the batch, mean over the units, (k,)."""
    return x.var(1, correction=0).mean(1)


if __name__ == "__main__":
    main()
