"""Linear mode connectivity of stored trials: pairs that differ only in `data.order_stream`, and the line between them."""

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any, cast

import torch

from fathomlab.analysis.connectivity import Connectivity, Line
from fathomlab.api.trials import StoredTrial
from fathomlab.base.errors import UserError
from fathomlab.base.generators import seeded
from fathomlab.base.identity import canonical_json, derive_seed, make_rng
from fathomlab.base.labels import condition_label, shortest_unique_suffixes
from fathomlab.engine.connectivity import evaluate_line
from fathomlab.execute.pack.settings import deterministic_mode

KEY = "data.order_stream"
Pair = tuple[StoredTrial, StoredTrial]


def connectivity(trials: Iterable[StoredTrial], points: int = 11, plugins: Sequence[str] = ()) -> Connectivity:
    """Evaluate the line between each two trials that differ only in `data.order_stream`; see `Trials.connectivity`."""
    if points < 3:
        raise UserError("invalid-option", f"points: must be >= 3, got {points}")
    pairs = _pairs(trials)
    if not pairs:
        text = f"no two trials differ only in {KEY}. Add the factor `{KEY}: [0, 1]` to the experiment."
        raise UserError("no-trials", text)
    finished = [pair for pair in pairs if all(trial.status == "finished" for trial in pair)]
    names = shortest_unique_suffixes(list(dict.fromkeys(key for pair in pairs for key in pair[0].factors)))
    alphas = tuple(index / (points - 1) for index in range(points))
    lines = tuple(_line(pair, alphas, names, plugins) for pair in finished)
    return Connectivity(lines, len(pairs) - len(finished))


def _pairs(trials: Iterable[StoredTrial]) -> list[Pair]:
    """The pairs, in the order of the trials; trials without readable options have none."""
    groups: dict[str, dict[int, StoredTrial]] = {}
    for trial in trials:
        data = trial.config.get("data")
        if isinstance(data, dict):
            rest = {key: value for key, value in cast(dict[str, Any], data).items() if key != "order_stream"}
            group = groups.setdefault(canonical_json({**trial.config, "data": rest}), {})
            group.setdefault(_stream(trial), trial)
    return [pair for group in groups.values() for pair in combinations(group.values(), 2)]


def _stream(trial: StoredTrial) -> int:
    return trial.config["data"].get("order_stream", 0)


def _line(pair: Pair, alphas: tuple[float, ...], names: dict[str, str], plugins: Sequence[str]) -> Line:
    first = pair[0]
    seed: int = first.config["seed"]
    ends = first.load_model(plugins=plugins), pair[1].load_model(plugins=plugins)
    parts = {"train": first.train_data(), "test": first.test_data()}
    order = torch.from_numpy(make_rng(seed, "connectivity").permutation(len(parts["train"][1])))
    with deterministic_mode(), seeded(derive_seed(seed, "connectivity")):  # dropout is active for running statistics
        values = evaluate_line(ends, alphas, parts, order, first.config["data"]["batch_size"])
    factors = {key: level for key, level in first.factors.items() if key != KEY and not key.endswith(f".{KEY}")}
    label = condition_label(first.role, factors, names)
    streams = _stream(pair[0]), _stream(pair[1])
    return Line(label, factors, seed, streams, alphas, {name: tuple(each) for name, each in values.items()})
