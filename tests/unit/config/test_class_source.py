"""Classes passed as objects: their source, what it contains, and why some classes are refused."""

import linecache
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest
import torch

import fathomlab
from fathomlab.base.errors import ConfigError, UserError
from fathomlab.config.class_source import class_plugin
from fathomlab.config.plugins import Plugin, load_module

Run = Callable[..., dict[str, Any]]
CONF: dict[str, Any] = {"data": {"name": "mnist-sample", "limit": 200}, "training": {"epochs": 1}}
IMPORTS = "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n"
NET = """
    class Net(nn.Module):
        def __init__(self, width: int = 4):
            super().__init__()
            self.head = nn.Linear(784, 10)

        def forward(self, images):
            return self.head(images.flatten(1))
"""


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs a cell as a notebook does, and returns the names that the notebook defines."""
    module, files = ModuleType("notebook_of_a_test"), list[str]()
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def run(cell: str) -> dict[str, Any]:
        text = dedent(cell)
        file = f"/tmp/ipykernel_1/{abs(hash(text))}.py"
        files.append(file)
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
        exec(compile(text, file, "exec", dont_inherit=True), module.__dict__)
        return module.__dict__

    run(IMPORTS)
    yield run
    for file in files:
        linecache.cache.pop(file, None)


def made(module_class: Any) -> ModuleType:
    """The module of a class's plugin, and a check that its class computes the same."""
    module = load_module(class_plugin(module_class))
    torch.manual_seed(0)
    first = module_class()(torch.ones(2, 1, 28, 28))
    torch.manual_seed(0)
    assert torch.equal(first, vars(module)[module_class.__name__]()(torch.ones(2, 1, 28, 28)))
    return module


NEEDS = """
    import math
    from dataclasses import dataclass
    from typing import Literal
    from torch.nn import Linear as Dense
    from torch import float32

    WIDTH, SCALES, NAME = 4, {"a": (1.0, float("inf")), "b": [None, True]}, "x"
    model = object()

    def scale(x):
        return x * SCALES["a"][0] / math.sqrt(shift(1))

    def shift(x):
        return x + len(NAME)

    def marked(cls):
        cls.mark = shift(2)
        return cls

    @dataclass(frozen=True)
    class Options:
        size: int = WIDTH

    class Base(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = Dense(784, 10)

    Parent = Base

    @marked
    class Net(Parent):
        text = '''a
    b'''

        def __init__(self, size: int = Options().size, kind: Literal["model", "b"] = "b"):
            super().__init__()
            self.size = size

        # a comment
        def forward(self, images: "torch.Tensor") -> "Missing":
            images = torch.utils.checkpoint.checkpoint(F.relu, images.to(float32), use_reentrant=False)
            return scale(self.head(images.flatten(1))) + self.size + Net.mark
"""


def test_source_contains_what_the_class_needs(notebook: Run):
    names = notebook(NEEDS)
    module = made(names["Net"])
    assert vars(module)["Net"].text == "a\nb"
    assert vars(module)["SCALES"] == names["SCALES"]
    assert not {"model", "Missing"} & vars(module).keys()
    source = class_plugin(names["Net"]).source
    assert "import torch.utils.checkpoint\n" in source
    assert "        # a comment\n" in source or "    # a comment\n" in source


def test_identity_depends_on_what_the_class_needs_only(notebook: Run):
    first = class_plugin(notebook(NEEDS)["Net"])
    moved = class_plugin(notebook("# another comment\nunused = 1\n" + dedent(NEEDS))["Net"])
    assert first == moved
    assert first.name == "Net.py"
    assert class_plugin(notebook(dedent(NEEDS).replace("x + len", "x - len"))["Net"]) != first
    assert class_plugin(notebook(dedent(NEEDS).replace("WIDTH, S", "WIDTH, S").replace("= 4,", "= 5,"))["Net"]) != first


def test_newest_definitions_of_a_notebook_count(notebook: Run):
    notebook("def scale(x):\n    return x\n")
    text = dedent(NET).replace("self.head(images.flatten(1))", "scale(self.head(images.flatten(1)))")
    net = notebook(text)["Net"]
    before = class_plugin(net)
    notebook("def scale(x):\n    return 2 * x\n")
    assert "2 * x" in class_plugin(net).source
    assert class_plugin(net) != before
    newer = notebook(text.replace("784, 10", "784, 10, False"))["Net"]
    assert "784, 10, False" in class_plugin(newer).source
    assert "784, 10)" in class_plugin(net).source


def test_definitions_that_need_each_other_are_ordered(notebook: Run):
    names = notebook("""
        class Alpha(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = Zeta.__base__ is Alpha and nn.Linear(784, 10)

            def forward(self, images):
                return self.inner(images.flatten(1))

        class Zeta(Alpha):
            pass
    """)
    made(names["Alpha"])
    made(names["Zeta"])


def test_class_of_a_file_keeps_its_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Local modules are carried, relative imports are made absolute, and an edited file is refused."""
    package = tmp_path / "own_nets_of_a_test"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "parts.py").write_text("def scale(x):\n    return 2 * x\n")
    text = "from __future__ import annotations\nfrom .parts import scale\n" + IMPORTS + dedent(NET)
    (package / "nets.py").write_text(
        text.replace("return self.head", "return scale(self.head").replace("(1))", "(1)))")
    )
    monkeypatch.syspath_prepend(tmp_path)
    from importlib import import_module

    net = import_module("own_nets_of_a_test.nets").Net
    plugin = class_plugin(net)
    assert [each.file for each in plugin.modules] == ["own_nets_of_a_test/__init__.py", "own_nets_of_a_test/parts.py"]
    assert "from __future__ import annotations\n" in plugin.source
    assert "from own_nets_of_a_test.parts import scale\n" in plugin.source
    (package / "nets.py").write_text((package / "nets.py").read_text().replace("flatten(1)", "flatten(1).relu()"))
    assert refusal(net) == "no-source"


def refusal(module_class: Any) -> str:
    """The code of the error of a class."""
    with pytest.raises(UserError) as raised:
        class_plugin(module_class)
    return raised.value.code


REFUSED = {
    "lambda": ("act = lambda x: x\n", "act(self.head(images.flatten(1)))", "act"),
    "object": ("act = nn.ReLU()\n", "act(self.head(images.flatten(1)))", "act"),
    "tensor": ("shift = torch.zeros(10)\n", "self.head(images.flatten(1)) + shift", "shift"),
    "undefined": ("", "later(images)", "later"),
    "list of objects": ("acts = [torch.relu, 1]\n", "acts[0](images)", "acts"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_stored_is_named(notebook: Run, case: str):
    cell, expression, name = REFUSED[case]
    notebook(cell)
    net = notebook(dedent(NET).replace("self.head(images.flatten(1))", expression))["Net"]
    with pytest.raises(UserError) as raised:
        class_plugin(net)
    assert raised.value.code == "no-source"
    assert f" uses {name}, " in str(raised.value)
    assert "plugins" in str(raised.value)


def test_classes_without_source_are_refused(notebook: Run):
    exec(dedent(NET), names := {"nn": torch.nn, "__name__": "nowhere"})
    assert refusal(names["Net"]) == "no-source"

    class Local(torch.nn.Linear):
        def forward(self, images: Any) -> Any:
            return images

    assert refusal(Local) == "no-source"
    net = notebook(NET)["Net"]
    net.forward = notebook("def forward(self, images):\n    return images\n")["forward"]
    assert refusal(net) == "no-source"
    assert refusal(notebook("class _Net(nn.Linear):\n    pass\n")["_Net"]) == "no-source"
    notebook("class Empty(nn.Linear):\n    pass\n")
    assert refusal(notebook("class Empty(nn.Identity):\n    pass\n")["Empty"]) == "no-source"  # two texts, no method


@pytest.mark.parametrize(
    "value", [torch.nn.Identity(), lambda: 1, "Net", 3, int], ids=lambda value: type(value).__name__
)
def test_only_module_classes_are_models(value: Any):
    with pytest.raises(UserError) as raised:
        fathomlab.load(CONF, model=value)
    assert raised.value.code == "wrong-type"


def test_class_is_the_model_of_an_experiment(notebook: Run):
    net = notebook(NET)["Net"]
    (trial,) = fathomlab.load(CONF, model=net).trials
    assert trial.content["model"] == {"type": "Net", "params": {"width": 4}}
    assert trial.content["plugins"] == {"Net.py": class_plugin(net).sha256}
    assert [each.hash for each in fathomlab.load({**CONF, "model": {"type": "Net"}}, model=[net]).trials] == [
        trial.hash
    ]
    (wide,) = fathomlab.load({**CONF, "model": {"params": {"width": 5}}}, model=net).trials
    assert wide.content["model"]["params"] == {"width": 5}
    (other,) = fathomlab.load(CONF, "model.params.width=6", model=net).trials
    assert other.content["model"]["params"] == {"width": 6}


def test_several_classes_share_what_they_need(notebook: Run):
    first = notebook(NET)["Net"]
    second = notebook(
        "class Deep(Net):\n    def forward(self, images):\n        return super().forward(images).relu()\n"
    )["Deep"]
    levels = {"experiment": {"factors": {"model.type": ["Net", "Deep"]}}, "model": {"type": "Net"}}
    one, two = fathomlab.load({**CONF, **levels}, model=(first, second)).trials
    assert [list(trial.content["plugins"]) for trial in (one, two)] == [["Net.py"], ["Deep.py"]]
    assert one.hash == fathomlab.load(CONF, model=first).trials[0].hash


def test_unused_and_duplicate_classes_are_reported(notebook: Run):
    net = notebook(NET)["Net"]
    with pytest.raises(UserError) as raised:
        fathomlab.load({**CONF, "model": {"type": "MLP"}}, model=net)
    assert raised.value.code == "unused-model"
    with pytest.raises(ConfigError) as problems:
        fathomlab.load({**CONF, "model": {"type": "Net"}}, model=[net, net])
    assert [problem.code for problem in problems.value.problems] == ["duplicate-name"]


def test_error_shows_the_line_of_the_class(notebook: Run):
    net = notebook(dedent(NET).replace("images.flatten(1)", "images @ images.flatten(1)"))["Net"]
    with pytest.raises(ConfigError) as raised:
        fathomlab.load(CONF, model=net)
    (problem,) = raised.value.problems
    assert problem.code == "plugin-error"
    assert "(return self.head(images @ images.flatten(1)))" in problem.message


def test_plugin_of_a_class_is_a_plugin(notebook: Run):
    plugin = class_plugin(notebook(dedent(NET).replace("Net", "Again"))["Again"])
    assert isinstance(plugin, Plugin)
    again = class_plugin(vars(load_module(plugin))["Again"])  # the class of a plugin has a source, too
    assert again == plugin
