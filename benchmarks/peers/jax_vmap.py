"""JAX: vmap over replicas, scan over the hidden layers, the whole step compiled, Adam written out."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.setting import BATCH, RATE, Cell, images, normalized
from fathomlab.engine.initializers import init_params


def parameters(cell: Cell, seed: int, dtype: Any) -> dict[str, Any]:
    """fathomlab's initial values of `seed`, the hidden layers stacked for scan."""
    values = {name: jnp.asarray(value.numpy(), dtype) for name, value in init_params(cell.architecture(), seed).items()}
    made = {name: values[name] for name in values if not name.startswith("hidden")}
    for part in ("weight", "bias", "norm.weight", "norm.bias"):
        made[f"hidden.{part}"] = jnp.stack([values[f"hidden.{place}.{part}"] for place in range(1, cell.depth + 1)])
    return made


def _layer(h: Any, weight: Any, bias: Any, gamma: Any, beta: Any) -> Any:
    h = h @ weight.T + bias
    mean = h.mean(0)
    var = ((h - mean) ** 2).mean(0)
    return jax.nn.relu((h - mean) * (gamma * jax.lax.rsqrt(var + 1e-5)) + beta), (mean, var)


def _loss(values: dict[str, Any], running: Any, inputs: Any, labels: Any) -> Any:
    h, first = _layer(
        inputs, values["input.weight"], values["input.bias"], values["input.norm.weight"], values["input.norm.bias"]
    )
    hidden = [values[f"hidden.{part}"] for part in ("weight", "bias", "norm.weight", "norm.bias")]
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
    values = parameters(cell, seed, dtype)
    zeros = jax.tree.map(jnp.zeros_like, values)
    running = [jnp.zeros((cell.depth + 1, cell.width), dtype), jnp.ones((cell.depth + 1, cell.width), dtype)]
    return values, zeros, zeros, running, jnp.zeros((), dtype)


def curve(cell: Cell, seed: int, order: torch.Tensor) -> list[float]:
    """Losses in float64 on the images of each row of `order`."""
    jax.config.update("jax_enable_x64", True)
    pixels, labels = (torch.from_numpy(array) for array in images())
    inputs, classes = normalized(pixels, torch.float64).numpy(), labels.numpy()
    state, losses = _state(cell, seed, jnp.float64), []
    compiled = jax.jit(step)
    for row in order.numpy():
        state, loss = compiled(state, inputs[row], classes[row])
        losses.append(float(loss))
    return losses


def prepare(cell: Cell, replicas: int) -> Callable[[int], None]:
    """A function that trains `replicas` networks at once for some steps."""
    pixels, labels = (torch.from_numpy(array) for array in images())
    inputs, classes = jnp.asarray(normalized(pixels).numpy()), jnp.asarray(labels.numpy())
    states = [_state(cell, seed, jnp.float32) for seed in range(replicas)]
    state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

    def many(state: Any, rows: Any) -> Any:
        return jax.vmap(lambda own, row: step(own, inputs[row], classes[row]))(state, rows)

    compiled = jax.jit(many, donate_argnums=0)
    holder = [state]
    random = np.random.default_rng(0)

    def go(count: int) -> None:
        loss = None
        for _ in range(count):
            rows = random.integers(0, len(labels), (replicas, BATCH))
            holder[0], loss = compiled(holder[0], rows)
        jax.block_until_ready(loss)

    return go
