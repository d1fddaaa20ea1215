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


def huber(difference: float) -> float:
    """Park et al., 2019, equation 5."""
    return difference**2 / 2 if abs(difference) <= 1 else abs(difference) - 0.5


def rkd(student: Array, teacher: Array) -> tuple[float, float]:
    """Park et al., 2019, equations 6 and 8, for features (n, d): means over all pairs and all triples."""
    examples = range(len(student))
    distances = [np.array([[np.linalg.norm(a - b) for a in rows] for b in rows]) for rows in (student, teacher)]
    scaled = [matrix / matrix[matrix > 0].mean() for matrix in distances]

    def cosine(rows: Array, i: int, j: int, k: int) -> float:
        first, second = rows[i] - rows[j], rows[k] - rows[j]
        product = np.linalg.norm(first) * np.linalg.norm(second)
        return float(first @ second / product) if product > 0 else 0.0

    pairs = [huber(scaled[0][i, j] - scaled[1][i, j]) for i in examples for j in examples]
    triples = [(i, j, k) for i in examples for j in examples for k in examples]
    angles = [huber(cosine(student, *each) - cosine(teacher, *each)) for each in triples]
    return float(np.mean(pairs)), float(np.mean(angles))


def fitnet(student: Array, teacher: Array, weight: Array, bias: Array) -> float:
    """Romero et al., 2015, equation 3, for maps (c, h, w): the mean squared difference after a 1x1 convolution."""
    mapped = np.array(
        [[weight @ student[:, i, j] + bias for j in range(student.shape[2])] for i in range(student.shape[1])]
    )
    return float(((np.moveaxis(mapped, -1, 0) - teacher) ** 2).mean())


def attention(student: Array, teacher: Array) -> float:
    """Zagoruyko and Komodakis, 2017, for maps (c, h, w): the mean squared difference of normalized sums of squares."""
    first, second = (values / np.linalg.norm(values) for values in ((maps**2).sum(0) for maps in (student, teacher)))
    return float(((first - second) ** 2).mean())
