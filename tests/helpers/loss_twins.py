"""Losses of one replica in NumPy, example by example, written from the papers. They take logits and labels, and return the sum of
the terms of the teacher without their weights."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def softmax(z: Array, temperature: float = 1.0) -> Array:
    """Probabilities at a temperature."""
    powers = np.exp((z - z.max()) / temperature)
    return powers / powers.sum()


def kl(p: Array, q: Array) -> float:
    """sum p log(p / q)."""
    return float((p * np.log(p / q)).sum())


def centered(z: Array) -> Array:
    """Logits with mean 0."""
    return z - z.mean()


def logit_mse(student: Array, teacher: Array, labels: Array) -> Array:
    """Kim et al., 2021, equation 4, without the average over classes."""
    return np.array([((centered(s) - centered(t)) ** 2).sum() for s, t in zip(student, teacher, strict=True)])


def dkd(student: Array, teacher: Array, labels: Array, alpha: float, beta: float, temperature: float) -> Array:
    """Zhao et al., 2022, equation 7."""
    values = []
    for s, t, y in zip(student, teacher, labels, strict=True):
        p, q = softmax(t, temperature), softmax(s, temperature)
        target = kl(np.array([p[y], 1 - p[y]]), np.array([q[y], 1 - q[y]]))
        rest = kl(np.delete(p, y) / (1 - p[y]), np.delete(q, y) / (1 - q[y]))
        values.append(temperature**2 * (alpha * target + beta * rest))
    return np.array(values)


def dist(student: Array, teacher: Array, labels: Array, beta: float, gamma: float, temperature: float) -> Array:
    """Huang et al., 2022, equations 8 to 10: the mean over the batch."""
    p, q = (np.array([softmax(z, temperature) for z in logits]) for logits in (teacher, student))
    inter = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)])
    intra = np.mean([1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)])
    return np.array(temperature**2 * (beta * inter + gamma * intra))


def nkd(student: Array, teacher: Array, labels: Array, gamma: float, temperature: float) -> Array:
    """Yang et al., 2023, equation 9."""
    values = []
    for s, t, y in zip(student, teacher, labels, strict=True):
        target = -softmax(t)[y] * np.log(softmax(s)[y])
        p, q = softmax(np.delete(t, y), temperature), softmax(np.delete(s, y), temperature)
        values.append(target - gamma * temperature**2 * (p * np.log(q)).sum())
    return np.array(values)


def standardized(student: Array, teacher: Array, labels: Array, temperature: float) -> Array:
    """Sun et al., 2024, algorithm 1."""
    rows = (tuple((z - z.mean()) / z.std(ddof=1) for z in pair) for pair in zip(student, teacher, strict=True))
    return np.array([temperature**2 * kl(softmax(t, temperature), softmax(s, temperature)) for s, t in rows])


def ttm(student: Array, teacher: Array, labels: Array, gamma: float) -> Array:
    """Zheng and Yang, 2024: the divergence from the normalized powers."""
    pairs = ((softmax(t) ** gamma, softmax(s)) for s, t in zip(student, teacher, strict=True))
    return np.array([kl(p / p.sum(), q) for p, q in pairs])


def wttm(student: Array, teacher: Array, labels: Array, gamma: float) -> Array:
    """Zheng and Yang, 2024: the same, weighted by the sum of the powers."""
    sums = np.array([(softmax(t) ** gamma).sum() for t in teacher])
    return sums * ttm(student, teacher, labels, gamma)
