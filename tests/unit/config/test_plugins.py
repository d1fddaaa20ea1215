"""Plugins: reading, digests, local modules, errors, and the components that they define."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from fathomlab.base.errors import Issue, UserError
from fathomlab.config.components import Components, with_plugins
from fathomlab.config.plugins import Plugin, load_module, plugin_of, read_plugin
from fathomlab.losses.function import loss_issues
from fathomlab.plan.hints import torch_name_problem
from fathomlab.probes.columns import Column

MODEL = """
    import torch
    from torch import nn
    from typing import Annotated, Literal
    from annotated_types import Interval

    class Net(nn.Module):
        '''A small network.'''

        def __init__(self, width: Annotated[int, Interval(ge=1)] = 4, kind: Literal["a", "b"] = "a", rate: float = 1):
            super().__init__()
            self.layer = nn.Linear(784, 10)

        def forward(self, images):
            return self.layer(images.flatten(1))
"""
LOSS = """
    import torch.nn.functional as F

    def focal(logits, labels, *, gamma: float = 2.0):
        cross_entropy = F.cross_entropy(logits, labels, reduction="none")
        return (1 - (-cross_entropy).exp()) ** gamma * cross_entropy

    def helper(x, y):
        return x
"""


def write(folder: Path, text: str, name: str = "parts.py") -> Path:
    """Write a file below a folder."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text), encoding="utf-8")
    return path


def components(folder: Path, text: str) -> Components:
    """The components of a plugin with this text."""
    return with_plugins([read_plugin(write(folder, text))])


def problems_of(table: Components, name: str, options: dict[str, object]) -> list[tuple[str, str]]:
    """Codes and keys of the problems of a model's options."""
    problems: list[Issue] = []
    table.models.make(name, options, "model.params", problems)
    return [(problem.code, problem.path) for problem in problems]


def test_plugin_digest_is_that_of_its_file(tmp_path: Path):
    path = write(tmp_path, "x = 1\r\n# ä\n")
    plugin = read_plugin(path)
    assert plugin.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (plugin.name, plugin.modules) == ("parts.py", ())


def test_plugin_digest_covers_local_modules(tmp_path: Path):
    path = write(tmp_path, "from blocks import inner\nimport json\n")
    write(tmp_path, "from . import inner\n", "blocks/__init__.py")
    write(tmp_path, "from .deep import value\n", "blocks/inner.py")
    write(tmp_path, "value = 1\n", "blocks/deep.py")
    write(tmp_path, "raise RuntimeError\n", "unrelated.py")
    write(tmp_path, "raise RuntimeError\n", "json.py")
    first = read_plugin(path)
    assert [module.name for module in first.modules] == ["blocks", "blocks.deep", "blocks.inner"]
    assert load_module(first).inner.value == 1
    write(tmp_path, "value = 2\n", "blocks/deep.py")
    second = read_plugin(path)
    assert second.sha256 != first.sha256
    assert load_module(second).inner.value == 2
    assert load_module(first).inner.value == 1


def test_installed_modules_win_over_local_ones(tmp_path: Path):
    write(tmp_path, "raise RuntimeError\n", "numpy.py")
    plugin = read_plugin(write(tmp_path, "import numpy\n"))
    assert plugin.modules == ()
    assert load_module(plugin).numpy.__version__


def test_local_modules_are_loaded_from_the_plugin_not_the_disk(tmp_path: Path):
    path = write(tmp_path, "def late():\n    import lazy_part\n    return lazy_part.value\n")
    local = write(tmp_path, "value = 'carried'\n", "lazy_part.py")
    plugin = read_plugin(path)
    local.unlink()
    path.unlink()
    assert load_module(plugin).late() == "carried"


def test_plugin_runs_once_per_content(tmp_path: Path):
    log = tmp_path / "log"
    path = write(tmp_path, f"with open({str(log)!r}, 'a') as file:\n    file.write('x')\n")
    assert load_module(read_plugin(path)) is load_module(read_plugin(path))
    assert log.read_text() == "x"


def test_plugin_prints_to_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    load_module(read_plugin(write(tmp_path, "print('loading')\n")))
    assert capsys.readouterr() == ("", "loading\n")


def test_plugin_rejects_another_digest(tmp_path: Path):
    plugin = read_plugin(write(tmp_path, "x = 5\n"))
    with pytest.raises(UserError) as raised:
        load_module(Plugin(plugin.name, "0" * 64, plugin.source))
    assert raised.value.code == "plugin-changed"


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("x = 1\nx = = 2\n", "parts.py:2: SyntaxError"),
        ("x = 1\n\nimport no_such_module_here\n", "parts.py:3: ModuleNotFoundError"),
        ("def f():\n    return 1 / 0\nf()\n", "parts.py:2: ZeroDivisionError"),
        ("import sys\nsys.exit(3)\n", "parts.py:2: SystemExit"),
        ("raise BaseException('x')\n", "parts.py:1: BaseException"),
        ("x = '\0'\n", f"parts.py: {'SyntaxError' if sys.version_info >= (3, 11, 4) else 'ValueError'}"),
    ],
)
def test_plugin_error_names_file_and_line(tmp_path: Path, text: str, location: str):
    with pytest.raises(UserError) as raised:
        load_module(read_plugin(write(tmp_path, text)))
    assert raised.value.code == "plugin-error"
    assert str(raised.value).startswith(location)


def test_error_in_a_local_module_names_that_module(tmp_path: Path):
    write(tmp_path, "\nvalue = missing\n", "faulty_part.py")
    with pytest.raises(UserError) as raised:
        load_module(read_plugin(write(tmp_path, "import faulty_part\n")))
    assert str(raised.value).startswith("faulty_part.py:2: NameError")


@pytest.mark.parametrize("name", ["absent.py", ".", "\0", "/dev/zero"])
def test_unreadable_plugin_is_reported(tmp_path: Path, name: str):
    with pytest.raises(UserError) as raised:
        read_plugin(tmp_path / name)
    assert raised.value.code == "unreadable-file"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_plugin_that_is_a_pipe_is_reported(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.py")
    with pytest.raises(UserError) as raised:
        read_plugin(tmp_path / "pipe.py")
    assert raised.value.code == "unreadable-file"


def test_module_options_are_checked_like_component_options(tmp_path: Path):
    table = components(tmp_path, MODEL)
    model = table.models.make("Net", {"width": 2}, "", [])
    assert (model.width, model.kind, model.rate) == (2, "a", 1.0)
    assert isinstance(model.rate, float)
    assert problems_of(table, "Net", {"wdth": 2}) == [("unknown-key", "model.params.wdth")]
    assert problems_of(table, "Net", {"width": 0}) == [("out-of-range", "model.params.width")]
    assert problems_of(table, "Net", {"kind": "c"}) == [("unknown-name", "model.params.kind")]
    assert plugin_of(model) == read_plugin(tmp_path / "parts.py")
    assert (table.models["Net"].depth_key, table.models["Net"].width_key) == ("", "width")


def test_loss_function_options_are_its_keywords(tmp_path: Path):
    table = components(tmp_path, LOSS)
    loss = table.losses.make("focal", {}, "", [])
    assert loss.gamma == 2.0
    assert loss.needs == frozenset()
    assert "helper" not in table.losses


@pytest.mark.parametrize("parameters", ["scores, labels", "labels", "logits, labels, gamma: float = 1", ""])
def test_unusable_function_is_reported_when_it_is_named(tmp_path: Path, parameters: str):
    table = components(tmp_path, f"def margin({parameters}):\n    return logits\n")
    assert "margin" not in table.losses
    reason = table.unsupported(table.losses, "margin")
    assert reason.startswith("parts.py:1: margin")
    assert "logits" in reason


def test_class_without_a_base_is_reported_when_it_is_named(tmp_path: Path):
    table = components(tmp_path, MODEL.replace("class Net(nn.Module)", "class Net"))
    assert table.unsupported(table.models, "Net").startswith("parts.py:10: Net")
    assert "nn.Module" in table.unsupported(table.models, "Net")
    assert "Net" not in table.unsupported(table.models, "net").split("Supported")[1]


def test_dataset_without_its_annotation_is_reported_when_it_is_named(tmp_path: Path):
    table = components(tmp_path, "def bars(size: int = 8):\n    return size\n")
    assert "fathomlab.Arrays" in table.unsupported(table.datasets, "bars")


def test_loss_of_another_shape_names_its_line_once(tmp_path: Path):
    table = components(tmp_path, LOSS.replace(', reduction="none"', ""))
    (problem,) = loss_issues(table.losses.make("focal", {}, "", []), 10)
    assert problem.message.startswith("parts.py:4: focal must return")
    assert problem.message.count("focal") == 1


def test_criterion_that_is_a_loss_names_the_key_of_losses(tmp_path: Path):
    table = components(tmp_path, LOSS)
    assert "training.loss: {type: focal}" in torch_name_problem("criterion", "focal", table)


def test_name_of_another_kind_is_reported(tmp_path: Path):
    """A torch module is a model, even if it computes a loss."""
    table = components(tmp_path, MODEL + LOSS)
    assert table.unsupported(table.losses, "Net").endswith("Net is a model.")
    assert table.unsupported(table.models, "focal").endswith("focal is a loss.")
    assert table.unsupported(table.losses, "focal") == ""


def test_loss_function_with_teacher_logits_needs_a_teacher(tmp_path: Path):
    table = components(
        tmp_path, "def match(logits, teacher_logits):\n    return (logits - teacher_logits).square().mean(1)\n"
    )
    assert table.losses["match"].needs == frozenset({"teacher.logits"})


def test_frozen_dataclass_with_terms_is_a_loss(tmp_path: Path):
    table = components(
        tmp_path,
        """
        from dataclasses import dataclass

        @dataclass(frozen=True)
        class Scaled:
            factor: float = 2.0

            def terms(self, signals):
                return {"scaled": self.factor * signals.logits.sum(2)}

        @dataclass
        class Thawed:
            def terms(self, signals):
                return {}
        """,
    )
    assert table.losses.make("Scaled", {"factor": 1}, "", []).factor == 1.0
    assert "frozen" in table.unsupported(table.losses, "Thawed")


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("needs: float = 2.0", "reserved"),
        ("min_classes: int = 20", "reserved"),
        ("parameters: float = 1.0", "reserved"),
        ("needs = 'features'", "needs"),
        ("needs = ['features', 'teacher.feature']", "teacher.feature"),
        ("min_classes = '3'", "min_classes"),
        ("needs = ['features']", ""),
    ],
)
def test_attributes_of_a_loss_class_are_checked(tmp_path: Path, body: str, word: str):
    terms = "def terms(self, signals):\n        return {}"
    text = f"from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Mine:\n    {body}\n    {terms}"
    table = components(tmp_path, text)
    assert word in table.unsupported(table.losses, "Mine")
    assert bool(word) == bool(table.unsupported(table.losses, "Mine"))


def test_only_public_objects_of_the_plugin_count(tmp_path: Path):
    write(tmp_path, MODEL, "other_parts.py")
    table = components(tmp_path, "from other_parts import Net\nfrom torch.nn import Linear\n")
    assert list(table.models) == list(Components().models)
    hidden = components(tmp_path, MODEL.replace("class Net", "class _Net"))
    assert list(hidden.models) == list(Components().models)


@pytest.mark.parametrize(
    ("signature", "word"),
    [
        ("self, width", "width"),
        ("self, width: list[int] = [1]", "width"),
        ("self, width: int = 'x'", "width"),
        ("self, build: int = 1", "build"),
        ("self, width: 'Missing' = 1", "Missing"),
    ],
)
def test_unusable_module_is_reported_if_it_is_used(tmp_path: Path, signature: str, word: str):
    text = (
        f"from torch import nn\n\nclass Block(nn.Module):\n    def __init__({signature}):\n        super().__init__()\n"
    )
    table = components(tmp_path, text)
    reason = table.unsupported(table.models, "Block")
    assert reason.startswith("parts.py:4: Block")
    assert word in reason


def test_plugin_rejects_names_of_built_in_components(tmp_path: Path):
    with pytest.raises(UserError) as raised:
        components(tmp_path, MODEL.replace("class Net", "class MLP"))
    assert raised.value.code == "duplicate-name"


def test_plugins_with_different_modules_are_rejected(tmp_path: Path):
    plugins = []
    for name in ("a", "b"):
        write(tmp_path / name, f"value = {name!r}\n", "shared_part.py")
        plugins.append(read_plugin(write(tmp_path / name, "import shared_part\n", f"{name}.py")))
    with pytest.raises(UserError) as raised:
        with_plugins(plugins)
    assert raised.value.code == "duplicate-name"


def test_plugin_without_torch_does_not_load_it(tmp_path: Path):
    path = write(tmp_path, "def loss(logits, labels):\n    return logits[:, 0]\n")
    code = (
        "import sys; from pathlib import Path; from fathomlab.config.components import with_plugins\n"
        "from fathomlab.config.plugins import read_plugin\n"
        "assert 'loss' in with_plugins([read_plugin(Path(sys.argv[1]))]).losses\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 0


@pytest.mark.parametrize("wrong", [{"axis": "layers"}, {"axis": "layer", "figure": "profil"}])
def test_column_rejects_unknown_axes_and_figures(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Did you mean"):
        Column(**wrong)
