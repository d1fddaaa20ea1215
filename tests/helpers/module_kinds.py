"""Kinds of users' modules: bodies of a class `Net` for images of 1 x 4 x 4 and three classes."""

from pathlib import Path
from textwrap import dedent
from typing import Any

from fathomlab.config.components import Components, with_plugins
from fathomlab.config.plugins import make_plugin

SHAPE = (1, 4, 4)
HEAD = """
    import random
    import numpy as np
    import torch
    import torch.nn.functional as F
    from torch import nn
    from torch.nn.utils import parametrizations
    from torch.utils.checkpoint import checkpoint

    class Base(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(16, 5), nn.Linear(5, 3)

        def forward(self, images):
            return self.head(self.middle(self.first(images.flatten(1))))
"""
PACKED = {
    "plain": "def middle(self, h): return F.relu(h)",
    "batch norm": """
        def build(self): self.norm = nn.BatchNorm1d(5)
        def middle(self, h): return F.relu(self.norm(h))
    """,
    "group and layer norm": """
        def build(self): self.group, self.layer = nn.GroupNorm(1, 5), nn.LayerNorm(5)
        def middle(self, h): return self.layer(F.relu(self.group(h)))
    """,
    "tied weights": """
        def build(self):
            self.inner, self.other = nn.Linear(5, 5), nn.Linear(5, 5)
            self.other.weight = self.inner.weight
        def middle(self, h): return self.other(torch.tanh(self.inner(h)))
    """,
    "shared module": """
        def build(self): self.inner = self.again = nn.Linear(5, 5)
        def middle(self, h): return self.again(torch.tanh(self.inner(h)))
    """,
    "frozen parameter": """
        def build(self): self.inner = nn.Linear(5, 5).requires_grad_(False)
        def middle(self, h): return torch.tanh(self.inner(h))
    """,
    "lazy layers": """
        def build(self): self.inner, self.norm = nn.LazyLinear(6), nn.LazyBatchNorm1d(); self.head = nn.LazyLinear(3)
        def middle(self, h): return torch.tanh(self.norm(self.inner(h)))
    """,
    "depends on the mode": "def middle(self, h): return F.relu(h) if self.training else F.relu(h) * 0.5",
    "buffers": """
        def build(self):
            self.register_buffer("mean", torch.zeros(5, dtype=torch.float64))
            self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
            self.register_buffer("phase", torch.ones(5, dtype=torch.complex64), persistent=False)
            self.register_buffer("nothing", None)
        def middle(self, h):
            if self.training:
                self.calls += 1
                self.mean = 0.9 * self.mean + 0.1 * h.detach().mean(0)
                self.phase = self.phase * 1j
            return torch.tanh(h - self.mean) * self.phase.real
    """,
    "float64 parameters": """
        def build(self): self.double()
        def middle(self, h): return F.relu(h)
    """,
    "lock and hooks": """
        def build(self):
            import threading
            self.lock, self.seen = threading.Lock(), []
            self.first.register_forward_hook(lambda module, inputs, output: torch.tanh(output))
        def middle(self, h):
            with self.lock: return h + 1
    """,
    "stores its last activation": """
        def middle(self, h):
            self.last = F.relu(h)
            return self.last
    """,
    "kernels": """
        def build(self): self.kernel = nn.Conv2d(1, 1, 3, padding=1)
        def forward(self, images): return super().forward(self.kernel(images))
        def middle(self, h): return F.relu(h)
    """,
    "compiled": """
        def build(self): self.inner = torch.compile(nn.Linear(5, 5), backend="eager")
        def middle(self, h): return torch.tanh(self.inner(h))
    """,
    "changes features in place": """
        def middle(self, h):
            h = h * 2
            h += 1
            return F.relu(h, inplace=True)
    """,
}
ALONE = {
    "changes its input": """
        def forward(self, images):
            images.add_(1).mul_(0.5)
            return super().forward(images)
        def middle(self, h): return F.relu(h)
    """,
    "dropout": "def middle(self, h): return F.dropout(F.relu(h), 0.4, self.training)",
    "numpy numbers": "def middle(self, h): return h * float(np.random.rand())",
    "python numbers": "def middle(self, h): return h if random.random() < 0.5 else F.relu(h)",
    "data-dependent branch": "def middle(self, h): return F.relu(h) if h.mean() > 0 else torch.tanh(h)",
    "spectral norm": """
        def build(self): self.inner = parametrizations.spectral_norm(nn.Linear(5, 5))
        def middle(self, h): return torch.tanh(self.inner(h))
    """,
    "weight norm": """
        def build(self): self.inner = parametrizations.weight_norm(nn.Linear(5, 5))
        def middle(self, h): return torch.tanh(self.inner(h))
    """,
    "batch norm with cumulative statistics": """
        def build(self): self.norm = nn.BatchNorm1d(5, momentum=None)
        def middle(self, h): return F.relu(self.norm(h))
    """,
    "old spectral norm": """
        def build(self):
            self.inner = torch.nn.utils.spectral_norm(nn.Linear(5, 5))
        def middle(self, h): return torch.tanh(self.inner(h))
    """,
    "own function": """
        class Double(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x): return 2 * x
            @staticmethod
            def backward(ctx, grad): return 3 * grad
        def middle(self, h): return self.Double.apply(h)
    """,
    "checkpoint": """
        def build(self): self.inner = nn.Linear(5, 5)
        def middle(self, h): return checkpoint(lambda x: F.relu(self.inner(x)), h, use_reentrant=False)
    """,
    "lstm": """
        def build(self): self.inner = nn.LSTM(5, 5, batch_first=True)
        def middle(self, h): return self.inner(h.unsqueeze(1).expand(-1, 3, -1))[0][:, -1]
    """,
    "harmless counter and clipping": """
        def build(self): self.calls = 0
        def middle(self, h):
            self.calls += 1
            if self.training:
                self.first.weight.data.clamp_(-0.1, 0.1)
            return F.relu(h)
    """,
    "transformer": """
        def build(self): self.inner = nn.TransformerEncoderLayer(5, 1, 8, dropout=0.0, batch_first=True)
        def middle(self, h): return self.inner(h.unsqueeze(1) * torch.linspace(0, 1, 3, dtype=h.dtype)[:, None]).mean(1)
    """,
}
REFUSED = {
    "parameter made in forward": """
        def middle(self, h):
            if not hasattr(self, "inner"): self.inner = nn.Linear(5, 5)
            return self.inner(h)
    """,
    "state in an attribute": """
        def build(self): self.calls = 0
        def middle(self, h):
            self.calls += 1
            return h * self.calls
    """,
    "numbers of its own generator": """
        def build(self): self.generator = torch.Generator().manual_seed(0)
        def middle(self, h): return h + torch.rand(5, generator=self.generator)
    """,
    "random attribute": """
        def build(self): self.scale = torch.randn(5)
        def middle(self, h): return h * self.scale
    """,
    "copy of a parameter": """
        def build(self):
            self.inner = nn.Linear(5, 5)
            self.weights = list(self.inner.parameters())
        def middle(self, h): return F.linear(h, *self.weights) + 0 * self.inner(h)
    """,
    "complex parameter": """
        def build(self): self.phase = nn.Parameter(torch.ones(5, dtype=torch.complex64))
        def middle(self, h): return (h * self.phase).real
    """,
    "sparse buffer": """
        def build(self): self.register_buffer("graph", torch.eye(5).to_sparse())
        def middle(self, h): return (self.graph @ h.T).T
    """,
    "unused parameter": """
        def build(self): self.inner = nn.Linear(5, 5)
        def middle(self, h): return h
    """,
    "reentrant checkpoint": """
        def build(self): self.inner = nn.Linear(5, 5)
        def middle(self, h): return checkpoint(self.inner, h, use_reentrant=True)
    """,
    "fails in eval mode": """
        def middle(self, h):
            if not self.training: raise RuntimeError("no evaluation")
            return h
    """,
}


def source(body: str) -> str:
    """The source of a module of this kind, in which `build` belongs to `__init__`."""
    text = dedent(body).strip()
    net = ["class Net(Base):", "    def __init__(self):", "        super().__init__()", "        self.build()", ""]
    net += ["    def build(self):", "        pass", "", *(f"    {line}" for line in text.splitlines())]
    return dedent(HEAD) + "\n\n" + "\n".join(net) + "\n"


def components_of(body: str) -> Components:
    """The components of a plugin with a module of this kind."""
    return with_plugins([make_plugin("kinds.py", source(body), Path())])


def architecture(body: str) -> Any:
    """The architecture of a module of this kind."""
    return components_of(body).models.make("Net", {}, "", []).build(SHAPE)
