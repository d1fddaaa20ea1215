"""Quick experiments against plain loops and another commit: networks, costs, and targets. No timings."""

import subprocess
import sys

import pytest

from benchmarks import quick
from benchmarks.peers import plain_quick
from benchmarks.quick import NOW, SAME_FILES, Spent
from fathomlab import api


@pytest.mark.parametrize("name", quick.COMPARED)
def test_plain_loops_train_the_networks_of_the_experiment(name):
    """Parameters, epochs, and seeds of each condition."""
    expected = sorted(
        (trial.recipe.architecture.num_params, trial.recipe.epochs) for trial in api.load(name, quick=True).trials
    )
    conditions = [c for c in plain_quick.EXPERIMENTS[name] for _ in range(plain_quick.SEEDS)]
    networks = [plain_quick.network(condition) for condition in conditions]
    sizes = [sum(param.numel() for param in net.parameters()) for net in networks]
    assert sorted(zip(sizes, (condition.epochs for condition in conditions), strict=True)) == expected


def test_shortcuts_are_around_hidden_layers():
    """The first layer changes the width, so it has none."""
    condition = plain_quick.Condition(8, 3, batch_norm=False, residual=True, epochs=1)
    layers = list(plain_quick.network(condition))
    assert [isinstance(layer, plain_quick.Shortcut) for layer in layers] == [False, True, True, True, False]


def record(costs, against=""):
    return {"against": against, "accuracies": {}} | quick.summary(costs)


COSTS = {
    "1_1": [Spent(2.0, 1.0)],
    "1_1 in plain loops": [Spent(3.0, 4.0)],
    "1_2": [Spent(2.0, 2.0)],
    "1_2 in plain loops": [Spent(3.0, 1.0)],
    NOW: [Spent(5.0, 4.0)],
}


def test_cpu_time_decides_against_plain_loops():
    rows = [(target.reached, target.wall, target.met) for target in quick.targets(record(COSTS))]
    assert rows == [(4.0, 1.5, True), (0.5, 1.5, False)]


def test_other_commit_is_compared_with_the_same_files_if_they_can_be_read():
    costs = COSTS | {f"{NOW} of the commit": [Spent(20.0, 12.0)]}
    targets = quick.targets(record(costs, "abc"))[2:]
    assert [(target.reached, target.wall, target.wanted) for target in targets] == [(3.0, 4.0, 2.0)]
    targets = quick.targets(record(costs | {SAME_FILES: [Spent(10.0, 8.0)]}, "abc"))[2:]
    assert [target.reached for target in targets] == [3.0, 1.5]


def test_text_lists_commands_and_accuracies():
    lines = quick.text(record(COSTS) | {"accuracies": {"1_1": (0.5, 0.25)}})
    assert "| 1_1 in plain loops | 4.0 | 3.0 |" in lines
    assert any("50.0%" in line and "25.0%" in line for line in lines)


def test_spend_returns_output_and_accepts_unsupported_claims(tmp_path):
    """Status 1 is a finding, status 2 an error."""
    spent = quick.spend([[sys.executable, "-c", f"print({n}); raise SystemExit({n})"] for n in (0, 1)], tmp_path)
    assert spent.printed == ("0\n", "1\n")
    assert spent.cpu > 0
    for failing, message in (("raise SystemExit(2)", "status 2"), ("import no_such_module", "no_such_module")):
        with pytest.raises(SystemExit, match=message):
            quick.spend([[sys.executable, "-c", failing]], tmp_path)


def test_clone_of_a_commit_imports_its_package(tmp_path, monkeypatch):
    source = tmp_path / "source"
    (source / "src" / "fathomlab").mkdir(parents=True)
    (source / "src" / "fathomlab" / "__init__.py").write_text("")
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", *words], cwd=source, check=True)
    monkeypatch.setattr(quick, "ROOT", source)
    clone = quick.cloned("HEAD", tmp_path / "clone")
    assert (clone / "src" / "fathomlab" / "__init__.py").is_file()
    with pytest.raises(SystemExit, match="checkout"):
        quick.cloned("0123456", tmp_path / "other")
