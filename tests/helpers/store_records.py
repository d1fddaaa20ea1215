"""Records of synthetic trials: content, outcome, probes, and provenance."""

import hashlib
import json
import math
import random
from typing import Any


def digest(*parts: Any) -> str:
    """A hash of 64 digits that depends only on the parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def contents(factors: dict[str, Any], seed: int, also: dict[str, Any]) -> dict[str, Any]:
    """Resolved options as a trial has them."""
    params: dict[str, Any] = {"activation": "ReLU", "batch_norm": False, "hidden_layers_num": 5, "input_size": 784}
    params |= {"layers_dim": 128, "class_num": 10, "residual": False, "init": "torch"}
    params |= {key.rsplit(".", 1)[-1]: level for key, level in factors.items() if key.startswith("model.params.")}
    model = {"type": "MLP", "params": params}
    if also.get("data") == "cifar-10":
        levels = {key.rsplit(".", 1)[-1]: level for key, level in factors.items() if key.startswith("model.params.")}
        model = {"type": "CNN", "params": {"layers": [1, 1, 1, 1], "num_classes": 10} | levels}
    content: dict[str, Any] = {
        "seed": seed,
        "data": {"name": also.get("data", "mnist"), "batch_size": 128, "validation_split": 20.0, "limit": None},
        "model": model,
        "training": {
            "epochs": also.get("epochs", 6),
            "optimizer": "Adam",
            "lr": 0.001,
            "criterion": "CrossEntropyLoss",
        },
        "probes": {"gradients": {"at": ["init", 1, "epochs"], "examples": 128}} if "layers" in also else {},
    }
    if also.get("role") == "distilled":
        content["distillation"] = {"alpha": factors.get("distillation.alpha", 0.5), "temperature": 3.0}
    return content


def outcome(accuracy: float, role: str | None) -> dict[str, Any]:
    """Predictions: only the digit 1 if the accuracy is that of chance, otherwise all classes equally often."""
    collapsed = accuracy < 0.13
    predicted = [0, 10_000] + [0] * 8 if collapsed else [1000] * 10
    bins: list[list[float | None]] = [[None, None, 0.0] for _ in range(15)]
    bins[1 if collapsed else 14] = [0.12 if collapsed else 0.99, accuracy, 10_000.0]
    agreement = 0.9 if role == "distilled" else None
    return {"predicted": predicted, "calibration_error": 0.01, "bins": bins, "agreement": agreement, "examples": 10_000}


def snapshots(layers: int, slope: float, epochs: int, draw: random.Random) -> list[dict[str, Any]]:
    """Gradient norms that shrink by 10**slope per layer toward the input, less so later in training."""
    names = ["input", *(f"hidden.{index}" for index in range(1, layers + 1)), "output"]
    points = names[:-1]
    rows: list[dict[str, Any]] = []
    for index in range(epochs + 2):
        step = index if index < 2 else 375 * (index - 1)
        fade = slope * math.exp(-index / 4)
        norms = [10 ** (fade * (len(names) - i) + draw.gauss(0, 0.05)) for i in range(len(names))]
        weight: list[float | None] = list(norms)
        if index == epochs + 1 and layers == 40:
            weight[3] = None
        rows.append({"step": step, "epoch": max(0, index - 1), "layers": names, "weight": weight})
        rows[-1] |= {"points": points, "activation": [norm / 30 for norm in norms[:-1]]}
    return rows


def probe(name: str, layers: int, slope: float) -> list[dict[str, Any]]:
    """Snapshots of another probe at initialization and after an epoch."""
    names = ["input", *(f"hidden.{index}" for index in range(1, layers + 1))]
    columns: dict[str, dict[str, Any]] = {
        "updates": {
            "layers": names,
            "ratio": [0.001 * (index + 1) for index in range(layers + 1)],
            "weight": [2.0] * (layers + 1),
            "update": [0.002 * (index + 1) for index in range(layers + 1)],
        },
        "representation": {
            "points": names,
            "rms": [1.0] * (layers + 1),
            "spread": [10 ** (slope * index) for index in range(layers + 1)],
            "correlation": [1 - 10 ** (slope * index) for index in range(layers + 1)],
            "dead": [None, *[0.5] * layers],
        },
        "noise": {"noise_scale": 40.0, "trace": 80.0, "gradient_squared": 2.0, "small": 32, "big": 256},
    }
    return [{"step": 375 * epoch, "epoch": epoch, **columns[name]} for epoch in (0, 1)]


def provenance(data: str) -> dict[str, Any]:
    """A provenance record, with one file that is not the published one for CIFAR-10."""
    copies = ["train.bin"] if data == "cifar-10" else []
    notes = ["read from an imported folder"] if copies else []
    return {
        "versions": {"fathomlab": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "numpy": "2.4.1"},
        "hardware": {"cpu": "AMD EPYC 9555", "cores": 2, "gpu": None},
        "device": "cpu",
        "precision": "float32",
        "threads": 1,
        "git": {"commit": "c0ffee" + "0" * 34, "dirty": True},
        "data": {
            "name": data,
            "files": {name: digest(data, name) for name in ("train.bin", "test.bin")},
            "unofficial": copies,
            "notes": notes,
        },
        "pack": {"size": 4, "place": 1},
        "started": "2026-11-22T10:00:00+00:00",
    }
