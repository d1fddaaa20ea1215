"""Synthetic stores on disk in the format of the contract, without any training."""

import hashlib
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np

from fathomlab.base.codec import to_plain
from fathomlab.base.identity import content_hash
from fathomlab.store.checksums import encode_line, seal
from fathomlab.store.predictions import PREDICTIONS, encode_classes, write_labels
from tests.helpers.store_records import contents, digest, outcome, probe, provenance, snapshots

MARKUP = (
    '<script>alert(1)</script> <!--<script> "><img src=x onerror=alert(2)> ]]> \u2028 & {{ 7*7 }} javascript:alert(3)'
)
LABELS = [index % 10 for index in range(200)]  # of the test images of 1.1
CNN_LEVELS = ([1, 1, 1, 1], [2, 2, 2, 2], [3, 4, 6, 3], [5, 6, 8, 5])


def lines(items: list[dict[str, Any]]) -> str:
    """JSON lines with their checksums."""
    return "".join(map(encode_line, items))


def write(path: Path, document: dict[str, Any]) -> None:
    """A document with the format and its checksum."""
    path.write_text(json.dumps(seal(document)))


def change(path: Path, **changes: Any) -> None:
    """Replace entries of a document."""
    write(path, json.loads(path.read_text()) | changes)


def reseal(root: Path) -> None:
    """Make changed records valid again: names of trials, checksums of documents and of lines."""
    names: dict[str, str] = {}
    for folder in sorted((root / "trials").iterdir()):
        names[folder.name] = content_hash(json.loads((folder / "trial.json").read_text())["content"])
        folder = folder.rename(folder.with_name(names[folder.name]))
        for file in folder.glob("*.json"):
            change(file, **({} if file.name == "provenance.json" else {"trial": folder.name}))
        for file in folder.glob("*.jsonl"):
            items = [json.loads(line) for line in file.read_text().splitlines()]
            file.write_text(lines([{key: item[key] for key in item if key != "crc"} for item in items]))
    for file in root.glob("experiments/*/experiment.json"):
        conditions = json.loads(file.read_text())["conditions"]
        for pair in (pair for item in conditions for pair in item["trials"]):
            pair["trial"] = names[pair["trial"]]
        change(file, conditions=conditions)


def write_trial(root: Path, name: str, factors: dict[str, Any], seed: int, accuracy: float, **also: Any) -> str:
    """One trial whose last test accuracy is `accuracy`; `also`: epochs, status, cause, parameters, layers, best."""
    content = contents(factors, seed, also) | {
        "format": f"{name} {also.get('role')}"
    }  # one trial per experiment and role
    trial = content_hash(content)
    folder = root / "trials" / trial
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(digest(name, factors, seed, also.get("role")))
    epochs, status = also.get("epochs", 6), also.get("status", "finished")
    write(folder / "trial.json", {"trial": trial, "content": content})
    curve = [accuracy * (1 - 0.6 * math.exp(-3 * (e + 1) / epochs)) + draw.gauss(0, 0.004) for e in range(epochs)]
    rows = [
        {
            "epoch": e + 1,
            "step": 375 * (e + 1),
            "lr": 0.001,
            "train/loss": round(0.05 + 2.3 * (1 - value) ** 1.5, 6),
            "train/accuracy": min(1.0, value + 0.006),
            "val/loss": round(0.08 + 2.3 * (1 - value) ** 1.4, 6),
            "val/accuracy": value,
            "seconds": 1.25,
        }
        for e, value in enumerate(curve)
    ]
    if status == "diverged" and rows:
        rows[-1].update({"train/loss": None, "val/loss": None})
    (folder / "metrics.jsonl").write_text(lines(rows))
    if "layers" in also:
        (folder / "gradients.jsonl").write_text(lines(snapshots(also["layers"], also["slope"], epochs, draw)))
        for name in ("updates", "representation", "noise"):
            (folder / f"{name}.jsonl").write_text(lines(probe(name, also["layers"], also["slope"])))
    metrics = {key: rows[-1][key] for key in ("train/loss", "train/accuracy", "val/loss", "val/accuracy") if rows}
    best = also.get("best", accuracy + 0.001)
    metrics |= {"test/loss": 0.1, "test/accuracy": accuracy, "best/epoch": max(1, epochs - 1)}
    metrics |= {"best/val/accuracy": max(curve, default=0.0), "best/test/loss": 0.1, "best/test/accuracy": best}
    result = {
        "trial": trial,
        "status": status,
        "cause": also.get("cause"),
        "parameters": also.get("parameters", 118282),
        "epochs": epochs,
        "steps": 375 * epochs,
        "seconds": 1.25 * epochs,
        "metrics": metrics if status == "finished" else {},
        "outcome": outcome(accuracy, also.get("role")) if status == "finished" else {},
    }
    if "predicted" in also:
        result |= write_predictions(folder, also.get("data", "mnist"), also["labels"], also["predicted"])
    write(folder / "result.json", result)
    write(folder / "provenance.json", provenance(also.get("data", "mnist")))
    return trial


def write_predictions(folder: Path, data: str, labels: Any, predicted: Any) -> dict[str, Any]:
    """The predictions of a trial and the labels of its test set; returns their entries of the result."""
    content = encode_classes(np.array(predicted))
    (folder / PREDICTIONS).write_bytes(content)
    files = {PREDICTIONS: {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}}
    return {"files": files, "labels": to_plain(write_labels(folder.parents[1], data, np.array(labels)))}


def mistaken(labels: list[int], accuracy: float, draw: random.Random) -> list[int]:
    """Predictions of which about a fraction `accuracy` is right; others are the next class."""
    return [label if draw.random() < accuracy else (label + 1) % 10 for label in labels]


def condition(label: str, factors: dict[str, Any], depth: int | None, trials: Any, role: str = "supervised") -> Any:
    """A condition of experiment.json."""
    pairs = [{"seed": seed, "trial": trial} for seed, trial in trials]
    return {"label": label, "role": role, "factors": factors, "depth": depth, "trials": pairs}


def write_experiment(root: Path, name: str, title: str, conditions: list[Any], **also: Any) -> None:
    """An experiment's folder around conditions."""
    folder = root / "experiments" / name
    folder.mkdir(parents=True, exist_ok=True)
    yaml = also.pop(
        "yaml",
        f"# Question: what does the factor of {name} do, and how sure is it?\nseed: 42\ndata:\n  batch_size: 128\n",
    )
    record = {
        "name": name,
        "title": title,
        "source": f"config_exp{name}.yaml",
        "yaml": yaml,
        "overrides": ["experiment.seeds=5"],
        "quick": False,
        "resolved": {"seed": 42, "data": {"batch_size": 128, "name": "mnist"}, "training": {"epochs": 6, "lr": 0.001}},
        "factors": list(conditions[0]["factors"]),
        "headline": "last",
        "seeds": [42, 43, 44, 45, 46],
        "logging": {"project_name": "LAB1-CNN"},
        "conditions": conditions,
        "claims": [],
        "claims_hash": digest(name, "claims"),
        "created": "2026-11-22T10:00:00+00:00",
        "seconds": 321.5,
    }
    write(folder / "experiment.json", record | also)


def write_widths(root: Path, seeds: int = 8, epochs: int = 50) -> None:
    """1.1: width x depth, plain, 9 conditions."""
    conditions: list[Any] = []
    for width in (32, 64, 128):
        for depth in (10, 20, 40):
            factors = {"model.params.layers_dim": width, "model.params.hidden_layers_num": depth}
            trials: list[Any] = []
            for seed in range(42, 42 + seeds):
                level = 0.975 + width / 12800 - (depth / 40) ** 3 * 0.25
                draw = random.Random(digest(factors, seed))
                accuracy = round(level + draw.gauss(0, 0.002 * depth / 10), 4)
                options = {"epochs": epochs, "labels": LABELS, "predicted": mistaken(LABELS, accuracy, draw)}
                trials.append((seed, write_trial(root, "1_1", factors, seed, accuracy, **options)))
            conditions.append(condition(f"layers_dim={width} hidden_layers_num={depth}", factors, depth, trials))
    write_experiment(root, "1_1", "MLP on MNIST: width against depth", conditions, seeds=list(range(42, 42 + seeds)))


def write_depths(root: Path, seeds: int = 5, epochs: int = 6, cause: str = MARKUP, **also: Any) -> None:
    """1.2: depth x residual with gradients; one trial diverged, one failed."""
    conditions: list[Any] = []
    for depth in also.pop("depths", (5, 10, 20, 40)):
        for residual in (False, True):
            factors = {"model.params.hidden_layers_num": depth, "model.params.residual": residual}
            trials: list[Any] = []
            for seed in range(42, 42 + seeds):
                level = 0.965 if residual else {5: 0.962, 10: 0.955, 20: 0.75, 40: 0.1135}[depth]
                accuracy = round(level + random.Random(digest(factors, seed)).gauss(0, 0.003), 4)
                options: dict[str, Any] = {"layers": depth, "slope": 0.04 if residual else -0.39, "epochs": epochs}
                if (depth, residual, seed) == (40, True, 43):
                    options |= {"status": "diverged", "cause": "loss is not finite at step 812"}
                if (depth, residual, seed) == (20, False, 44):
                    options |= {"status": "failed", "cause": cause}
                trials.append((seed, write_trial(root, "1_2", factors, seed, accuracy, **options)))
            label = f"hidden_layers_num={depth} residual={str(residual).lower()}"
            conditions.append(condition(label, factors, depth, trials))
    title = also.pop("title", "MLP with and without residual connections")
    also.setdefault("claims", claims())
    write_experiment(root, also.pop("name", "1_2"), title, conditions, seeds=list(range(42, 42 + seeds)), **also)


def write_blocks(root: Path, seeds: int = 1, epochs: int = 1) -> None:
    """1.3: CNN depth x residual, one seed and one epoch, as the first file has it."""
    conditions: list[Any] = []
    for layers in CNN_LEVELS:
        for residual in (False, True):
            factors = {"model.params.layers": layers, "model.params.residual": residual}
            trials: list[Any] = []
            for seed in range(42, 42 + seeds):
                accuracy = round(0.58 - (0 if residual else sum(layers) / 100) + seed % 7 / 500, 4)
                options = {"epochs": epochs, "data": "cifar-10", "parameters": 1_000_000 * sum(layers)}
                trials.append((seed, write_trial(root, "1_3", factors, seed, accuracy, **options)))
            label = f"layers={'-'.join(map(str, layers))} residual={str(residual).lower()}"
            conditions.append(condition(label, factors, 2 * sum(layers), trials))
    write_experiment(root, "1_3", "CNN with and without residual connections on CIFAR-10", conditions, seeds=[42])


def write_distillation(root: Path, seeds: int = 5, epochs: int = 20) -> None:
    """2.2: teacher, baseline student, distilled students at three alphas."""
    conditions: list[Any] = []
    kinds: list[tuple[str, str, dict[str, Any], float, int]] = [
        ("teacher", "teacher", {}, 0.782, 21_282_122),
        ("baseline", "baseline", {}, 0.741, 4_729_418),
        *(
            (f"alpha={alpha}", "distilled", {"distillation.alpha": alpha}, 0.741 + gain, 4_729_418)
            for alpha, gain in ((0.7, 0.024), (0.8, 0.032), (0.9, 0.028))
        ),
    ]
    for label, role, factors, level, parameters in kinds:
        trials: list[Any] = []
        for seed in range(seeds):
            accuracy = round(level + random.Random(digest(role, factors, seed)).gauss(0, 0.002), 4)
            options = {"epochs": 2 * epochs if role == "teacher" else epochs, "parameters": parameters, "role": role}
            trials.append((seed, write_trial(root, "2_2", factors, seed, accuracy, data="cifar-10", **options)))
        conditions.append(condition(label, factors, None, trials, role))
    role = {"name": "Distillation gains a point", "factor": "role", "levels": ["distilled", "baseline"]}
    claims = [role | {"expect": "greater", "matters": 0.01}]
    about: dict[str, Any] = {"factors": ["distillation.alpha"], "claims": claims, "seeds": list(range(seeds))}
    about["published"] = published()
    write_experiment(root, "2_2", "Knowledge distillation on CIFAR-10", conditions, **about)


def published() -> list[dict[str, Any]]:
    """Statements about distillation: by a claim, by numbers, and one that nothing tests."""
    gain: dict[str, Any] = {"factor": "role", "levels": ["distilled", "baseline"]}
    fewer: dict[str, Any] = {"metric": "parameters", "factor": "role", "levels": ["distilled", "teacher"]}
    return [
        {"statement": "Distillation helps.", "source": "Lab report", "claim": "Distillation gains a point"},
        {"statement": "Alpha 0.8 gains 3.2 points.", "value": 0.032, **gain, "at": {"alpha": 0.8}},
        {"statement": "Alpha 0.7 gains 9 points.", "value": 0.09, **gain, "at": {"alpha": 0.7}},
        {"statement": "The teacher reaches 78.2%.", "value": 0.782, "factor": "role", "levels": ["teacher"]},
        {"statement": "78% fewer parameters.", "value": -0.78, **fewer},
        {"statement": "80% fewer parameters.", "value": -0.8, **fewer},
        {"statement": "Students are calibrated."},
    ]


def claims() -> list[dict[str, Any]]:
    """A claim of each kind about depth and residual connections."""
    both = {"factor": "residual", "levels": [True, False]}
    return [
        {
            "name": "No difference at depth 5",
            **both,
            "at": {"hidden_layers_num": 5},
            "expect": "equal",
            "matters": 0.02,
        },
        {
            "name": "Shortcuts help at depth 20",
            **both,
            "at": {"hidden_layers_num": 20},
            "expect": "greater",
            "matters": 0.02,
        },
        {"name": "More seeds above 90 % at depth 40", **both, "at": {"hidden_layers_num": 40}, "expect": "greater"}
        | {"kind": "success", "threshold": 0.9, "matters": 0.5},
        {"name": "Depth hurts plain nets", "kind": "trend", "factor": "hidden_layers_num", "levels": [5, 10, 20, 40]}
        | {"at": {"residual": False}, "expect": "less"},
        {"name": "Plain nets of 40 layers are at chance", "factor": "residual", "levels": [False], "reference": 0.1135}
        | {"at": {"hidden_layers_num": 40}, "expect": "equal", "matters": 0.01},
    ]


def write_all(root: Path) -> None:
    """The four experiments."""
    write_widths(root)
    write_depths(root)
    write_blocks(root)
    write_distillation(root)
