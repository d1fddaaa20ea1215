"""JAX: vmap over replicas, scan over the hidden layers, the whole step compiled, Adam written out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.peers import fathomlab_pack
from benchmarks.peers.plain import data
from benchmarks.setting import BATCH, EVALUATED, RATE, Cell
from fathomlab.engine.initializers import init_params

LAYER = ("weight", "bias", "norm.weight", "norm.bias")
STATISTICS = ("norm.running_mean", "norm.running_var")
EVALUATION_BATCH = 500  # divides the images, so that one function is compiled


def stacked(values: Mapping[str, torch.Tensor], depth: int, names: Sequence[str], dtype: Any) -> dict[str, Any]:
    """Convert tensors by name, the hidden layers stacked for scan."""
    arrays = {name: jnp.asarray(value.detach().numpy(), dtype) for name, value in values.items()}
    result = {name: arrays[name] for name in arrays if not name.startswith("hidden")}
    for name in names:
        result[f"hidden.{name}"] = jnp.stack([arrays[f"hidden.{layer}.{name}"] for layer in range(1, depth + 1)])
    return result


def _layer(h: Any, weight: Any, bias: Any, gamma: Any, beta: Any) -> Any:
    h = h @ weight.T + bias
    mean = h.mean(0)
    var = ((h - mean) ** 2).mean(0)
    return jax.nn.relu((h - mean) * (gamma * jax.lax.rsqrt(var + 1e-5)) + beta), (mean, var)


def _loss(values: dict[str, Any], running: Any, inputs: Any, labels: Any) -> Any:
    h, first = _layer(
        inputs, values["input.weight"], values["input.bias"], values["input.norm.weight"], values["input.norm.bias"]
    )
    hidden = [values[f"hidden.{name}"] for name in LAYER]
    h, rest = jax.lax.scan(lambda h, layer: _layer(h, *layer), h, hidden)
    logits = h @ values["output.weight"].T + values["output.bias"]
    unbiased = len(labels) / (len(labels) - 1)
    now = [jnp.concatenate([first[0][None], rest[0]]), unbiased * jnp.concatenate([first[1][None], rest[1]])]
    running = [0.9 * old + 0.1 * new for old, new in zip(running, now, strict=True)]
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean(), running


def step(state: Any, inputs: Any, labels: Any) -> Any:
    """One Adam step of one replica."""
    values, first, second, running, count = state
    (loss, running), gradient = jax.value_and_grad(_loss, has_aux=True)(values, running, inputs, labels)
    count = count + 1
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradient)
    one, two = 1 - 0.9**count, jnp.sqrt(1 - 0.999**count)
    values = jax.tree.map(lambda p, m, v: p - RATE / one * m / (jnp.sqrt(v) / two + 1e-8), values, first, second)
    return (values, first, second, running, count), loss


def _state(cell: Cell, seed: int, dtype: Any) -> Any:
    values = stacked(init_params(cell.architecture(), seed), cell.depth, LAYER, dtype)
    zeros = jax.tree.map(jnp.zeros_like, values)
    running = [jnp.zeros((cell.depth + 1, cell.width), dtype), jnp.ones((cell.depth + 1, cell.width), dtype)]
    return values, zeros, zeros, running, jnp.zeros((), dtype)


def curve(cell: Cell, seed: int, order: torch.Tensor) -> list[float]:
    """Losses in float64 on the images of each row of `order`."""
    jax.config.update("jax_enable_x64", True)
    inputs, classes = (tensor.numpy() for tensor in data(torch.float64))
    state, losses = _state(cell, seed, jnp.float64), []
    compiled = jax.jit(step)
    for row in order.numpy():
        state, loss = compiled(state, inputs[row], classes[row])
        losses.append(float(loss))
    return losses


def prepare(cell: Cell, replicas: int) -> Callable[[int], None]:
    """Return a function that trains `replicas` networks together for some steps."""
    inputs, classes = (jnp.asarray(tensor.numpy()) for tensor in data())
    states = [_state(cell, seed, jnp.float32) for seed in range(replicas)]
    state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

    def many(state: Any, rows: Any) -> Any:
        return jax.vmap(lambda replica, row: step(replica, inputs[row], classes[row]))(state, rows)

    compiled = jax.jit(many, donate_argnums=0)
    holder = [state]
    random = np.random.default_rng(0)

    def go(count: int) -> None:
        loss = None
        for _ in range(count):
            rows = random.integers(0, len(classes), (replicas, BATCH))
            holder[0], loss = compiled(holder[0], rows)
        jax.block_until_ready(loss)

    return go


def _predicted(h: Any, layer: Any) -> Any:
    weight, bias, gamma, beta, mean, var = layer
    h = (h @ weight.T + bias - mean) * (gamma * jax.lax.rsqrt(var + 1e-5)) + beta
    return jax.nn.relu(h), None


def _sums(values: dict[str, Any], inputs: Any, labels: Any) -> Any:
    """Summed loss and correct predictions of one network on a batch."""
    names = (*LAYER, *STATISTICS)
    h, _ = _predicted(inputs, [values[f"input.{name}"] for name in names])
    h, _ = jax.lax.scan(_predicted, h, [values[f"hidden.{name}"] for name in names])
    logits = h @ values["output.weight"].T + values["output.bias"]
    loss = -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).sum()
    return jnp.stack([loss, (logits.argmax(1) == labels).sum().astype(loss.dtype)])


def _evaluation(cell: Cell, replicas: int, dtype: torch.dtype) -> Callable[[], Any]:
    """Return a function that computes losses and accuracies of fathomlab's trained pack, (k, 2)."""
    double = dtype == torch.float64
    training = fathomlab_pack.trained(cell, replicas, "fp64" if double else "fp32")
    pairs = [fathomlab_pack.weights(training, slot) for slot in range(replicas)]
    form = jnp.float64 if double else jnp.float32
    trees = [stacked(params | buffers, cell.depth, (*LAYER, *STATISTICS), form) for params, buffers in pairs]
    values = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    inputs, labels = (jnp.asarray(tensor.numpy()) for tensor in data(dtype, EVALUATED))
    batches = [slice(start, start + EVALUATION_BATCH) for start in range(0, EVALUATED, EVALUATION_BATCH)]
    compiled = jax.jit(jax.vmap(_sums, in_axes=(0, None, None)))
    pieces = [(inputs[rows], labels[rows]) for rows in batches]

    def evaluate() -> Any:
        total = sum(compiled(values, *piece) for piece in pieces)
        return jax.block_until_ready(total) / EVALUATED

    return evaluate


def metrics(cell: Cell, seed: int) -> list[float]:
    """Loss and accuracy of the network of `seed` in fathomlab's trained pack, in float64."""
    jax.config.update("jax_enable_x64", True)
    return [float(number) for number in _evaluation(cell, seed + 1, torch.float64)()[seed]]


def prepare_evaluation(cell: Cell, replicas: int) -> Callable[[int], None]:
    """Return a function that evaluates `replicas` networks some times."""
    evaluate = _evaluation(cell, replicas, torch.float32)

    def go(count: int) -> None:
        for _ in range(count):
            evaluate()

    return go
